"""What the workflow does with a stopped training: a model that its job has left becomes a checkpoint."""

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from functions.workflows.training.create_evaluation import create_evaluation
from functions.workflows.training.fail_training import fail_training
from functions.workflows.training.find_training_machine import find_training_machine
from functions.workflows.training.register_checkpoints import register_checkpoints
from shared.dynamodb.table import Table
from shared.jobs.failures import STOPPED_BY_MEMBER
from shared.resources import Resources
from tests.fixtures.sagemaker import FakeSageMaker
from tests.fixtures.training_workflow import World, archive, checkpoint
from tests.fixtures.trainings import add_benchmark, training_request
from tests.functional.conftest import same_caller

pytestmark = pytest.mark.row("X-3")
PARTIAL = "The training was stopped before its end. The checkpoint has what was fitted until then: 120 rounds."


@pytest.fixture
def sagemaker() -> FakeSageMaker:
    return FakeSageMaker()


@pytest.fixture
def world(client: TestClient, resources: Resources, table: Table, sagemaker: FakeSageMaker) -> World:
    resources = Resources(resources.settings, resources.clock, sagemaker=sagemaker)
    return World(same_caller(client, resources), resources, table, training_request(client, table))


def run_until_stopped(
    world: World, sagemaker: FakeSageMaker, why: str = "Stopped", *, asked: bool = True, **model: Any
) -> dict[str, Any]:
    """Returns what follows a job that was stopped, and left a model if there is one."""
    plan = {
        "job_name_prefix": f"training-{world.training['id']}",
        "instance_types": ["ml.m5.2xlarge"],
        "spot": False,
        "output_uri": "s3://bucket/output/",
    }
    found = find_training_machine(world.resources, {**world.event, "plan": plan, "search": {}})
    sagemaker.run(found["job_name"])
    if asked:
        assert world.client.post(f"{world.address}/stop").status_code == 200
    left = {"ModelArtifacts": {"S3ModelArtifacts": world.put_model(**model)["model_uri"]}} if model else {}
    machine = {"ResourceConfig": {"InstanceType": "ml.m5.2xlarge"}, "TrainingTimeInSeconds": 30, **left}
    sagemaker.run(found["job_name"], "Stopped", SecondaryStatus=why, **machine)
    # Step Functions keeps JSON, and need not know what the job left.
    cause = json.dumps({"TrainingJobStatus": "Stopped", "SecondaryStatus": why})
    failure = {"error": "States.TaskFailed", "cause": cause}
    event = {**world.event, **failure, "plan": plan, "search": found["search"]}
    following: dict[str, Any] = json.loads(json.dumps(find_training_machine(world.resources, event)))
    return following


def test_what_was_fitted_becomes_a_checkpoint_that_is_evaluated(world: World, sagemaker: FakeSageMaker) -> None:
    benchmark_id = add_benchmark(world.client, world.connector_id)
    world.client.put(world.address, json={"benchmark_ids": [benchmark_id]})
    following = run_until_stopped(world, sagemaker, notes=[PARTIAL])
    assert following["next"] == "register"
    answers = [register_checkpoints(world.resources, following) for _ in range(2)]

    assert answers[0] == answers[1]
    assert answers[0]["benchmark_ids"] == [benchmark_id]
    shown = world.shown()
    assert (shown["status"], shown["error"], shown["notes"]) == ("stopped", None, [PARTIAL])
    assert (shown["training_seconds"], shown["instance_type"]) == (30, "ml.m5.2xlarge")
    [stored] = shown["checkpoints"]
    assert world.client.get("/checkpoints").json()["data"] == [stored]
    created = create_evaluation(world.resources, {**answers[0], "benchmark_id": benchmark_id})
    assert world.client.get(f"/evaluations/{created['evaluation_id']}").json()["checkpoint_id"] == stored["id"]
    later = add_benchmark(world.client, world.connector_id)
    world.client.put(world.address, json={"benchmark_ids": [benchmark_id, later]})
    assert world.client.get("/evaluations").json()["count"] == 2, "a benchmark that joins is evaluated, too"


@pytest.mark.parametrize(
    ("why", "wanted"),
    [
        ("MaxRuntimeExceeded", "The job exceeded its time limit. Start it again with less data or fewer rounds."),
        ("Stopped", "The job was stopped outside this API."),
    ],
)
def test_what_was_fitted_is_kept_also_if_no_member_stopped_the_job(
    world: World, sagemaker: FakeSageMaker, why: str, wanted: str
) -> None:
    following = run_until_stopped(world, sagemaker, why, asked=False, notes=[PARTIAL])
    register_checkpoints(world.resources, following)
    shown = world.shown()
    assert (shown["status"], shown["error"], len(shown["checkpoints"])) == ("stopped", wanted, 1)


@pytest.mark.parametrize(
    "content", [archive({}), archive({"checkpoint.json": checkpoint()})[:-20]], ids=["empty", "cut off"]
)
def test_a_job_that_left_no_whole_model_ends_without_a_checkpoint(
    world: World, sagemaker: FakeSageMaker, content: bytes
) -> None:
    following = run_until_stopped(world, sagemaker, content=content)
    answers = [register_checkpoints(world.resources, following) for _ in range(2)]
    assert answers == [{**world.event, "checkpoint_id": None, "benchmark_ids": []}] * 2
    shown = world.shown()
    assert (shown["status"], shown["error"], shown["checkpoints"]) == ("stopped", STOPPED_BY_MEMBER, [])


def test_a_job_without_a_model_that_ran_out_of_time_has_failed(world: World, sagemaker: FakeSageMaker) -> None:
    following = run_until_stopped(world, sagemaker, "MaxRuntimeExceeded", asked=False, content=archive({}))
    register_checkpoints(world.resources, following)
    assert world.shown()["status"] == "failed"


def test_a_job_that_was_stopped_before_it_ran_leaves_nothing(world: World, sagemaker: FakeSageMaker) -> None:
    following = run_until_stopped(world, sagemaker)
    assert following["next"] == "fail"
    fail_training(world.resources, {**world.event, **following})
    assert (world.shown()["status"], world.shown()["error"]) == ("stopped", STOPPED_BY_MEMBER)


def test_a_stopped_training_gets_no_other_machine(world: World, sagemaker: FakeSageMaker) -> None:
    world.client.post(f"{world.address}/stop")
    plan = {"job_name_prefix": f"training-{world.training['id']}", "instance_types": ["ml.m5.2xlarge"], "spot": False}
    following = find_training_machine(world.resources, {**world.event, "plan": plan, "search": {}})
    assert following["next"] == "fail"
    fail_training(world.resources, {**world.event, **following})
    assert (world.shown()["status"], world.shown()["error"]) == ("stopped", STOPPED_BY_MEMBER)
