"""Tests that trainings follow their executions and SageMaker jobs."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from functions.events.job_state_changed import job_state_changed
from functions.events.reconcile_jobs import ReconciliationError
from functions.workflows.training.create_evaluation import create_evaluation
from shared.errors import JobFailedError
from shared.models.job_status import JobStatus
from shared.trainings.store import Trainings
from tests.fixtures.evaluations import add_checkpoint
from tests.fixtures.trainings import add_benchmark, space_of, training_request
from tests.functional.events.helpers import START, World, execution_event, sagemaker_event


@pytest.mark.row("Y-9")
def test_a_training_is_shown_as_running_without_events_when_its_job_has_started(world: World) -> None:
    world.reconcile()
    assert world.get_training()["status"] == "pending"
    world.sagemaker.run(world.job)
    world.reconcile()
    assert world.get_training()["status"] == "pending", "SageMaker still prepares the machine"
    world.sagemaker.run(world.job, TrainingStartTime=START)
    world.reconcile()
    assert world.get_training()["status"] == "running"


@pytest.mark.row("Y-9", "TR-2")
@pytest.mark.parametrize(
    ("status", "error", "cause", "wanted", "text"),
    [
        (
            "FAILED",
            "States.TaskFailed",
            {
                "TrainingJobStatus": "Failed",
                "FailureReason": "AlgorithmError: The target column 'y' has only one label, exit code: 1",
            },
            "failed",
            "The target column 'y' has only one label",
        ),
        (
            "FAILED",
            "States.TaskFailed",
            {"TrainingJobStatus": "Failed", "FailureReason": "AlgorithmError: , exit code: 137"},
            "failed",
            "killed before its end: it probably ran out of memory",
        ),
        (
            "FAILED",
            "States.TaskFailed",
            {
                "TrainingJobStatus": "Failed",
                "FailureReason": "CapacityError: Unable to provision requested ML compute capacity.",
            },
            "failed",
            "CapacityError: Unable to provision requested ML compute capacity.",
        ),
        (
            "FAILED",
            "JobFailedError",
            {"errorType": "JobFailedError", "errorMessage": "The connector has no files."},
            "failed",
            "The connector has no files.",
        ),
        (
            "FAILED",
            "KeyError",
            {"errorType": "KeyError", "errorMessage": "'secret'"},
            "failed",
            "error on our side",
        ),
        ("TIMED_OUT", "", "", "failed", "error on our side"),
        ("TIMED_OUT", "States.Timeout", "", "failed", "exceeded its time limit"),
        ("ABORTED", "", "An operator did it.", "stopped", "stopped from outside. An operator did it."),
        ("SUCCEEDED", "", "", "failed", "ended without a result"),
    ],
)
def test_an_ended_execution_ends_its_training_and_the_error_states_the_reason(
    world: World, status: str, error: str, cause: Any, wanted: str, text: str
) -> None:
    world.sagemaker.run(world.job, TrainingStartTime=START)
    world.steps.end(world.id, status, error, cause)
    for _ in range(2):
        world.reconcile()
        shown = world.get_training()
        assert shown["status"] == wanted
        assert text in shown["error"]
        assert shown["ended_at"]
    assert "secret" not in shown["error"]
    assert (world.reference_count(), world.open_jobs()) == (0, [])
    assert world.sagemaker.jobs[world.job]["TrainingJobStatus"] == "Stopping"


def succeed(world: World, *benchmark_ids: str) -> None:
    """Records that the training has succeeded, while its workflow still evaluates the benchmarks."""
    space_id = space_of(world.client)
    world.client.put(f"/trainings/{world.id}", json={"benchmark_ids": benchmark_ids})
    checkpoint = add_checkpoint(world.table, space_id, training_id=world.id)
    Trainings(world.table, world.resources.clock).end(
        space_id, world.id, JobStatus.SUCCEEDED, {"checkpoint_ids": [checkpoint.id]}
    )


def evaluated_benchmarks(world: World) -> list[str]:
    """Returns the benchmarks with evaluations and checks that each evaluation has an execution."""
    found = world.client.get("/evaluations").json()["data"]
    assert {each["id"] for each in found} <= world.steps.executions.keys()
    return sorted(each["benchmark_id"] for each in found)


@pytest.mark.row("Y-9", "TR-4")
def test_each_due_evaluation_is_started_once_when_the_workflow_was_aborted(world: World) -> None:
    benchmark_ids = [add_benchmark(world.client, world.training["connectors"][0]["connector_id"]) for _ in range(3)]
    succeed(world, *benchmark_ids)
    event = {"space_id": space_of(world.client), "training_id": world.id, "benchmark_id": benchmark_ids[0]}
    made = create_evaluation(world.resources, {**event, "checkpoint_id": checkpoint_of(world)})
    world.client.put(f"/trainings/{world.id}", json={"benchmark_ids": benchmark_ids[:2]})
    world.reconcile()
    assert world.client.get("/evaluations").json()["count"] == 1, "the running workflow starts the others"
    world.steps.executions[made["evaluation_id"]] = {"status": "RUNNING"}
    world.steps.end(world.id, "ABORTED")
    for _ in range(2):
        job_state_changed(execution_event(world.id), world.resources)
        assert evaluated_benchmarks(world) == sorted(benchmark_ids[:2]), "the removed benchmark is not evaluated"
    assert world.id not in world.open_jobs()
    with pytest.raises(JobFailedError, match="does without"):
        create_evaluation(world.resources, {**event, "checkpoint_id": checkpoint_of(world)})


@pytest.mark.row("Y-9", "TR-4")
def test_benchmarks_that_were_added_during_an_outage_of_aws_are_evaluated_later(world: World) -> None:
    succeed(world)
    world.steps.end(world.id, "SUCCEEDED")
    benchmark_ids = [add_benchmark(world.client, world.training["connectors"][0]["connector_id"]) for _ in range(3)]
    world.steps.down = True
    for number in (2, 3):
        response = world.client.put(f"/trainings/{world.id}", json={"benchmark_ids": benchmark_ids[:number]})
        assert response.status_code == 200, response.text
    world.client.delete(f"/benchmarks/{benchmark_ids[1]}")
    world.steps.down = False
    world.reconcile(after=timedelta(minutes=5))
    assert evaluated_benchmarks(world) == sorted([benchmark_ids[0], benchmark_ids[2]])
    assert world.id not in world.open_jobs()
    assert {each["created_by"] for each in world.client.get("/evaluations").json()["data"]} == {
        world.training["created_by"]
    }


def checkpoint_of(world: World) -> str:
    return str(world.get_training()["checkpoints"][0]["id"])


@pytest.mark.row("TR-2")
def test_the_reconciler_starts_a_training_that_could_not_be_started(client: TestClient, world: World) -> None:
    world.steps.down = True
    lost = world.client.post("/trainings", json=training_request(client, world.table)).json()
    world.reconcile()
    with pytest.raises(ReconciliationError):
        world.reconcile(after=timedelta(minutes=2))
    world.steps.down = False
    world.reconcile(after=timedelta(minutes=5))
    assert world.steps.executions[lost["id"]]["input"] == {"space_id": space_of(client), "training_id": lost["id"]}
    assert client.get(f"/trainings/{lost['id']}").json()["status"] == "pending"


@pytest.mark.row("TR-2")
def test_a_training_that_cannot_be_started_for_an_hour_fails(world: World) -> None:
    del world.steps.executions[world.id]
    world.reconcile(after=timedelta(minutes=61))
    assert world.get_training()["status"] == "failed"
    assert "could not start it" in world.get_training()["error"]
    assert world.reference_count() == 0


def test_a_training_fails_and_its_job_is_stopped_when_its_execution_is_missing(world: World) -> None:
    world.sagemaker.run(world.job, TrainingStartTime=START)
    world.reconcile()
    del world.steps.executions[world.id]
    world.reconcile()
    assert world.get_training()["status"] == "failed"
    assert world.sagemaker.jobs[world.job]["TrainingJobStatus"] == "Stopping"


@pytest.mark.row("TR-5", "Y-9")
def test_a_deleted_training_gets_the_status_stopped_when_its_job_has_stopped(world: World) -> None:
    world.sagemaker.run(world.job, TrainingStartTime=START)
    world.reconcile()
    world.client.delete(f"/trainings/{world.id}")
    job_state_changed(sagemaker_event(world.job), world.resources)
    record = world.get_training(include_deleted=True)
    assert (record["status"], world.open_jobs()) == ("running", [world.id])
    world.sagemaker.jobs[world.job]["TrainingJobStatus"] = "Stopped"
    for _ in range(2):
        job_state_changed(sagemaker_event(world.job), world.resources)
    record = world.get_training(include_deleted=True)
    assert record["status"] == "stopped"
    assert (world.open_jobs(), world.reference_count()) == ([], 0)


@pytest.mark.row("TR-5")
def test_a_job_that_starts_after_its_training_was_deleted_is_stopped(world: World) -> None:
    world.client.delete(f"/trainings/{world.id}")
    world.reconcile()
    assert world.get_training(include_deleted=True)["status"] == "stopped"
    world.sagemaker.run(world.job)
    job_state_changed(sagemaker_event(world.job), world.resources)
    assert world.sagemaker.jobs[world.job]["TrainingJobStatus"] == "Stopping"
    assert world.get_training(include_deleted=True)["status"] == "stopped"


@pytest.mark.row("TR-3")
@pytest.mark.parametrize("event", [sagemaker_event, execution_event])
def test_late_and_repeated_events_change_nothing_after_a_training_has_ended(
    world: World, event: Callable[[str], dict[str, Any]]
) -> None:
    Trainings(world.table, world.resources.clock).end(
        space_of(world.client), world.id, JobStatus.SUCCEEDED, {"notes": ["fine"]}
    )
    before = world.get_training()
    world.sagemaker.run(world.job, "Failed", FailureReason="AlgorithmError: late, exit code: 1")
    world.steps.end(world.id, "FAILED", "late")
    name = world.job if event is sagemaker_event else world.id
    for _ in range(2):
        job_state_changed(event(name), world.resources)
    assert world.get_training() == before
    assert world.reference_count() == 0


def test_an_event_updates_the_status_of_its_training(world: World) -> None:
    world.sagemaker.run(world.job, TrainingStartTime=START)
    job_state_changed(sagemaker_event(world.job), world.resources)
    assert world.get_training()["status"] == "running"
    world.steps.end(world.id, "ABORTED")
    job_state_changed(execution_event(world.id), world.resources)
    assert world.get_training()["status"] == "stopped"


@pytest.mark.parametrize(
    "name", ["somebody-elses-job", "training-x-1", "training-01a2081a-1610-752b-8cc0-d52dcf52e48d-1"]
)
def test_events_about_unknown_jobs_are_ignored(world: World, name: str) -> None:
    before = world.get_training()
    job_state_changed(sagemaker_event(name), world.resources)
    job_state_changed(execution_event(name), world.resources)
    assert world.get_training() == before


@pytest.mark.row("Y-9")
def test_a_job_that_cannot_be_reconciled_does_not_stop_the_reconciliation_of_other_jobs(world: World) -> None:
    second = world.client.post("/trainings", json=training_request(world.client, world.table)).json()
    world.steps.executions[world.id] = {"status": "A STATUS OF THE FUTURE"}
    world.steps.end(second["id"], "ABORTED")
    with pytest.raises(ReconciliationError, match="1 of 2"):
        world.reconcile()
    assert world.client.get(f"/trainings/{second['id']}").json()["status"] == "stopped"
    assert world.get_training()["status"] == "pending"
