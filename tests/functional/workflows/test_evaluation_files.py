"""Tests that files of evaluations that have ended do not stay, but for their results."""

from datetime import timedelta

import pytest
from fastapi.testclient import TestClient

from functions.events.reconcile_jobs import clean_up
from functions.workflows.evaluation.fail_evaluation import fail_evaluation
from functions.workflows.evaluation.prepare_evaluation import prepare_evaluation
from functions.workflows.evaluation.record_evaluation import record_evaluation
from shared.dynamodb.cleanup_list import GRACE
from shared.resources import Resources
from shared.settings import Settings
from tests.faults.boundary import Boundary, Fault, KilledError
from tests.fixtures.aws import BUCKET
from tests.fixtures.clocks import MovableClock
from tests.fixtures.connectors import Lab
from tests.functional.workflows.helpers import evaluate
from tests.functional.workflows.test_evaluation import result_file

MODEL = "evaluations/output/evaluation-1/output/model.tar.gz"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"training_image_cpu": "image"})


@pytest.fixture
def job(lab: Lab, client: TestClient) -> dict[str, str]:
    """Returns the input of a workflow whose job has left its result."""
    connector_id = lab.connector()
    lab.deliver(lab.put(connector_id, "a.csv", b"age,churned\n30,yes\n40,no\n"))
    lab.work(connector_id)
    body = {"name": "b", "description": "", "metrics": ["roc_auc"], "task": "binary_classification"}
    created = client.post("/benchmarks", json=body | {"connectors": [{"id": connector_id}]})
    assert created.status_code == 201, created.text
    event = evaluate(lab, created.json()["id"])
    prepare_evaluation(lab.resources, event)
    key = f"spaces/{lab.space_id}/evaluations/{event['evaluation_id']}/output/evaluation-1/output/model.tar.gz"
    lab.s3.put_object(Bucket=BUCKET, Key=key, Body=result_file(0.7))
    return {**event, "model_uri": f"s3://{BUCKET}/{key}"}


def files(resources: Resources, space_id: str) -> list[str]:
    """Returns the files of evaluations, without the evaluation's id, and the number of pins as their kind."""
    prefix = f"spaces/{space_id}/"
    listed = resources.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
    parts = [each["Key"].removeprefix(prefix).split("/") for each in listed]
    return sorted("/".join([part[0], *part[2:]]) for part in parts if part[0] in ("pins", "evaluations"))


def clean(lab: Lab, clock: MovableClock) -> list[str]:
    clock.now += GRACE + timedelta(minutes=1)
    clean_up(lab.resources)
    return files(lab.resources, lab.space_id)


@pytest.mark.row("EN-5")
def test_a_failed_evaluation_leaves_no_files(lab: Lab, job: dict[str, str], clock: MovableClock) -> None:
    assert clean(lab, clock) == ["evaluations/input/job.json", MODEL, "pins"]
    fail_evaluation(lab.resources, {**job, "error": "JobFailedError", "cause": "No."})
    assert clean(lab, clock) == []


@pytest.mark.row("EN-5")
def test_an_evaluation_keeps_its_result_only(lab: Lab, job: dict[str, str], clock: MovableClock) -> None:
    record_evaluation(lab.resources, job)
    assert clean(lab, clock) == [MODEL]


@pytest.mark.row("EN-5")
@pytest.mark.parametrize("write", [1, 2, 3])
def test_the_files_of_an_evaluation_are_removed_although_the_worker_is_killed(
    lab: Lab, job: dict[str, str], clock: MovableClock, boundary: Boundary, write: int
) -> None:
    fail_evaluation(lab.resources, {**job, "error": "JobFailedError", "cause": "No."})
    clock.now += GRACE + timedelta(minutes=1)
    with boundary.failing(Fault.LATE_KILLED, at=write), pytest.raises(KilledError):
        clean_up(lab.resources)
    assert clean(lab, clock) == []


@pytest.mark.row("EN-5")
def test_a_request_that_gets_a_running_evaluation_leaves_no_pins(lab: Lab, job: dict[str, str]) -> None:
    before = files(lab.resources, lab.space_id)
    running = lab.client.get(f"/evaluations/{job['evaluation_id']}").json()
    body = {name: running[name] for name in ("benchmark_id", "checkpoint_id", "gpu_count")}
    assert lab.client.post("/evaluations", json=body).json()["id"] == running["id"]
    assert files(lab.resources, lab.space_id) == before
