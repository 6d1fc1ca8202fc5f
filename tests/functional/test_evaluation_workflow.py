"""The steps of the evaluation workflow, as Step Functions calls them: at least once, and maybe late."""

import io
import json
import tarfile
from typing import Any

import pytest
from fastapi.testclient import TestClient

from functions.workflows.evaluation.fail_evaluation import fail_evaluation
from functions.workflows.evaluation.record_evaluation import record_evaluation
from shared.aws.resources import Resources
from shared.errors import JobFailedError
from shared.models.checkpoint import Checkpoint
from shared.models.evaluation import Evaluation, EvaluationCreate
from shared.models.job import CurvePoint, EvaluationResult, Measurement, MetricName
from shared.store.evaluations import Evaluations
from shared.store.jobs import Jobs
from shared.store.table import Table
from tests.fixtures.aws import BUCKET
from tests.fixtures.evaluations import add_checkpoint, add_connector


@pytest.fixture
def space_id(client: TestClient) -> str:
    return str(client.headers["X-Space-Id"])


@pytest.fixture
def benchmark_id(client: TestClient, table: Table, space_id: str) -> str:
    created = client.post(
        "/benchmarks",
        json={
            "name": "Held out",
            "description": "",
            "metrics": ["roc_auc", "log_loss"],
            "task": "binary_classification",
            "connectors": [{"id": add_connector(table, space_id)}],
        },
    )
    return str(created.json()["id"])


@pytest.fixture
def checkpoint(table: Table, space_id: str) -> Checkpoint:
    return add_checkpoint(table, space_id)


@pytest.fixture
def evaluation(table: Table, space_id: str, benchmark_id: str, checkpoint: Checkpoint) -> Evaluation:
    request = EvaluationCreate(benchmark_id=benchmark_id, checkpoint_id=checkpoint.id, gpu_count=0)
    return Evaluations(table).create(space_id, "user", request)


def artifact(**files: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return packed.getvalue()


def result_file(roc_auc: float) -> bytes:
    points = [CurvePoint(threshold=0.5, true_positive_rate=1, false_positive_rate=0)] * 200
    measurement = Measurement(
        metrics={MetricName.ROC_AUC: roc_auc, MetricName.LOG_LOSS: None}, rows=8, positives=3, curve=points
    )
    result = EvaluationResult(measurement=measurement, excluded_training_rows=0, dropped_rows=0, duration_seconds=1)
    return artifact(**{"result.json": result.model_dump_json()})


def finished_job(resources: Resources, space_id: str, evaluation: Evaluation, content: bytes | None) -> dict[str, Any]:
    """What the machine hands to its last step."""
    key = f"spaces/{space_id}/evaluations/{evaluation.id}/output/evaluation-1/output/model.tar.gz"
    if content is not None:
        resources.s3.put_object(Bucket=BUCKET, Key=key, Body=content)
    return {"space_id": space_id, "evaluation_id": evaluation.id, "model_uri": f"s3://{BUCKET}/{key}"}


@pytest.mark.row("EV-1")
def test_a_result_is_recorded_once_however_often_the_step_runs(
    client: TestClient, resources: Resources, space_id: str, evaluation: Evaluation, benchmark_id: str
) -> None:
    event = finished_job(resources, space_id, evaluation, result_file(0.75))
    assert record_evaluation(resources, event)["status"] == "succeeded"
    first = client.get(f"/evaluations/{evaluation.id}").json()

    assert record_evaluation(resources, finished_job(resources, space_id, evaluation, result_file(0.1))) == {
        "space_id": space_id,
        "evaluation_id": evaluation.id,
        "status": "succeeded",
    }
    fail_evaluation(resources, {**event, "error": "States.Timeout", "cause": ""})

    assert client.get(f"/evaluations/{evaluation.id}").json() == first
    assert first["result"]["metrics"] == {"roc_auc": 0.75, "log_loss": None}
    assert len(first["result"]["curve"]) == 200
    row = client.get("/leaderboards").json()["data"][0]
    assert row["benchmarks"] == {benchmark_id: {"roc_auc": 0.75, "log_loss": None}}
    assert row["evaluations"] == {benchmark_id: evaluation.id}
    assert list(Jobs(resources.table).open_jobs()) == []


@pytest.mark.row("EV-1")
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "left no result"),
        (b"no archive", "can't be read"),
        (artifact(other="{}"), "can't be read"),
        (artifact(**{"result.json": json.dumps({"measurement": 1})}), "can't be read"),
    ],
)
def test_a_result_that_is_missing_or_damaged_fails_the_evaluation_in_words(
    client: TestClient,
    resources: Resources,
    space_id: str,
    evaluation: Evaluation,
    content: bytes | None,
    words: str,
) -> None:
    event = finished_job(resources, space_id, evaluation, content)
    with pytest.raises(JobFailedError, match=words) as failed:
        record_evaluation(resources, event)
    cause = json.dumps({"errorType": "JobFailedError", "errorMessage": str(failed.value)})
    assert fail_evaluation(resources, {**event, "error": "JobFailedError", "cause": cause})["status"] == "failed"
    found = client.get(f"/evaluations/{evaluation.id}").json()["result"]
    assert (found["status"], found["error"]) == ("failed", str(failed.value))
    assert client.get("/leaderboards").json()["count"] == 0
    assert list(Jobs(resources.table).open_jobs()) == []


@pytest.mark.row("EV-1")
def test_a_result_that_comes_after_the_evaluation_ended_changes_nothing(
    client: TestClient, resources: Resources, space_id: str, evaluation: Evaluation
) -> None:
    event = finished_job(resources, space_id, evaluation, result_file(0.75))
    fail_evaluation(resources, {**event, "error": "States.Timeout", "cause": ""})
    assert record_evaluation(resources, event)["status"] == "failed"
    assert client.get("/leaderboards").json()["count"] == 0


@pytest.mark.row("EV-1")
def test_a_stopped_job_ends_the_evaluation_stopped(
    client: TestClient, resources: Resources, space_id: str, evaluation: Evaluation
) -> None:
    cause = json.dumps({"TrainingJobStatus": "Stopped", "SecondaryStatus": "Stopped"})
    event = {"space_id": space_id, "evaluation_id": evaluation.id, "error": "States.TaskFailed", "cause": cause}
    assert fail_evaluation(resources, event)["status"] == "stopped"
    assert client.get(f"/evaluations/{evaluation.id}").json()["result"]["status"] == "stopped"
