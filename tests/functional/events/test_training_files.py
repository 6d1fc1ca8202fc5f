"""Tests that files of trainings that have ended or were deleted do not stay."""

from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from functions.events.reconcile_jobs import clean_up, reconcile_jobs
from functions.workflows.training.check_training import check_training
from functions.workflows.training.fail_training import fail_training
from functions.workflows.training.register_checkpoints import register_checkpoints
from shared.dynamodb.cleanup_list import GRACE
from shared.dynamodb.table import Table
from shared.resources import Resources
from shared.trainings.store import KEPT_AFTER_DELETION
from tests.faults.boundary import Boundary, Fault, KilledError
from tests.fixtures.aws import BUCKET
from tests.fixtures.clocks import MovableClock
from tests.fixtures.training_workflow import World
from tests.fixtures.trainings import space_of, training_request

LOST = {"error": "JobFailedError", "cause": "No."}


@pytest.fixture
def world(client: TestClient, resources: Resources, table: Table) -> World:
    return World(client, resources, table, training_request(client, table))


def run_job(world: World) -> dict[str, Any]:
    """Leaves what a job and its request leave: pins, a specification, saved models, a model. Returns its event."""
    world.upload("a.csv")
    check_training(world.resources, world.event)
    folder = f"spaces/{space_of(world.client)}/trainings/{world.training['id']}"
    world.resources.s3.put_object(Bucket=BUCKET, Key=f"{folder}/checkpoints/member-0.txt", Body=b"tree")
    return world.put_model()


def files(world: World) -> list[str]:
    """Returns the files of trainings in the space, by their folders and names."""
    prefix = f"spaces/{space_of(world.client)}/"
    listed = world.resources.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
    parts = [each["Key"].removeprefix(prefix).split("/") for each in listed]
    return [part[0] if part[0] == "pins" else "/".join(part[2:]) for part in parts if part[0] in ("pins", "trainings")]


def clean(world: World, clock: MovableClock) -> list[str]:
    clock.now += GRACE + timedelta(minutes=1)
    clean_up(world.resources)
    return files(world)


@pytest.mark.row("EN-5")
def test_a_failed_training_leaves_no_files(world: World, clock: MovableClock) -> None:
    run_job(world)
    assert clean(world, clock) == [
        "pins",
        "checkpoints/member-0.txt",
        "input/job.json",
        "output/job/output/model.tar.gz",
    ]
    fail_training(world.resources, {**world.event, **LOST})
    assert clean(world, clock) == []
    assert world.shown()["status"] == "failed"


@pytest.mark.row("EN-5", "TR-5")
@pytest.mark.parametrize("ends_before", [True, False])
def test_a_deleted_training_without_a_model_leaves_no_files(
    world: World, clock: MovableClock, ends_before: bool
) -> None:
    run_job(world)
    if ends_before:
        fail_training(world.resources, {**world.event, **LOST})
    world.client.delete(world.address)
    if not ends_before:
        assert len(clean(world, clock)) == 4, "its job may still run"
        reconcile_jobs(world.resources, 30)
    assert clean(world, clock) == []


@pytest.mark.row("EN-5", "TR-5")
def test_a_checkpoint_keeps_its_model_and_the_specification_of_its_job(world: World, clock: MovableClock) -> None:
    register_checkpoints(world.resources, run_job(world))
    kept = ["pins", "input/job.json", "output/job/output/model.tar.gz"]
    assert clean(world, clock) == kept
    world.client.delete(world.address)
    assert clean(world, clock) == kept
    clock.now += KEPT_AFTER_DELETION
    assert clean(world, clock) == kept


@pytest.mark.row("EN-5")
@pytest.mark.parametrize("write", [1, 2, 3])
def test_the_files_of_a_training_are_removed_although_the_worker_is_killed(
    world: World, clock: MovableClock, boundary: Boundary, write: int
) -> None:
    run_job(world)
    fail_training(world.resources, {**world.event, **LOST})
    clock.now += GRACE + timedelta(minutes=1)
    with boundary.failing(Fault.LATE_KILLED, at=write), pytest.raises(KilledError):
        clean_up(world.resources)
    assert clean(world, clock) == []


@pytest.mark.row("EN-5")
def test_pins_that_a_change_replaced_do_not_stay(world: World) -> None:
    world.upload("a.csv")
    world.upload("b.csv")
    connector = {"connector_id": world.connector_id, "files": ["b.csv"]}
    assert world.training["status"] == "pending"
    assert files(world) == ["pins"]
    response = world.client.patch(world.address, json={"connector": connector})
    assert response.status_code == 200, response.text
    assert files(world) == ["pins"]
