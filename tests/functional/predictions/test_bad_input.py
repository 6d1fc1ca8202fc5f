"""What files and folders can have wrong, and how a run ends then: in words, with nothing half written."""

from typing import Any

import boto3
import polars as pl
import pytest
from botocore.exceptions import ClientError

from functions.workflows.prediction.scoring import score_parts
from shared.runs.tasks import TaskWorker
from tests.fixtures.aws import BUCKET
from tests.functional.predictions.conftest import PartSize, Runs, csv, parquet, table


def refusal(response: Any, status: int) -> str:
    assert response.status_code == status, response.text
    return str(response.json()["error"])


@pytest.mark.row("X-1")
def test_missing_columns_are_named_before_anything_starts(runs: Runs) -> None:
    runs.upload("a.csv", csv(table(30)))
    runs.upload("b.csv", csv(table(30).drop("city", "age")))

    words = refusal(runs.request(), 400)

    assert "'b.csv' lacks the column 'age'" in words
    assert "'b.csv' lacks the column 'city'" in words
    assert runs.lab.client.get("/predictions").json()["count"] == 0
    assert runs.names() == []


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("age", pl.lit("forty")),
        ("age", pl.date(2026, 1, 31)),
        ("joined", pl.lit(7)),
        ("joined", pl.lit("soon")),
        ("active", pl.lit("perhaps")),
    ],
)
def test_columns_of_other_values_than_in_the_training_are_named_before_anything_starts(
    runs: Runs, column: str, values: pl.Expr
) -> None:
    runs.upload("a.parquet", parquet(table(30).with_columns(values.alias(column))))
    assert f"'{column}' of the file 'a.parquet' has the type" in refusal(runs.request(), 409)


def test_rows_that_cannot_be_read_are_reported_and_the_others_go_on(runs: Runs, part_size: PartSize) -> None:
    part_size(40, 7)
    rows = csv(table(100).cast({"age": pl.String, "joined": pl.String})).decode().splitlines()
    rows[10] = rows[10].replace(rows[10].split(",")[1], "forty", 1)
    rows[60] = ",".join([*rows[60].split(",")[:4], "soon"])
    rows[80] += ",more,than,fields"
    rows.insert(30, "")
    content = "\n".join(rows).encode()
    runs.upload("a.csv", content)

    ended = runs.work(runs.start())

    assert ended["status"] == "succeeded", ended["error"]
    progress = ended["progress"]
    assert (progress["rows_refused"], progress["rows_written"]) == (3, 97)
    assert progress["refused"] == {
        "the line can't be read as a row": 1,
        "the value of 'age' must be a number, or missing": 1,
        "the value of 'joined' must be a date or time such as 2026-01-31, or missing": 1,
    }
    found = {(each["line"], each["column"]) for each in progress["refused_rows"]}
    # Line 1 is the header, and a blank line came before two of them.
    assert found == {(11, "age"), (62, "joined"), (82, None)}
    assert {each["file"] for each in progress["refused_rows"]} == {"a.csv"}
    keys = set(runs.scores()["client_key"])
    assert len(keys) == 97
    assert not keys & {"10", "60", "80"}


def test_too_many_refused_rows_end_the_run_early_and_nothing_is_written(runs: Runs, part_size: PartSize) -> None:
    part_size(50, 25)
    rows = table(400).with_columns(
        pl.when(pl.int_range(pl.len()) % 5 == 0)
        .then(pl.lit("forty"))
        .otherwise(pl.col("age").cast(pl.String))
        .alias("age")
    )
    runs.upload("a.parquet", parquet(rows))
    run = runs.start()

    ended = runs.work(run)

    assert ended["status"] == "failed"
    assert "of 400 rows were refused, more than the share 0.05" in ended["error"]
    assert "the value of 'age' must be a number, or missing" in ended["error"]
    assert ended["progress"]["parts"] < run["parts"]
    assert runs.names() == []
    allowed = runs.work(runs.start(max_refused_share=0.2))
    assert (allowed["status"], allowed["progress"]["rows_refused"]) == ("succeeded", 80)


@pytest.mark.row("BD-5")
def test_a_part_that_fails_three_times_does_not_stop_the_others(
    runs: Runs, part_size: PartSize, monkeypatch: pytest.MonkeyPatch
) -> None:
    part_size(1000, 500)
    runs.upload("a.csv", csv(table(30)))
    runs.upload("b.csv", csv(table(40, first=31)))
    attempts: list[str] = []
    work = TaskWorker._work_on_file

    def fail_on_a(self: TaskWorker, task: Any, *rest: Any) -> None:
        attempts.append(task.file.name)
        if task.file.name == "a.csv":
            raise OSError("the disk is gone")
        work(self, task, *rest)

    monkeypatch.setattr(TaskWorker, "_work_on_file", fail_on_a)
    run = runs.start()
    ended = runs.work(run)

    assert attempts == ["a.csv"] * 3 + ["b.csv"]
    assert ended["status"] == "failed"
    assert "1 of 2 parts failed: part 0 (the file 'a.csv' from row 1)" in ended["error"]
    assert ended["progress"]["rows_written"] == 40
    assert runs.names() == []
    monkeypatch.undo()
    again = runs.work(runs.lab.client.post(f"/predictions/{run['id']}/restart").json())
    assert (again["status"], runs.scores().height) == ("succeeded", 70)


def test_a_file_that_changes_after_the_start_is_named(runs: Runs) -> None:
    runs.upload("a.csv", csv(table(30)))
    run = runs.start()
    runs.lab.put(runs.source, "a.csv", csv(table(31)))
    # The version that was pinned is read as long as S3 has it.
    key = f"spaces/{runs.lab.space_id}/connectors/{runs.source}/a.csv"
    for version in runs.lab.s3.list_object_versions(Bucket=BUCKET, Prefix=key)["Versions"]:
        if not version["IsLatest"]:
            runs.lab.s3.delete_object(Bucket=BUCKET, Key=key, VersionId=version["VersionId"])

    ended = runs.work(run)

    assert ended["status"] == "failed"
    assert "The file 'a.csv' has changed since the job started" in ended["error"]


@pytest.mark.parametrize("moment", ["before the start", "during the run"])
def test_a_folder_that_is_not_empty_ends_the_run_in_words(runs: Runs, moment: str) -> None:
    runs.upload("a.csv", csv(table(30)))
    theirs = f"spaces/{runs.lab.space_id}/connectors/{runs.target}/scores/part-00000.parquet"
    if moment == "before the start":
        boto3.client("s3").put_object(Bucket=BUCKET, Key=theirs, Body=b"theirs")
        assert "The folder 'scores' is not empty: it has 'scores/part-00000.parquet'" in refusal(runs.request(), 409)
    else:
        run = runs.start()
        boto3.client("s3").put_object(Bucket=BUCKET, Key=theirs, Body=b"theirs")
        ended = runs.work(run)
        assert ended["status"] == "failed"
        assert "got the file 'scores/part-00000.parquet'" in ended["error"]
        assert runs.lab.client.post(f"/predictions/{run['id']}/restart").status_code == 409
    assert runs.names() == ["part-00000.parquet"]
    assert runs.output("part-00000.parquet") == b"theirs"


def test_an_output_that_cannot_be_copied_to_its_end_leaves_nothing(
    runs: Runs, part_size: PartSize, monkeypatch: pytest.MonkeyPatch
) -> None:
    part_size(10, 5)
    runs.upload("a.csv", csv(table(30)))
    run = runs.start()
    for task in runs.tasks(run):
        score_parts(runs.lab.resources, task)
    monkeypatch.setattr("shared.runs.publishing.COPIES_AT_ONCE", 1)
    gone = f"temporary/spaces/{runs.lab.space_id}/runs/{run['id']}/parts/part-00002.parquet"
    runs.lab.s3.delete_object(Bucket=BUCKET, Key=gone)

    with pytest.raises(ClientError):
        runs.finish(run)
    assert len(runs.names()) == 2
    ended = runs.fail(run, "Lambda.Unknown")

    assert ended["status"] == "failed"
    assert runs.names() == []


def test_only_scanned_files_can_be_scored(runs: Runs) -> None:
    runs.lab.put(runs.source, "a.csv", csv(table(30)))
    assert "No scan has read the file 'a.csv' as it is now" in refusal(runs.request(), 409)
    runs.upload("broken.parquet", b"PAR1 and nothing else PAR1")
    assert "'broken.parquet' can't be read" in refusal(runs.request(files=["broken.parquet"]), 409)


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"checkpoint_id": "challenger"}, 400, "there is no checkpoint"),
        ({"connector_id": "nowhere"}, 400, "there is no such connector"),
        ({"files": ["b.csv"]}, 400, "there is no file 'b.csv'"),
        ({"key_column": "shoe_size"}, 400, "the file 'a.csv' has no such column"),
        ({"max_refused_share": 1.5}, 400, "max_refused_share"),
        ({"tonight": True}, 400, "tonight"),
    ],
)
def test_a_request_that_cannot_be_meant_is_refused(
    runs: Runs, changes: dict[str, Any], status: int, words: str
) -> None:
    runs.upload("a.csv", csv(table(30)))
    assert words in refusal(runs.request(**changes), status)


@pytest.mark.parametrize("folder", ["/a", "a//b", "a/../b", "a\nb", ""])
def test_a_folder_has_plain_names(runs: Runs, folder: str) -> None:
    assert refusal(runs.request(output={"connector_id": runs.target, "folder": folder}), 400)


def test_a_file_without_a_customers_name_needs_a_key_column(runs: Runs) -> None:
    runs.upload("a.csv", csv(table(30).rename({"customer_id": "who"})))
    assert "send the column that names the customer" in refusal(runs.request(), 400)
    assert runs.work(runs.start(key_column="who"))["status"] == "succeeded"
    assert runs.scores()["client_key"].to_list()[:2] == ["1", "2"]


def test_the_output_needs_a_managed_connector_and_not_the_files_own_folder(runs: Runs) -> None:
    runs.upload("a.csv", csv(table(30)))
    same = {"connector_id": runs.source, "folder": "scores"}
    assert "name the files to read" in refusal(runs.request(output=same), 400)
    place = {"bucket": "customer", "region": "us-east-1", "access_key_id": "AKIA", "secret_access_key": "s"}
    foreign = runs.lab.connector(s3=place)
    assert "Use a managed connector" in refusal(runs.request(output={"connector_id": foreign}), 409)


def test_another_space_finds_nothing_of_a_run(runs: Runs, other_client: Any) -> None:
    runs.upload("a.csv", csv(table(30)))
    run = runs.start()
    for method, path in (("GET", ""), ("GET", "/files"), ("POST", "/stop"), ("POST", "/restart")):
        assert other_client.request(method, f"/predictions/{run['id']}{path}").status_code == 404
    assert other_client.get("/predictions").json()["count"] == 0
