"""What a restart of a decision run needs."""

from typing import Any

import pytest

from functions.workflows.decision_run.deciding import decide_parts
from functions.workflows.decision_run.prepare_decision_run import prepare_decision_run
from shared.dynamodb.table import delete, put
from shared.runs.tasks import TaskWorker
from shared.space_usage.jobs import limits_key
from tests.functional.decision_runs.conftest import Runs, table


def test_an_action_that_is_not_active_any_more_is_not_offered_by_a_restart(runs: Runs) -> None:
    action = runs.action("Card", channel="email")
    runs.upload("a.parquet", table(10))
    run = runs.start()
    what_if = runs.start(dry_run=True)
    for each in (run, what_if):
        runs.post(each, "stop").raise_for_status()
    runs.client.put(f"/actions/{action}", json={"status": "inactive"}).raise_for_status()

    refused = runs.post(run, "restart")

    assert (refused.status_code, "'Card' was deleted, or is not active" in refused.text) == (409, True)
    # A dry run makes no offers.
    assert runs.work(runs.post(what_if, "restart").json())["status"] == "succeeded"
    runs.client.put(f"/actions/{action}", json={"status": "active"}).raise_for_status()
    assert runs.work(runs.post(run, "restart").json())["status"] == "succeeded"


def test_a_run_without_room_reserves_no_contact(runs: Runs) -> None:
    runs.action("Card", channel="email")
    runs.upload("a.parquet", table(10))
    run = runs.start()
    runs.decide(run)
    stored, limits = runs.lab.resources.table, limits_key(runs.lab.space_id)
    stored.write(put(limits, {"limits": {"storage_gib": 0}}))

    ended = runs.finish(run)

    assert (ended["status"], "storage_gib" in ended["error"]) == ("failed", True)
    assert runs.request(dry_run=True).status_code == 429
    events = runs.client.get("/clients/1").json()["data"]
    assert [each["released_at"] is not None for each in events] == [True]
    stored.write(delete(limits))
    assert runs.work(runs.post(run, "restart").json())["status"] == "succeeded"


@pytest.mark.row("BD-2")
def test_a_run_with_a_part_that_failed_reserves_nothing_and_goes_on_with_the_others(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.action("Card", channel="email")
    runs.upload("a.parquet", table(10))
    runs.upload("b.parquet", table(10, first=11))
    run, work = runs.start(), TaskWorker._work_on_file

    def fail_on_b(self: TaskWorker, task: Any, *rest: Any) -> None:
        if task.file.name == "b.parquet":
            raise OSError("the disk is gone")
        work(self, task, *rest)

    prepared = prepare_decision_run(runs.lab.resources, runs.event(run))
    with monkeypatch.context() as broken:
        broken.setattr(TaskWorker, "_work_on_file", fail_on_b)
        for task in runs.lab.resources.run_plans.tasks(runs.lab.space_id, run["id"]):
            event = {**prepared, "task": task.model_dump(mode="json")}
            if task.file.name == "a.parquet":
                decide_parts(runs.lab.resources, event)
            else:
                for _ in range(3):
                    with pytest.raises(OSError, match="gone"):
                        decide_parts(runs.lab.resources, event)
    ended = runs.finish(run)

    assert (ended["status"], "1 of 2 parts failed: part 1 (the file 'b.parquet'" in ended["error"]) == ("failed", True)
    assert runs.client.get("/clients/1").status_code == 404
    assert runs.work(runs.post(run, "restart").json())["status"] == "succeeded"
    assert runs.offers().height == 20
