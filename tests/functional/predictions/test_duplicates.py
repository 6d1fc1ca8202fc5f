"""Each customer gets one row of a run's output: the first one with a score."""

import json
from pathlib import Path
from threading import Event
from typing import Any

import polars as pl
import pytest

from functions.jobs.predict.job import predict
from functions.workflows.prediction import leaving_out
from functions.workflows.prediction.leaving_out import LeavingOut
from shared.runs.publishing import Publisher
from tests.fixtures.trained_models import aws_client
from tests.functional.predictions.conftest import PartSize, Runs, csv, parquet, table
from tests.functional.predictions.test_processing import environment, machines


def named(rows: pl.DataFrame, names: list[str | None]) -> pl.DataFrame:
    return rows.with_columns(customer_id=pl.Series(names, dtype=pl.String))


def require_first_rows(runs: Runs, ended: dict[str, Any], first: pl.DataFrame) -> None:
    """Requires that the run wrote the first 40 rows only, and named the first two of the 25 others."""
    assert ended["status"] == "succeeded", ended["error"]
    found = runs.scores()
    assert found["client_key"].to_list() == first["customer_id"].to_list()
    expected = [each["probability"] for each in runs.online(first.drop("customer_id").to_dicts())]
    assert found["probability"].to_list() == expected
    assert ended["duplicates"] == 25
    assert ended["duplicate_rows"][:2] == [
        {"file": "b.parquet", "row": 1, "first_file": "a.csv", "first_row": 11},
        {"file": "b.parquet", "row": 2, "first_file": "a.csv", "first_row": 12},
    ]
    assert len(ended["duplicate_rows"]) == 20
    manifest = json.loads(runs.output("_manifest.json"))
    assert (manifest["rows"], manifest["duplicates"]) == (40, 25)
    assert sum(each["rows"] for each in manifest["files"]) == 40


def two_files(runs: Runs) -> pl.DataFrame:
    """Uploads 40 customers in two files. The second one has 20 of the first, and five of its own twice."""
    rows = table(40)
    own = named(rows, [f"c-{number}" for number in range(40)])
    again = named(table(20, seed=9), [f" C-{number} " for number in range(10, 30)])
    twice = named(table(5, seed=9), [f"C-{number}" for number in range(35, 40)])
    runs.upload("a.csv", csv(own.head(30)))
    runs.upload("b.parquet", parquet(pl.concat([again, own.tail(10), twice])))
    return own


@pytest.mark.row("X-1", "BD-1")
def test_the_first_row_of_a_customer_counts_in_all_files_and_parts_and_the_others_are_named(
    runs: Runs, part_size: PartSize
) -> None:
    part_size(15, 7)
    first = two_files(runs)
    require_first_rows(runs, runs.work(runs.start()), first)


def test_the_machines_of_a_job_leave_the_same_rows_out(
    runs: Runs, part_size: PartSize, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    part_size(15, 7)
    monkeypatch.setattr("shared.runs.engines.MACHINE_SECONDS", 0.001)
    monkeypatch.setattr("shared.runs.engines.FUNCTION_FILE_BYTES", 1)
    first = two_files(runs)
    run = runs.start()
    assert (run["engine"], run["instance_count"]) == ("processing", 2)
    # The machine with the second file is the first one to end.
    for folder in reversed(machines(runs, run, tmp_path, 2)):
        predict(folder, environment(runs, run), Event(), aws_client)
    require_first_rows(runs, runs.finish(run), first)


def test_a_last_step_that_dies_and_comes_again_counts_the_same(
    runs: Runs, part_size: PartSize, monkeypatch: pytest.MonkeyPatch
) -> None:
    part_size(15, 7)
    first = two_files(runs)
    run = runs.start()
    for task in runs.tasks(run):
        runs.score(task)

    def die(*_: object) -> None:
        raise OSError("gone")

    with monkeypatch.context() as dying:
        dying.setattr(Publisher, "publish", die)
        with pytest.raises(OSError, match="gone"):
            runs.finish(run)
    assert runs.get(run)["duplicates"] is None
    require_first_rows(runs, runs.finish(run), first)


def test_the_first_row_that_can_be_read_counts(runs: Runs) -> None:
    rows = pl.concat([table(3), table(3, seed=9)]).with_columns(pl.col("age").cast(pl.String))
    words = csv(rows).decode().splitlines()
    words[1] = words[1].replace(words[1].split(",")[1], "forty", 1)
    runs.upload("a.csv", "\n".join(words).encode())

    ended = runs.work(runs.start(max_refused_share=0.5))

    assert runs.scores()["client_key"].to_list() == ["2", "3", "1"]
    assert (ended["duplicates"], ended["progress"]["rows_refused"]) == (2, 1)
    assert ended["duplicate_rows"][0] == {"file": "a.csv", "row": 5, "first_file": "a.csv", "first_row": 2}


def test_rows_that_name_nobody_are_all_scored(runs: Runs) -> None:
    runs.upload("a.parquet", parquet(named(table(4), [None, "a", "  ", "a"])))
    ended = runs.work(runs.start())
    assert runs.scores()["client_key"].to_list() == [None, "a", None]
    assert ended["duplicates"] == 1


def test_rows_of_a_run_without_repeats_are_not_written_again(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    monkeypatch.setattr(LeavingOut, "_rewritten", lambda *_: written.append(1))
    runs.upload("a.csv", csv(table(30)))
    ended = runs.work(runs.start())
    assert (ended["duplicates"], ended["duplicate_rows"], written) == (0, [], [])


def test_more_rows_than_can_be_compared_are_all_written_and_nothing_is_claimed(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaving_out, "COMPARED_ROWS", 5)
    runs.upload("a.csv", csv(pl.concat([table(3), table(3)])))
    ended = runs.work(runs.start())
    assert (ended["status"], ended["duplicates"], runs.scores().height) == ("succeeded", None, 6)
    assert json.loads(runs.output("_manifest.json"))["duplicates"] is None
