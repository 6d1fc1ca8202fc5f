"""The steps of the evaluation workflow, as Step Functions calls them: at least once, and maybe late."""

import io
import json
import tarfile
import threading
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from functions.events.reconcile_jobs import clean_up
from functions.jobs.container import Container
from functions.jobs.evaluate.job import evaluate
from functions.workflows.evaluation.fail_evaluation import fail_evaluation
from functions.workflows.evaluation.prepare_evaluation import prepare_evaluation
from functions.workflows.evaluation.record_evaluation import record_evaluation
from shared.dynamodb import large_values
from shared.dynamodb.cleanup_list import GRACE
from shared.dynamodb.table import Table
from shared.errors import JobFailedError
from shared.evaluations import boards
from shared.evaluations.store import Evaluations
from shared.jobs.store import Jobs
from shared.models.checkpoint import Checkpoint
from shared.models.evaluation import Evaluation, EvaluationCreate
from shared.models.job import CurvePoint, EvaluationJob, EvaluationResult, JobFile, Measurement, MetricName
from shared.models.job_status import JobStatus
from shared.models.reading import ReadOptions
from shared.resources import Resources
from shared.settings import Settings
from tests.fixtures.aws import BUCKET
from tests.fixtures.clocks import MovableClock
from tests.fixtures.evaluations import add_checkpoint, add_connector, add_score
from tests.fixtures.trained_models import aws_client, customers, packed, train_model


@pytest.fixture
def space_id(client: TestClient) -> str:
    return str(client.headers["X-Space-Id"])


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"training_image_cpu": "image"})


@pytest.fixture
def connector_id(table: Table, space_id: str, resources: Resources) -> str:
    """Returns a managed connector with a file of customers, and a folder marker."""
    connector_id = add_connector(table, space_id)
    folder = f"spaces/{space_id}/connectors/{connector_id}"
    resources.s3.put_object(Bucket=BUCKET, Key=f"{folder}/customers.csv", Body=customers(300, seed=9).write_csv())
    resources.s3.put_object(Bucket=BUCKET, Key=f"{folder}/empty/", Body=b"")
    return connector_id


@pytest.fixture
def benchmark_id(client: TestClient, connector_id: str) -> str:
    created = client.post(
        "/benchmarks",
        json={
            "name": "Held out",
            "description": "",
            "metrics": ["roc_auc", "log_loss"],
            "task": "binary_classification",
            "connectors": [{"id": connector_id}],
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
    """Returns what the machine hands to its last step."""
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


@pytest.mark.row("LB-1")
def test_recorded_results_are_packed_for_filters_and_outdated_objects_are_removed(
    client: TestClient,
    resources: Resources,
    space_id: str,
    benchmark_id: str,
    evaluation: Evaluation,
    clock: MovableClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(boards, "RECENT_RESULTS", 1)
    monkeypatch.setattr(large_values, "INLINE_BYTES", 0)
    event = finished_job(resources, space_id, evaluation, result_file(0.75))
    for value in (0.5, 0.6):
        record_evaluation(resources, event)
        add_score(resources.table, space_id, add_checkpoint(resources.table, space_id), benchmark_id, roc_auc=value)
    # Two results are packed, and one is not yet.
    page = client.get("/leaderboards", params={"start_date": "2020-01-01"}).json()
    assert (page["count"], [row["order_value"] for row in page["data"]]) == (3, [0.75, 0.6, 0.5])
    folder = f"spaces/{space_id}/leaderboards/"
    assert len(resources.large_values.keys(folder)) == 2
    clock.now += GRACE
    clean_up(resources)
    assert len(resources.large_values.keys(folder)) == 1
    assert client.get("/leaderboards", params={"start_date": "2020-01-01"}).json() == page


@pytest.mark.row("EV-1")
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "left no result"),
        (b"no archive", "can't be read"),
        (artifact(other="{}"), "can't be read"),
        (artifact(**{"result.json": json.dumps({"measurement": 1})}), "can't be read"),
    ],
    ids=["missing", "no archive", "no result", "damaged"],
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


def prepared_job(resources: Resources, plan: dict[str, Any]) -> EvaluationJob:
    key = plan["job_uri"].removeprefix(f"s3://{BUCKET}/") + "job.json"
    return EvaluationJob.model_validate_json(resources.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())


@pytest.mark.row("EV-1")
def test_the_files_are_pinned_and_the_evaluation_runs(
    client: TestClient,
    resources: Resources,
    space_id: str,
    evaluation: Evaluation,
    checkpoint: Checkpoint,
    connector_id: str,
) -> None:
    event = {"space_id": space_id, "evaluation_id": evaluation.id}
    client.put(f"/connectors/{connector_id}", json={"read_options": {"delimiter": ","}})

    plan = prepare_evaluation(resources, event)

    folder = f"s3://{BUCKET}/spaces/{space_id}/evaluations/{evaluation.id}"
    assert plan["job_name_prefix"] == f"evaluation-{evaluation.id}"
    assert plan["job_uri"] == f"{folder}/input/"
    assert plan["output_uri"] == f"{folder}/output/"
    assert plan["model_uri"] == f"s3://{BUCKET}/{checkpoint.artifact.key}"
    job = prepared_job(resources, plan)
    assert [metric.value for metric in job.metrics] == ["roc_auc", "log_loss"]
    [file] = job.datasets[0].files
    current = resources.s3.head_object(Bucket=BUCKET, Key=file.key)
    assert (file.etag, file.size_bytes) == (current["ETag"].strip('"'), current["ContentLength"])
    assert file.read_options == ReadOptions(delimiter=","), "the job reads the file as its owner says"
    assert client.get(f"/evaluations/{evaluation.id}").json()["result"]["status"] == "running"


@pytest.mark.row("EV-1", "BM-4")
def test_a_repeated_preparation_keeps_what_the_first_one_pinned(
    client: TestClient, resources: Resources, space_id: str, evaluation: Evaluation, connector_id: str
) -> None:
    benchmark = f"/benchmarks/{evaluation.benchmark_id}"
    named = [{"id": connector_id, "files": ["customers.csv"]}]
    client.put(benchmark, json={"metrics": ["roc_auc", "ks"], "connectors": named})
    event = {"space_id": space_id, "evaluation_id": evaluation.id}
    plan = prepare_evaluation(resources, event)
    job = prepared_job(resources, plan)

    client.put(benchmark, json={"metrics": ["f1"]})
    resources.s3.put_object(Bucket=BUCKET, Key=job.datasets[0].files[0].key, Body=b"bought\nyes\n")

    assert prepare_evaluation(resources, event) == plan
    assert prepared_job(resources, plan) == job
    assert client.get(f"/evaluations/{evaluation.id}").json()["result"]["benchmark_revision"] == 2
    # It ends after the benchmark has moved on: no row of the new revision comes of it.
    record_evaluation(resources, finished_job(resources, space_id, evaluation, result_file(0.75)))
    assert client.get("/leaderboards").json()["count"] == 0


@pytest.mark.row("EV-1", "BM-4")
def test_a_benchmark_that_changes_while_its_evaluation_is_prepared_is_evaluated_as_it_is_then(
    client: TestClient, resources: Resources, space_id: str, evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, changes = Evaluations.start, iter([["f1"]])

    def overtaken(*arguments: Any) -> Evaluation:
        for metrics in changes:
            client.put(f"/benchmarks/{evaluation.benchmark_id}", json={"metrics": metrics})
        return start(*arguments)

    monkeypatch.setattr(Evaluations, "start", overtaken)
    plan = prepare_evaluation(resources, {"space_id": space_id, "evaluation_id": evaluation.id})
    assert [metric.value for metric in prepared_job(resources, plan).metrics] == ["f1"]
    assert client.get(f"/evaluations/{evaluation.id}").json()["result"]["benchmark_revision"] == 2


@pytest.mark.row("EV-1")
def test_an_evaluation_that_can_not_begin_says_why(
    client: TestClient, resources: Resources, space_id: str, evaluation: Evaluation, connector_id: str
) -> None:
    event = {"space_id": space_id, "evaluation_id": evaluation.id}
    folder = f"spaces/{space_id}/connectors/{connector_id}"
    resources.s3.put_object(Bucket=BUCKET, Key=f"{folder}/customers.csv", Body=b"")
    with pytest.raises(JobFailedError, match="no files with data"):
        prepare_evaluation(resources, event)
    client.delete(f"/benchmarks/{evaluation.benchmark_id}")
    with pytest.raises(JobFailedError, match="benchmark was deleted"):
        prepare_evaluation(resources, event)
    Evaluations(resources.table).end(space_id, evaluation.id, JobStatus.FAILED, "The benchmark was deleted.")
    with pytest.raises(JobFailedError, match="ended failed already"):
        prepare_evaluation(resources, event)
    keys = resources.s3.list_objects_v2(Bucket=BUCKET, Prefix=f"spaces/{space_id}/evaluations/")
    assert keys["KeyCount"] == 0


@pytest.mark.row("EV-1", "LB-1", "X-2", "Y-2")
def test_a_real_model_goes_from_the_benchmark_to_the_leaderboard(
    client: TestClient, resources: Resources, space_id: str, benchmark_id: str, tmp_path: Path
) -> None:
    model = packed(train_model(tmp_path / "training", "lightgbm"))
    resources.s3.put_object(Bucket=BUCKET, Key="model.tar.gz", Body=model)
    artifact = JobFile(bucket=BUCKET, key="model.tar.gz", etag="unused", size_bytes=len(model))

    def evaluated() -> tuple[Checkpoint, dict[str, Any]]:
        checkpoint = add_checkpoint(resources.table, space_id, artifact=artifact, target="bought")
        request = EvaluationCreate(benchmark_id=benchmark_id, checkpoint_id=checkpoint.id, gpu_count=0)
        evaluation = Evaluations(resources.table).create(space_id, "user", request)
        plan = prepare_evaluation(resources, {"space_id": space_id, "evaluation_id": evaluation.id})
        container = Container.of({"SAGEMAKER_BASE_DIR": str(tmp_path / evaluation.id)})
        for folder in (container.model_folder, container.model_channel):
            folder.mkdir(parents=True)
        (container.model_channel / "model.tar.gz").write_bytes(model)
        evaluate(prepared_job(resources, plan), container, threading.Event(), aws_client)
        record_evaluation(resources, finished_job(resources, space_id, evaluation, packed(container.model_folder)))
        return checkpoint, client.get(f"/evaluations/{evaluation.id}").json()["result"]

    checkpoint, result = evaluated()

    assert result["status"] == "succeeded"
    assert result["rows"] == 300
    assert 0.7 < result["metrics"]["roc_auc"] < 1
    curve = result["curve"]
    assert (curve[0]["true_positive_rate"], curve[-1]["true_positive_rate"]) == (0, 1)
    assert set(result["intervals"]) == {"roc_auc", "log_loss"}
    row = client.get("/leaderboards").json()["data"][0]
    assert row["id"] == checkpoint.id
    assert row["average"] == result["metrics"]
    assert row["intervals"][benchmark_id] == result["intervals"]

    # A copy of the model shares its rank, and is not worse.
    copy, _ = evaluated()
    assert {row["id"]: row["rank"] for row in client.get("/leaderboards").json()["data"]} == {
        checkpoint.id: 1,
        copy.id: 1,
    }
    gate = {"required_benchmark_ids": [benchmark_id], "not_worse": {}}
    client.put("/checkpoints/aliases/champion/gate", json=gate).raise_for_status()
    for each in (checkpoint, copy):
        promoted = client.put("/checkpoints/aliases/champion", json={"checkpoint_id": each.id}).json()
    [comparison] = promoted["comparisons"]
    assert (comparison["test"], comparison["difference"], comparison["rows"]) == ("paired_delong", 0.0, 300)
