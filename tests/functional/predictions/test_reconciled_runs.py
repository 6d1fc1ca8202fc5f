"""Runs whose workflow, request or step was lost, and parts that are recorded twice."""

from datetime import timedelta
from typing import Any

import boto3
import pytest

from functions.events.job_state_changed import job_state_changed
from functions.events.reconcile_jobs import reconcile_jobs
from functions.workflows.prediction.prepare_prediction import prepare_prediction
from functions.workflows.prediction.scoring import score_parts
from shared.errors import JobFailedError
from shared.jobs.store import Jobs
from shared.models.job_reference import JobKind
from shared.models.prediction import PredictionRun
from shared.models.run import PartResult
from shared.resources import Resources
from shared.runs.store import Runs as RunStore
from tests.fixtures.trainings import active_uses
from tests.functional.predictions.conftest import PartSize, Runs, csv, table


def stop_execution(resources: Resources, run_id: str) -> None:
    """Stops the run's execution, as an operator may."""
    arn = str(resources.settings.prediction_state_machine_arn)
    execution = f"{arn.replace('stateMachine', 'execution')}:{run_id}"
    boto3.client("stepfunctions").stop_execution(executionArn=execution, cause="An operator did it.")


def test_a_run_whose_workflow_is_gone_ends_and_releases_what_it_held(runs: Runs) -> None:
    runs.upload("a.csv", csv(table(30)))
    run, table_of = runs.start(), runs.lab.resources.table
    assert active_uses(table_of, "connector", runs.lab.space_id, runs.source) == 1
    prepare_prediction(runs.lab.resources, runs.event(run))
    stop_execution(runs.lab.resources, run["id"])

    reconcile_jobs(runs.lab.resources, 30)

    ended = runs.get(run)
    assert ended["status"] == "stopped"
    assert "Its workflow was stopped from outside." in ended["error"]
    for connector in (runs.source, runs.target):
        assert active_uses(table_of, "connector", runs.lab.space_id, connector) == 0
    assert list(Jobs(table_of).open_jobs(runs.lab.space_id)) == []
    assert runs.work(runs.start())["status"] == "succeeded"


def test_what_a_lost_workflow_has_published_is_withdrawn(runs: Runs, part_size: PartSize) -> None:
    part_size(10, 10)
    runs.upload("a.csv", csv(table(30)))
    run, resources = runs.start(), runs.lab.resources
    for task in runs.tasks(run):
        score_parts(resources, task)
    store = RunStore(resources.table, PredictionRun, JobKind.PREDICTION)
    store.begin_publishing(runs.lab.space_id, run["id"])
    runs.lab.put(runs.target, "scores/part-00000.parquet", b"half of the output")
    assert runs.lab.client.post(f"/predictions/{run['id']}/stop").status_code == 409
    stop_execution(resources, run["id"])

    job_state_changed({"source": "aws.states", "detail": {"name": run["id"], "status": "ABORTED"}}, resources)

    assert runs.get(run)["status"] == "stopped"
    assert runs.names() == []


def test_a_run_that_begins_to_publish_while_it_is_stopped_goes_on(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    runs.upload("a.csv", csv(table(30)))
    run, resources = runs.start(), runs.lab.resources
    for task in runs.tasks(run):
        score_parts(resources, task)
    end = RunStore.end

    def end_later(store: RunStore[PredictionRun], *values: Any, **more: Any) -> PredictionRun:
        store.begin_publishing(runs.lab.space_id, run["id"])
        return end(store, *values, **more)

    with monkeypatch.context() as slow:
        slow.setattr(RunStore, "end", end_later)
        stopped = runs.lab.client.post(f"/predictions/{run['id']}/stop")
    assert stopped.status_code == 409
    assert "publishes its output just now" in stopped.json()["error"]
    assert runs.finish(run)["status"] == "succeeded"


def test_runs_of_two_kinds_never_take_the_same_folder(runs: Runs) -> None:
    runs.upload("a.csv", csv(table(30)))
    offer = {"name": "Card", "description": "", "priority": "medium", "type": "offer", "status": "active"}
    runs.lab.client.post("/actions", json=offer).raise_for_status()
    body = {"connector_id": runs.source, "output": {"connector_id": runs.target, "folder": "scores"}}
    runs.start()

    refused = runs.lab.client.post("/decision-runs", json=body)

    assert refused.status_code == 409, refused.text
    assert "Another run writes to the folder 'scores'" in refused.json()["error"]


def test_a_part_that_is_recorded_twice_counts_once(runs: Runs) -> None:
    runs.upload("a.csv", csv(table(30)))
    run, space_id = runs.start(), runs.lab.space_id
    store = RunStore(runs.lab.resources.table, PredictionRun, JobKind.PREDICTION)
    result = PartResult(number=0, rows_read=30, rows_written=29, seconds=1.0, refused={"odd": 1})
    for _ in range(2):
        store.record(space_id, run["id"], result)
    progress = runs.get(run)["progress"]
    assert (progress["parts"], progress["rows_read"], progress["rows_refused"]) == (1, 30, 1)


def test_a_run_that_has_ended_is_not_begun_again(runs: Runs) -> None:
    runs.upload("a.csv", csv(table(30)))
    run = runs.start()
    [task] = runs.tasks(run)
    assert runs.lab.client.post(f"/predictions/{run['id']}/stop").json()["status"] == "stopped"
    with pytest.raises(JobFailedError, match="has stopped already"):
        prepare_prediction(runs.lab.resources, runs.event(run))
    score_parts(runs.lab.resources, task)
    assert runs.get(run)["progress"]["parts"] == 0
    assert runs.finish(run)["status"] == "stopped"
    assert runs.names() == []


def test_old_parts_are_not_taken_over(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    runs.upload("a.csv", csv(table(30)))
    run = runs.start()
    runs.lab.client.post(f"/predictions/{run['id']}/stop")
    monkeypatch.setattr("shared.runs.store.KEPT", timedelta(0))
    response = runs.lab.client.post(f"/predictions/{run['id']}/restart")
    assert response.status_code == 409
    assert "Start another run" in response.json()["error"]
    done = runs.work(runs.start())
    assert runs.lab.client.post(f"/predictions/{done['id']}/restart").status_code == 409
