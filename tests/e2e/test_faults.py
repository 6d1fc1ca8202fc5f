"""Tests that a job that fails gets a terminal status and a reason, and that all data is consistent afterwards."""

import time
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Thread
from typing import Any

import httpx
import pytest

from infra.local.client import ApiClient, ApiResponseError
from infra.local.emulator import SAVE_SECONDS
from tests.e2e.conftest import JOB_SECONDS, TERMINAL, Stack, TrainingSpace
from tests.faults.consistency import find_problems
from tests.faults.stored_items import StoredItems, read_items

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.mark.parametrize(
    ("connector", "reason"),
    [
        ({"target": "no_such_column"}, "no_such_column"),
        ({"target": "foreign_worker", "files": ["one-class.csv"]}, "only one label"),
    ],
    ids=["missing target", "only one label"],
)
def test_a_training_with_an_unusable_target_fails_with_the_reason(
    space: TrainingSpace, connector: dict[str, Any], reason: str
) -> None:
    space.api.upload(space.connector_id, {"one-class.csv": b"age,foreign_worker\n" + b"30,yes\n40,yes\n" * 50})

    created = space.train(connectors=[space.connector(**connector)])
    training = space.wait_for(created["id"])

    assert training["status"] == "failed"
    assert reason in training["error"]
    assert training["checkpoints"] == []


@pytest.mark.row("TR-5")
def test_deleting_a_running_training_stops_its_job_within_a_minute(stack: Stack, space: TrainingSpace) -> None:
    model = space.api.post("/data-models", {"name": "Used by one training"})
    created = space.train_long(data_model_id=model["id"])
    space.wait_for(created["id"], "running")
    assert space.api.send("DELETE", f"/data-models/{model['id']}").status_code == 409
    started = time.monotonic()

    space.api.delete(f"/trainings/{created['id']}")

    sagemaker = stack.aws("sagemaker")
    while True:
        jobs = sagemaker.list_training_jobs(NameContains=created["id"])["TrainingJobSummaries"]
        if all(job["TrainingJobStatus"] in ("Stopped", "Failed") for job in jobs):
            break
        assert time.monotonic() - started < 60, jobs
        time.sleep(0.5)
    assert space.api.send("GET", f"/trainings/{created['id']}").status_code == 404
    record = space.api.wait(
        f"/trainings/{created['id']}?include_deleted=true",
        lambda training: training["status"] in TERMINAL,
        seconds=JOB_SECONDS,
    )
    assert record["status"] == "stopped"
    assert record["checkpoints"] == []
    # The deleted training no longer prevents the deletion of its data model.
    assert space.api.delete(f"/data-models/{model['id']}") == {"id": model["id"]}


def test_a_training_without_capacity_uses_the_next_instance_type(faults: Stack, space: TrainingSpace) -> None:
    faults.plan_fault(kind="capacity", instance_type="ml.m5.2xlarge", count=50)

    training = space.wait_for(space.train()["id"])

    assert training["status"] == "succeeded", training
    jobs = faults.aws("sagemaker").list_training_jobs(NameContains=training["id"])["TrainingJobSummaries"]
    assert {job["TrainingJobStatus"] for job in jobs} == {"Failed", "Completed"}


def test_a_training_without_capacity_for_any_instance_type_fails_with_the_reason_of_aws(
    faults: Stack, space: TrainingSpace
) -> None:
    faults.plan_fault(kind="capacity", count=50)

    training = space.wait_for(space.train()["id"])

    assert training["status"] == "failed"
    assert "Unable to provision requested ML compute capacity" in training["error"]


def test_a_training_with_a_killed_job_fails_without_a_checkpoint(faults: Stack, space: TrainingSpace) -> None:
    created = space.train_long()
    space.wait_for(created["id"], "running")

    faults.plan_fault(kind="kill", job_name_prefix=f"training-{created['id']}", count=50)
    training = space.wait_for(created["id"])

    assert training["status"] == "failed"
    assert training["error"]
    assert training["checkpoints"] == []


@pytest.mark.row("Y-9")
def test_the_reconciler_corrects_statuses_without_webhooks_and_workflows(stack: Stack, space: TrainingSpace) -> None:
    api_process = stack.launcher.service("API")
    api_process.stop()
    try:
        finished = space.wait_for(space.train()["id"])
        orphan = space.train_long()
        space.wait_for(orphan["id"], "running")
        for rule in stack.aws("events").list_rules()["Rules"]:
            stack.aws("events").disable_rule(Name=rule["Name"])
        states = stack.aws("stepfunctions")
        machine = stack.outputs["TrainingStateMachineArn"]
        execution = f"{machine.replace(':stateMachine:', ':execution:')}:{orphan['id']}"
        states.stop_execution(executionArn=execution, error="Lost", cause="a test stopped the workflow")
        for job in stack.aws("sagemaker").list_training_jobs(NameContains=orphan["id"])["TrainingJobSummaries"]:
            stack.aws("sagemaker").stop_training_job(TrainingJobName=job["TrainingJobName"])

        def has_ended(_: Any) -> bool:
            stack.invoke("reconcile-jobs", {})
            return space.training(orphan["id"])["status"] in ("failed", "stopped")

        space.api.wait(f"/trainings/{orphan['id']}", has_ended, seconds=JOB_SECONDS, every=2.0)
    finally:
        for rule in stack.aws("events").list_rules()["Rules"]:
            stack.aws("events").enable_rule(Name=rule["Name"])
        stack.restart()

    assert finished["status"] == "succeeded", finished


def test_acknowledged_writes_survive_a_restart_of_the_emulator(stack: Stack, space: TrainingSpace) -> None:
    api = client_of_one_process(stack, space)
    before = api.get("/trainings", pageSize=100)
    files = api.get(f"/connectors/{space.connector_id}/files")
    known = problems(stack)

    made = write_until_the_end(api, lambda _: stack.launcher.service("emulator").process.terminate())
    stack.restart()

    assert api.get("/trainings", pageSize=100) == before
    assert api.get(f"/connectors/{space.connector_id}/files") == files
    assert {*made} <= {row["id"] for row in api.rows("/data-models")}
    # Functions and workflows that still run need time to end.
    wait_until(lambda: problems(stack) <= known, 60)
    assert problems(stack) <= known
    assert httpx.get(f"{stack.url}/health", timeout=30, trust_env=False).json() == {"status": "ok"}
    # Readers of the table's stream also receive writes after the restart.
    model = api.post("/data-models", {"name": "Made after the restart"})
    log = f"/audit-logs?entity=data_model&entity_id={model['id']}"
    assert api.wait(log, lambda page: page["count"] > 0, seconds=JOB_SECONDS)["data"][0]["action"] == "created"


def test_a_killed_emulator_loses_only_whole_writes_and_only_the_last_ones(stack: Stack, space: TrainingSpace) -> None:
    # AWS keeps all acknowledged writes. A killed emulator keeps only the writes that it has saved.
    api = client_of_one_process(stack, space)
    saved = stack.settings.directory / "state/dynamodb.json"
    known = problems(stack)

    def kill_after_a_save(made: list[str]) -> None:
        wait_until(lambda: made[0] in saved.read_text(), 3 * SAVE_SECONDS)
        stack.launcher.service("emulator").process.kill()

    made = write_until_the_end(api, kill_after_a_save)
    stack.restart()

    kept = {row["id"] for row in api.rows("/data-models")}
    survivors = [each for each in made if each in kept]
    assert survivors
    assert survivors == made[: len(survivors)]
    # Functions and workflows that still run need time to end.
    wait_until(lambda: problems(stack) <= known, 60)
    assert problems(stack) <= known


def client_of_one_process(stack: Stack, space: TrainingSpace) -> ApiClient:
    """Returns a client of the development server, which starts no functions after a restart."""
    return ApiClient(stack.settings.api_url, space.api.token, space.api.space_id)


def write_until_the_end(api: ApiClient, end: Callable[[list[str]], None]) -> list[str]:
    """Creates data models until the emulator ends. Returns the ids of the acknowledged ones in order."""
    made: list[str] = []
    has_ended = Event()

    def write() -> None:
        with suppress(ApiResponseError, httpx.HTTPError):
            while not has_ended.is_set():
                made.append(api.post("/data-models", {"name": f"Model {len(made)}"})["id"])

    writer = Thread(target=write)
    writer.start()
    wait_until(lambda: len(made) >= 20, 60)
    end(made)
    # The emulator ends only when it receives no more requests.
    writer.join(1)
    has_ended.set()
    writer.join(60)
    assert not writer.is_alive()
    return made


def problems(stack: Stack) -> set[str]:
    """Returns the inconsistencies of the table.

    The audit log is excluded: the emulator does not store the streams, so rows can be missing after a restart.
    """
    found = find_problems(StoredItems(read_items(stack.aws("dynamodb"), stack.outputs["TableName"])))
    return {each for each in found if not each.startswith("audit row") and "the audit log" not in each}


def wait_until(reached: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not reached() and time.monotonic() < deadline:
        time.sleep(0.2)
