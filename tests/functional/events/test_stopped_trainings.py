"""A member stops a training: its job is asked to save what is fitted, also while AWS has failures."""

from datetime import timedelta

import pytest

from functions.events.job_state_changed import job_state_changed
from shared.jobs.failures import STOPPED_BY_MEMBER
from shared.models.job_status import JobStatus
from shared.trainings.store import Trainings
from tests.fixtures.trainings import space_of
from tests.functional.events.helpers import START, World, execution_event, refused, sagemaker_event

pytestmark = pytest.mark.row("X-3")


def stop(world: World) -> tuple[int, dict[str, object]]:
    answer = world.client.post(f"/trainings/{world.id}/stop")
    return answer.status_code, answer.json()


def test_the_job_is_stopped_and_its_workflow_goes_on_with_what_it_leaves(world: World) -> None:
    world.sagemaker.run(world.job, TrainingStartTime=START)
    world.reconcile()
    status, shown = stop(world)

    assert (status, shown["status"]) == (200, "running")
    assert shown["stop_requested_at"]
    assert world.sagemaker.jobs[world.job]["TrainingJobStatus"] == "Stopping"
    assert world.steps.executions[world.id]["status"] == "RUNNING"
    assert stop(world) == (200, shown), "a repeated request changes nothing"
    world.sagemaker.jobs[world.job]["TrainingJobStatus"] = "Stopped"
    job_state_changed(sagemaker_event(world.job), world.resources)
    world.reconcile()
    assert world.steps.executions[world.id]["status"] == "RUNNING", "it is registering the model"


def test_without_a_job_the_workflow_is_stopped_and_the_training_ends_without_a_model(world: World) -> None:
    assert stop(world)[0] == 200
    assert world.steps.executions[world.id]["status"] == "ABORTED"
    job_state_changed(execution_event(world.id), world.resources)

    shown = world.get_training()
    assert (shown["status"], shown["error"], shown["checkpoints"]) == ("stopped", STOPPED_BY_MEMBER, [])
    assert (world.open_jobs(), world.reference_count()) == ([], 0)
    assert stop(world)[1]["status"] == "stopped"


def test_a_training_that_was_never_started_ends_immediately(world: World) -> None:
    del world.steps.executions[world.id]
    assert stop(world)[1]["status"] == "stopped"
    world.reconcile(after=timedelta(minutes=10))
    assert world.id not in world.steps.executions


def test_a_job_without_a_workflow_is_stopped_before_its_training_ends(world: World) -> None:
    world.sagemaker.run(world.job, TrainingStartTime=START)
    world.reconcile()
    del world.steps.executions[world.id]
    assert stop(world)[1]["status"] == "running"
    assert world.sagemaker.jobs[world.job]["TrainingJobStatus"] == "Stopping"
    world.sagemaker.jobs[world.job]["TrainingJobStatus"] = "Stopped"
    world.reconcile()
    assert world.get_training()["status"] == "stopped"


def test_a_request_that_aws_refused_is_repeated_by_the_reconciler(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.sagemaker.run(world.job, TrainingStartTime=START)
    world.reconcile()

    def down(**_: str) -> None:
        raise refused("StopTrainingJob", "ThrottlingException")

    with monkeypatch.context() as patched:
        patched.setattr(world.sagemaker, "stop_training_job", down)
        assert stop(world)[0] == 200
    assert world.sagemaker.jobs[world.job]["TrainingJobStatus"] == "InProgress"
    world.reconcile()
    assert world.sagemaker.jobs[world.job]["TrainingJobStatus"] == "Stopping"


@pytest.mark.parametrize("status", [JobStatus.SUCCEEDED, JobStatus.FAILED])
def test_a_training_that_has_ended_cannot_be_stopped(world: World, status: JobStatus) -> None:
    Trainings(world.table).end(space_of(world.client), world.id, status, {})
    code, answer = stop(world)
    assert (code, answer["error"]) == (409, f"The training has {status} already.")
