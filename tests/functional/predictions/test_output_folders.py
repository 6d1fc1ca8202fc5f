"""Folders of runs: no two runs write to the same one, nor to one within another, and the storage has a limit."""

from datetime import timedelta
from typing import Any

import pytest

from functions.events.reconcile_jobs import clean_up
from shared.dynamodb.table import Key, Write, delete, put
from shared.models.job_reference import JobKind
from shared.models.run import Run
from shared.runs.cleaning import RunCleaner
from shared.runs.folders import OutputFolders
from shared.runs.kinds import runs_of_all_kinds
from shared.space_usage.jobs import limits_key
from tests.fixtures.aws import BUCKET
from tests.fixtures.clocks import MovableClock
from tests.functional.predictions.conftest import Runs, csv, table

GRACE = timedelta(minutes=16)


@pytest.fixture
def runs(runs: Runs) -> Runs:
    runs.upload("a.csv", csv(table(30)))
    return runs


def output(runs: Runs, folder: str) -> dict[str, Any]:
    return {"connector_id": runs.target, "folder": folder}


def begun(runs: Runs, folder: str) -> dict[str, Any]:
    """Returns a run whose parts are finished."""
    run = runs.start(output=output(runs, folder))
    for task in runs.tasks(run):
        runs.score(task)
    return run


def work_objects(runs: Runs) -> list[str]:
    prefix = f"temporary/spaces/{runs.lab.space_id}/runs/"
    return [each["Key"] for each in runs.lab.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])]


def stored_parts(runs: Runs, run: dict[str, Any]) -> list[Any]:
    return list(runs.lab.resources.table.query(f"prediction_part#{runs.lab.space_id}#{run['id']}"))


@pytest.mark.row("BD-1")
@pytest.mark.parametrize(("first", "second"), [("out", "out"), ("out", "out/a"), ("out/a/b", "out")])
def test_a_run_writes_to_no_folder_around_or_within_that_of_another(runs: Runs, first: str, second: str) -> None:
    run = runs.start(output=output(runs, first))

    refused = runs.request(output=output(runs, second))

    assert refused.status_code == 409, refused.text
    assert f"Another run writes to the folder '{first}'" in refused.json()["error"]
    assert runs.request(output=output(runs, "outside")).status_code == 201
    runs.fail(run, "States.Timeout")
    assert runs.request(output=output(runs, second)).status_code == 201


def test_of_two_requests_at_the_same_time_one_takes_folders_within_each_other(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    take, faster = OutputFolders.take, list[int]()

    def take_late(self: OutputFolders, space_id: str, run: Run) -> list[Write]:
        writes = take(self, space_id, run)
        if not faster:
            faster.append(0)
            faster.append(runs.request(output=output(runs, "out/a")).status_code)
        return writes

    monkeypatch.setattr(OutputFolders, "take", take_late)
    refused = runs.request(output=output(runs, "out"))
    assert (refused.status_code, faster[-1]) == (409, 201)
    assert "Another run writes to the folder 'out/a'" in refused.json()["error"]


@pytest.mark.parametrize("moment", ["before the start", "during the run"])
def test_nothing_is_written_within_the_output_of_a_run(runs: Runs, moment: str) -> None:
    if moment == "during the run":
        late = begun(runs, "out/a")
        runs.lab.put(runs.target, "out/_manifest.json", b"{}")
        ended = runs.finish(late)
        assert (ended["status"], "'out/_manifest.json'" in ended["error"]) == ("failed", True)
        assert runs.names("out/a/") == []
        return
    runs.work(runs.start(output=output(runs, "out")))
    refused = runs.request(output=output(runs, "out/a"))
    assert (refused.status_code, "within the output of another run" in refused.text) == (409, True)


def test_a_run_needs_room_for_its_output(runs: Runs) -> None:
    run = begun(runs, "scores")
    stored = runs.lab.resources.table
    full = put(limits_key(runs.lab.space_id), {"limits": {"storage_gib": 0}})
    stored.write(full)

    ended = runs.finish(run)

    assert (ended["status"], "storage_gib" in ended["error"]) == ("failed", True)
    assert runs.names() == []
    for refused in (runs.request(), runs.lab.client.post(f"/predictions/{run['id']}/restart")):
        assert (refused.status_code, refused.json()["code"]) == (429, "limit_reached")
    assert runs.get(run)["restarted_as"] is None
    stored.write(delete(limits_key(runs.lab.space_id)))
    again = runs.work(runs.lab.client.post(f"/predictions/{run['id']}/restart").json())
    assert (again["status"], runs.scores().height) == ("succeeded", 30)


def test_nothing_but_the_output_is_left_of_a_run_that_has_succeeded(runs: Runs) -> None:
    run = begun(runs, "scores")
    assert (len(work_objects(runs)), len(stored_parts(runs, run))) == (4, 2)
    assert runs.finish(run)["progress"]["parts"] == 1
    assert (work_objects(runs), stored_parts(runs, run)) == ([], [])
    # The step may come again.
    assert runs.finish(run)["status"] == "succeeded"


def test_parts_of_a_run_whose_last_step_died_after_the_end_are_removed(
    runs: Runs, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock.now = clock.now
    run = begun(runs, "scores")

    def die(*_: object) -> None:
        raise OSError("gone")

    with monkeypatch.context() as dying:
        dying.setattr(RunCleaner, "clean", die)
        with pytest.raises(OSError, match="gone"):
            runs.finish(run)
    assert runs.get(run)["status"] == "succeeded"
    assert work_objects(runs)
    clock.now += GRACE
    clean_up(runs.lab.resources)
    assert (work_objects(runs), stored_parts(runs, run)) == ([], [])


@pytest.mark.parametrize("folder", ["free", "taken", "published"])
def test_a_file_that_comes_after_the_withdrawal_is_removed_unless_another_run_has_the_folder(
    runs: Runs, clock: MovableClock, folder: str
) -> None:
    clock.now = clock.now
    run = begun(runs, "scores")
    resources = runs.lab.resources
    kind = runs_of_all_kinds(resources.table, resources.clock)[JobKind.PREDICTION]
    resources.run_publisher.begin(runs.lab.space_id, kind, kind.repository.get(runs.lab.space_id, run["id"]))
    assert runs.fail(run, "States.Timeout")["status"] == "failed"
    if folder != "free":
        other = begun(runs, "scores")
    if folder == "published":
        runs.finish(other)
    else:
        runs.lab.put(runs.target, "scores/part-00000.parquet", b"late")

    clock.now += GRACE
    clean_up(resources)

    expected = {"free": [], "taken": ["part-00000.parquet"], "published": ["_manifest.json", "part-00000.parquet"]}
    assert runs.names() == expected[folder]
    taken = resources.table.get(Key(f"run_output#{runs.lab.space_id}", runs.target)) or {}
    assert [name for name in taken if name.startswith("folder#")] == (
        [f"folder#{other['id']}"] if folder == "taken" else []
    )
