import json
from datetime import timedelta
from typing import Any

import polars as pl
import pytest

from shared.models.prediction import PREDICTION_COLUMNS
from shared.runs.predictions import SCHEMA
from tests.fixtures.audit import Stream, deliver, watch_table
from tests.fixtures.aws import BUCKET
from tests.fixtures.clocks import MovableClock
from tests.functional.predictions.conftest import PartSize, Runs, csv, parquet, table


def probabilities(predictions: list[dict[str, Any]]) -> list[float]:
    return [each["probability"] for each in predictions]


@pytest.mark.row("BD-1", "X-1")
@pytest.mark.parametrize("write", [csv, parquet])
def test_each_row_of_a_file_gets_the_score_of_a_request_to_the_last_digit(
    runs: Runs, part_size: PartSize, write: Any
) -> None:
    part_size(1000, 300)
    rows = table(2500)
    runs.upload("all", write(rows))
    run = runs.start()
    assert (run["status"], run["rows"], run["parts"], run["engine"]) == ("pending", 2500, 3, "lambda")
    assert "2,500 rows" in run["engine_reason"]

    ended = runs.work(run)

    assert ended["status"] == "succeeded", ended["error"]
    found, expected = runs.scores(), runs.online(rows.drop("customer_id").to_dicts())
    assert found["client_key"].to_list() == [str(number) for number in range(1, 2501)]
    assert found["probability"].to_list() == probabilities(expected)
    assert found["label"].to_list() == [each["label"] for each in expected]
    progress = ended["progress"]
    assert (progress["rows_read"], progress["rows_written"], progress["rows_refused"]) == (2500, 2500, 0)
    assert progress["parts"] == 3
    assert progress["cost_usd"] > 0
    assert progress["seconds_left"] is None


@pytest.mark.row("BD-1")
def test_the_output_appears_as_a_whole_and_the_manifest_last(runs: Runs, part_size: PartSize) -> None:
    part_size(1000, 500)
    runs.upload("a.csv", csv(table(2500)))
    run = runs.start()
    for task in runs.tasks(run):
        runs.score(task)
    assert runs.names() == []
    assert runs.get(run)["progress"]["rows_written"] == 2500

    runs.finish(run)

    assert runs.names() == ["_manifest.json", *(f"part-0000{number}.parquet" for number in range(3))]
    manifest = json.loads(runs.output("_manifest.json"))
    assert [each["rows"] for each in manifest["files"]] == [1000, 1000, 500]
    assert manifest["columns"] == PREDICTION_COLUMNS
    prefix = f"spaces/{runs.lab.space_id}/connectors/{runs.target}/scores/"
    written = {
        each["Key"].removeprefix(prefix): each["LastModified"]
        for each in runs.lab.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix)["Contents"]
    }
    assert written["_manifest.json"] == max(written.values())


@pytest.mark.row("BD-1")
def test_a_run_that_works_shows_its_rate_its_cost_and_the_time_left(runs: Runs, clock: MovableClock) -> None:
    for name in "ab":
        runs.upload(f"{name}.csv", csv(table(30)))
    clock.now = clock.now
    run = runs.start()
    first, _second = runs.tasks(run)
    clock.now += timedelta(seconds=10)
    runs.score(first)

    progress = runs.get(run)["progress"]

    assert (progress["rows_read"], progress["rows_per_second"], progress["seconds_left"]) == (30, 3.0, 10)
    assert progress["cost_usd"] > 0


@pytest.mark.row("BD-6")
def test_the_output_has_the_same_columns_with_and_without_contributions(runs: Runs) -> None:
    rows = table(40)
    runs.upload("a.csv", csv(rows))
    runs.work(runs.start())
    plain = runs.scores()
    ended = runs.work(runs.start(contributions=True, output={"connector_id": runs.target, "folder": "explained"}))
    assert ended["status"] == "succeeded", ended["error"]
    explained = pl.read_parquet(runs.output("part-00000.parquet", "explained/"))

    assert plain.schema == explained.schema == SCHEMA
    assert plain["contributions"].null_count() == 40
    for row in explained.iter_rows(named=True):
        log_odds = row["base_value"] + sum(each["contribution"] for each in row["contributions"])
        assert 1 / (1 + pow(2.718281828459045, -log_odds)) == pytest.approx(row["probability"], abs=1e-9)
        assert row["reasons"] == [each["column"] for each in row["contributions"]][: len(row["reasons"])]


def test_the_columns_of_the_manifest_are_those_of_the_files() -> None:
    names = {"double": pl.Float64(), "string": pl.String(), "array<string>": pl.List(pl.String)}
    for column, dtype in SCHEMA.items():
        if column != "contributions":
            assert names[PREDICTION_COLUMNS[column]] == dtype
    assert list(SCHEMA) == list(PREDICTION_COLUMNS)


@pytest.mark.row("BD-1")
def test_a_restart_goes_on_at_the_last_finished_part(
    runs: Runs, part_size: PartSize, monkeypatch: pytest.MonkeyPatch
) -> None:
    part_size(1000, 500)
    runs.upload("a.csv", csv(table(1500)))
    runs.upload("b.csv", csv(table(1500, first=1501)))
    run = runs.start()
    first, _second = runs.tasks(run)
    runs.score(first)
    stopped = runs.lab.client.post(f"/predictions/{run['id']}/stop").json()
    assert stopped["status"] == "stopped"
    assert runs.names() == []

    restarted = runs.lab.client.post(f"/predictions/{run['id']}/restart")
    assert restarted.status_code == 201, restarted.text
    again = runs.lab.client.post(f"/predictions/{run['id']}/restart").json()
    new = restarted.json()
    assert (again["id"], new["restarted_from"], new["status"]) == (new["id"], run["id"], "pending")
    assert runs.get(run)["restarted_as"] == new["id"]
    assert runs.get(new)["progress"]["parts"] == 2
    done = runs.get(new)["progress"]["rows_written"]
    ended = runs.work(new)

    assert (done, ended["progress"]["rows_written"], ended["progress"]["parts"]) == (1500, 3000, 4)
    assert ended["status"] == "succeeded"
    assert runs.scores().height == 3000


def test_a_run_started_twice_with_one_key_is_one_run(runs: Runs) -> None:
    runs.upload("a.csv", csv(table(30)))
    first, second = (runs.request({"Idempotency-Key": "tonight"}) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["id"] == second.json()["id"]
    assert runs.lab.client.get("/predictions").json()["count"] == 1
    third = runs.request()
    assert third.status_code == 409, third.text
    assert "Another run writes to the folder 'scores'" in third.json()["error"]


def test_the_owner_downloads_the_files_of_a_run(runs: Runs) -> None:
    runs.upload("a.csv", csv(table(30)))
    run = runs.start()
    assert runs.lab.client.get(f"/predictions/{run['id']}/files").json()["count"] == 0
    runs.work(run)

    page = runs.lab.client.get(f"/predictions/{run['id']}/files").json()

    assert [each["file"] for each in page["data"]] == ["scores/_manifest.json", "scores/part-00000.parquet"]
    assert page["data"][1]["size_bytes"] == len(runs.output("part-00000.parquet"))
    assert "X-Amz-Signature" in page["data"][1]["url"]
    rest = runs.lab.client.get(f"/predictions/{run['id']}/files", params={"after": "scores/_manifest.json", "limit": 1})
    assert [each["file"] for each in rest.json()["data"]] == ["scores/part-00000.parquet"]


def test_the_output_is_scanned_as_any_file(runs: Runs) -> None:
    runs.upload("a.csv", csv(table(30)))
    runs.work(runs.start())
    lab, folder = runs.lab, f"spaces/{runs.lab.space_id}/connectors/{runs.target}/scores/"
    events = [
        lab.event("Object Created", each["Key"], each["ETag"].strip('"'), each["Size"], "null")
        for each in lab.s3.list_objects_v2(Bucket=BUCKET, Prefix=folder)["Contents"]
    ]

    assert lab.deliver(*events) == []
    lab.work(runs.target)

    [entry] = lab.catalog(runs.target).values()
    assert (entry["file"], entry["status"], entry["rows"]) == ("scores/part-00000.parquet", "scanned", 30)
    assert [column["name"] for column in entry["columns"]] == list(PREDICTION_COLUMNS)
    assert lab.files(runs.target, flat=True) == ["scores/part-00000.parquet"]


@pytest.mark.row("X-14")
def test_the_audit_log_names_who_started_stopped_and_restarted_a_run(runs: Runs) -> None:
    watch_table()
    stream = Stream()
    runs.upload("a.csv", csv(table(30)))
    run = runs.start()
    for verb in ("stop", "restart"):
        runs.lab.client.post(f"/predictions/{run['id']}/{verb}").raise_for_status()
    deliver(runs.lab.resources, stream.read())

    rows = runs.lab.client.get("/audit-logs", params={"entity": "prediction", "limit": 100}).json()["data"]
    me = runs.lab.client.get("/me").json()["id"]
    assert {row["actor"] for row in rows} == {me}
    assert sorted(row["action"] for row in rows if row["entity_id"] == run["id"])[:2] == ["created", "updated"]
    assert len({row["entity_id"] for row in rows}) == 2
