"""What goes wrong ends in a terminal state with its reason, and nothing half-written."""

import time
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import JOB_SECONDS, TERMINAL, Lab, Stack

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


def test_a_restart_keeps_the_data(stack: Stack, lab: Lab) -> None:
    before = lab.api.get("/trainings", pageSize=100)
    files = lab.api.get(f"/connectors/{lab.connector_id}/files")

    stack.restart()

    assert lab.api.get("/trainings", pageSize=100) == before
    assert lab.api.get(f"/connectors/{lab.connector_id}/files") == files
    assert httpx.get(f"{stack.url}/health", timeout=30, trust_env=False).json() == {"status": "ok"}
    # What is written from then on still reaches those who follow the table.
    model = lab.api.post("/data-models", {"name": "Made after the restart"})
    log = f"/audit-logs?entity=data_model&entity_id={model['id']}"
    assert lab.api.wait(log, lambda page: page["count"] > 0, seconds=JOB_SECONDS)["data"][0]["action"] == "created"
