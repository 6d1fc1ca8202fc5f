"""What goes wrong ends in a terminal state with its reason, and nothing half-written."""

import time
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Thread
from typing import Any

import httpx
import pytest

from infra.local.client import ApiClient, ApiError
from infra.local.emulator import SAVE_SECONDS
from tests.e2e.conftest import JOB_SECONDS, TERMINAL, Lab, Stack
from tests.faults.consistency import find_problems
from tests.faults.stored_items import StoredItems, read_items

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.mark.parametrize(
    ("connector", "reason"),
    [
        ({"target": "no_such_column"}, "no_such_column"),
        ({"target": "foreign_worker", "files": ["one-class.csv"]}, "one class"),
    ],
    ids=["missing target", "one class"],
)
def test_a_training_that_cannot_learn_fails_with_the_reason(lab: Lab, connector: dict[str, Any], reason: str) -> None:
    lab.api.upload(lab.connector_id, {"one-class.csv": b"age,foreign_worker\n" + b"30,yes\n40,yes\n" * 50})

    created = lab.train(connectors=[lab.connector(**connector)])
    training = lab.wait_for(created["id"])

    assert training["status"] == "failed"
    assert reason in training["error"]
    assert training["checkpoints"] == []


@pytest.mark.row("TR-5")
def test_deleting_a_running_training_stops_its_job_within_a_minute(stack: Stack, lab: Lab) -> None:
    model = lab.api.post("/data-models", {"name": "Held by one training"})
    created = lab.train_long(data_model_id=model["id"])
    lab.wait_for(created["id"], "running")
    assert lab.api.send("DELETE", f"/data-models/{model['id']}").status_code == 409
    started = time.monotonic()

    lab.api.delete(f"/trainings/{created['id']}")

    sagemaker = stack.aws("sagemaker")
    while True:
        jobs = sagemaker.list_training_jobs(NameContains=created["id"])["TrainingJobSummaries"]
        if all(job["TrainingJobStatus"] in ("Stopped", "Failed") for job in jobs):
            break
        assert time.monotonic() - started < 60, jobs
        time.sleep(0.5)
    assert lab.api.send("GET", f"/trainings/{created['id']}").status_code == 404
    record = lab.api.wait(
        f"/trainings/{created['id']}?include_deleted=true",
        lambda training: training["status"] in TERMINAL,
        seconds=JOB_SECONDS,
    )
    assert record["status"] == "stopped"
    assert record["checkpoints"] == []
    # What the training held is free again.
    assert lab.api.delete(f"/data-models/{model['id']}") == {"id": model["id"]}


def test_missing_capacity_falls_back_to_the_next_instance_type(faults: Stack, lab: Lab) -> None:
    faults.plan_fault(kind="capacity", instance_type="ml.m5.2xlarge", count=50)

    training = lab.wait_for(lab.train()["id"])

    assert training["status"] == "succeeded", training
    jobs = faults.aws("sagemaker").list_training_jobs(NameContains=training["id"])["TrainingJobSummaries"]
    assert {job["TrainingJobStatus"] for job in jobs} == {"Failed", "Completed"}


def test_capacity_missing_everywhere_fails_with_awss_reason(faults: Stack, lab: Lab) -> None:
    faults.plan_fault(kind="capacity", count=50)

    training = lab.wait_for(lab.train()["id"])

    assert training["status"] == "failed"
    assert "Unable to provision requested ML compute capacity" in training["error"]


def test_a_job_killed_half_way_fails_and_leaves_no_checkpoint(faults: Stack, lab: Lab) -> None:
    created = lab.train_long()
    lab.wait_for(created["id"], "running")

    faults.plan_fault(kind="kill", job_name_prefix=f"training-{created['id']}", count=50)
    training = lab.wait_for(created["id"])

    assert training["status"] == "failed"
    assert training["error"]
    assert training["checkpoints"] == []


@pytest.mark.row("Y-9")
def test_statuses_converge_with_no_webhook_and_no_workflow(stack: Stack, lab: Lab) -> None:
    """Given that nothing reports any more, when the sweeper runs, then it finds the truth in AWS."""
    api_process = stack.launcher.service("API")
    api_process.stop()
    try:
        finished = lab.wait_for(lab.train()["id"])
        orphan = lab.train_long()
        lab.wait_for(orphan["id"], "running")
        for rule in stack.aws("events").list_rules()["Rules"]:
            stack.aws("events").disable_rule(Name=rule["Name"])
        states = stack.aws("stepfunctions")
        machine = stack.outputs["TrainingStateMachineArn"]
        execution = f"{machine.replace(':stateMachine:', ':execution:')}:{orphan['id']}"
        states.stop_execution(executionArn=execution, error="Lost", cause="the workflow was ended from outside")
        for job in stack.aws("sagemaker").list_training_jobs(NameContains=orphan["id"])["TrainingJobSummaries"]:
            stack.aws("sagemaker").stop_training_job(TrainingJobName=job["TrainingJobName"])

        def settled(_: Any) -> bool:
            stack.invoke("reconcile-jobs", {})
            return lab.training(orphan["id"])["status"] in ("failed", "stopped")

        lab.api.wait(f"/trainings/{orphan['id']}", settled, seconds=JOB_SECONDS, every=2.0)
    finally:
        for rule in stack.aws("events").list_rules()["Rules"]:
            stack.aws("events").enable_rule(Name=rule["Name"])
        stack.restart()

    assert finished["status"] == "succeeded", finished


def test_what_was_acknowledged_outlives_an_emulator_that_is_ended_amid_writes(stack: Stack, lab: Lab) -> None:
    api = at_hand(stack, lab)
    before = api.get("/trainings", pageSize=100)
    files = api.get(f"/connectors/{lab.connector_id}/files")
    known = problems(stack)

    made = written_until_the_end(api, lambda _: stack.launcher.service("emulator").process.terminate())
    stack.restart()

    assert api.get("/trainings", pageSize=100) == before
    assert api.get(f"/connectors/{lab.connector_id}/files") == files
    assert {*made} <= {row["id"] for row in api.rows("/data-models")}
    # What was under way is given time to end.
    wait_until(lambda: problems(stack) <= known, 60)
    assert problems(stack) <= known
    assert httpx.get(f"{stack.url}/health", timeout=30, trust_env=False).json() == {"status": "ok"}
    # What is written from then on still reaches those who follow the table.
    model = api.post("/data-models", {"name": "Made after the restart"})
    log = f"/audit-logs?entity=data_model&entity_id={model['id']}"
    assert api.wait(log, lambda page: page["count"] > 0, seconds=JOB_SECONDS)["data"][0]["action"] == "created"


def test_an_emulator_that_is_killed_amid_writes_loses_the_last_of_them_and_leaves_none_by_half(
    stack: Stack, lab: Lab
) -> None:
    """Unlike AWS it keeps what it acknowledged only from one save to the next."""
    api = at_hand(stack, lab)
    saved = stack.settings.directory / "state/dynamodb.json"
    known = problems(stack)

    def kill_after_a_save(made: list[str]) -> None:
        wait_until(lambda: made[0] in saved.read_text(), 3 * SAVE_SECONDS)
        stack.launcher.service("emulator").process.kill()

    made = written_until_the_end(api, kill_after_a_save)
    stack.restart()

    kept = {row["id"] for row in api.rows("/data-models")}
    survivors = [each for each in made if each in kept]
    assert survivors
    assert survivors == made[: len(survivors)]
    # What was under way is given time to end.
    wait_until(lambda: problems(stack) <= known, 60)
    assert problems(stack) <= known


def at_hand(stack: Stack, lab: Lab) -> ApiClient:
    """The lab's user at the server that runs all functions in one process, and has none to start after a restart."""
    return ApiClient(stack.settings.api_url, lab.api.token, lab.api.space_id)


def written_until_the_end(api: ApiClient, end: Callable[[list[str]], None]) -> list[str]:
    """What a client was told it had made when the emulator came to its end, in that order."""
    made: list[str] = []
    is_over = Event()

    def write() -> None:
        with suppress(ApiError, httpx.HTTPError):
            while not is_over.is_set():
                made.append(api.post("/data-models", {"name": f"Model {len(made)}"})["id"])

    writer = Thread(target=write)
    writer.start()
    wait_until(lambda: len(made) >= 20, 60)
    end(made)
    # An emulator that is asked to end does so once nobody asks anything of it any more.
    writer.join(1)
    is_over.set()
    writer.join(60)
    assert not writer.is_alive()
    return made


def problems(stack: Stack) -> set[str]:
    """What does not agree in the table.

    Not in the audit log: the emulator forgets the streams at its end, and a row may have been on its way from there.
    """
    found = find_problems(StoredItems(read_items(stack.aws("dynamodb"), stack.outputs["TableName"])))
    return {each for each in found if not each.startswith("audit row")}


def wait_until(reached: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not reached() and time.monotonic() < deadline:
        time.sleep(0.2)
