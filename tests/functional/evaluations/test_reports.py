"""The report of an evaluation: one HTML file with all that is known of it."""

import numpy as np
import pytest
from fastapi.testclient import TestClient

from functions.jobs.modelling.metrics import measure_all
from shared.dynamodb.table import Table
from shared.evaluations.store import Evaluations
from shared.models.evaluation import Evaluation, EvaluationCreate
from shared.models.job import EvaluationResult, JobFile, MetricName, ReportedFile
from shared.models.job_status import JobStatus
from tests.fixtures.evaluations import add_checkpoint, add_connector, add_member
from tests.fixtures.reports import HOSTILE, safe_page
from tests.fixtures.trainings import add_benchmark, space_of
from tests.functional.conftest import ClientMaker

pytestmark = pytest.mark.row("UI-2")


@pytest.fixture
def evaluation(client: TestClient, table: Table) -> Evaluation:
    benchmark = add_benchmark(client, add_connector(table, space_of(client)))
    name = HOSTILE.replace("\x00", "")
    client.put(f"/benchmarks/{benchmark}", json={"name": name}).raise_for_status()
    checkpoint = add_checkpoint(table, space_of(client), name=name)
    request = EvaluationCreate(benchmark_id=benchmark, checkpoint_id=checkpoint.id, gpu_count=0)
    return Evaluations(table).create(space_of(client), "user", request)


def result() -> EvaluationResult:
    random = np.random.default_rng(0)
    chances = random.beta(1, 3, 1000)
    labels = random.random(1000) < chances
    file = JobFile(bucket="b", key="k", etag="e", version_id="v-1", size_bytes=12_345, name=HOSTILE)
    return EvaluationResult(
        measurement=measure_all(labels, chances, chances**2, 0.4),
        threshold=0.4,
        files=ReportedFile.of([file]),
        file_count=120,
        excluded_training_rows=3,
        dropped_rows=0,
        duration_seconds=1,
        warnings=[HOSTILE],
    )


def test_a_report_shows_metrics_curves_calibration_warnings_and_versions(
    client: TestClient, table: Table, evaluation: Evaluation
) -> None:
    found = result()
    Evaluations(table).succeed(space_of(client), evaluation.id, found)
    shown = client.get(f"/evaluations/{evaluation.id}").json()["result"]

    page = safe_page(client.get(f"/evaluations/{evaluation.id}/report"))

    visible = HOSTILE.replace("\x00", "\ufffd")
    assert {visible, "v-1", "12,345", "The first 1 of 120 files."} <= set(page.texts)
    assert shown["files"] == [{"name": HOSTILE, "version": "v-1", "size_bytes": 12_345}]
    assert len(page.charts) == 10
    assert "without calibration" in page.texts
    interval = found.measurement.intervals[MetricName.ROC_AUC]
    assert f"{interval.low:.4f} to {interval.high:.4f}" in page.texts
    assert shown["calibration"]["slope"] == pytest.approx(found.measurement.calibration.slope)  # type: ignore[union-attr]
    assert shown["raw_calibration"]["bins"]
    # Exact, by recall and accuracy.
    position = page.texts.index("called negative")
    cells = [int(text.replace(",", "")) for text in page.texts[position:] if text.replace(",", "").isdigit()][:4]
    assert (sum(cells), cells[0] + cells[1]) == (1000, found.measurement.positives)
    assert cells[0] == round((found.measurement.metrics[MetricName.RECALL] or 0) * found.measurement.positives)
    listed = client.get("/evaluations").json()["data"][0]["result"]
    assert (listed["calibration"], listed["files"], listed["threshold"]) == (None, [], 0.4)


def test_an_evaluation_without_a_result_has_a_report_of_why(
    client: TestClient, table: Table, evaluation: Evaluation
) -> None:
    address = f"/evaluations/{evaluation.id}/report"
    assert "Metrics" not in safe_page(client.get(address)).texts
    Evaluations(table).end(space_of(client), evaluation.id, JobStatus.FAILED, "<i>No rows.</i>")
    client.delete(f"/benchmarks/{evaluation.benchmark_id}")
    page = safe_page(client.get(address))
    assert {"It ended without a result: <i>No rows.</i>", "The benchmark was deleted."} <= set(page.texts)


def test_only_the_owner_and_the_creator_get_a_report(
    client: TestClient, table: Table, evaluation: Evaluation, sign_in: ClientMaker
) -> None:
    member = sign_in("member")
    add_member(table, member, space_of(client), ["evaluations:create"])
    assert member.get(f"/evaluations/{evaluation.id}/report").status_code == 403
