"""Gates that compare a checkpoint with the present one on the rows that both evaluations scored."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
from fastapi.testclient import TestClient

from shared.dynamodb.repository import Repository
from shared.dynamodb.table import Table
from shared.models.checkpoint import Checkpoint
from shared.models.evaluation import Evaluation, EvaluationOutcome
from shared.models.job import JobFile, MetricName
from shared.models.job_status import JobStatus
from shared.propensity.influences import Array, ScoredRows, influence
from shared.propensity.scored_rows import ScoreKeys, write_scores
from tests.fixtures.aws import BUCKET
from tests.fixtures.evaluations import add_checkpoint, add_connector, add_result
from tests.fixtures.scored_rows import scored_rows
from tests.fixtures.trainings import add_benchmark, space_of

pytestmark = pytest.mark.row("GV-2", "Y-2")
CHAMPION = "/checkpoints/aliases/champion"
ROWS = 3000
KEYS = np.arange(ROWS, dtype=np.uint64)
Measure = Callable[..., Checkpoint]


def signals() -> tuple[np.ndarray[Any, np.dtype[np.bool_]], Array]:
    random = np.random.default_rng(0)
    log_odds = random.normal(size=ROWS)
    return random.random(ROWS) < 1 / (1 + np.exp(-1.5 * log_odds)), log_odds


def noisy(noise: float, seed: int = 1) -> ScoredRows:
    positive, log_odds = signals()
    return scored_rows(positive, log_odds + noise * np.random.default_rng(seed).normal(size=ROWS))


def blurred(rows: ScoredRows, noise: float) -> ScoredRows:
    log_odds = np.log(rows.probabilities / (1 - rows.probabilities))
    return scored_rows(rows.positive, log_odds + noise * np.random.default_rng(5).normal(size=ROWS))


@pytest.fixture
def benchmark(client: TestClient, table: Table) -> str:
    return add_benchmark(client, add_connector(table, space_of(client)))


@pytest.fixture
def measure(client: TestClient, table: Table, benchmark: str, tmp_path: Path) -> Measure:
    """Returns a function that stores a checkpoint with a result, and the scores of its rows as the job leaves them."""

    def make(rows: ScoredRows, keys: ScoreKeys = KEYS, content: bytes | None = None) -> Checkpoint:
        space_id = space_of(client)
        checkpoint = add_checkpoint(table, space_id)
        evaluation_id = add_result(table, space_id, checkpoint, benchmark, rows, keys)
        write_scores(tmp_path, keys, rows)
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            archive.add(tmp_path / "scores.npy", "scores.npy")
        body = packed.getvalue() if content is None else content
        key = f"spaces/{space_id}/evaluations/{evaluation_id}/output/job/output/model.tar.gz"
        etag = boto3.client("s3").put_object(Bucket=BUCKET, Key=key, Body=body)["ETag"].strip('"')
        evaluation = Evaluation(
            id=evaluation_id,
            created_at=checkpoint.created_at,
            updated_at=checkpoint.created_at,
            benchmark_id=benchmark,
            checkpoint_id=checkpoint.id,
            created_by="somebody",
            gpu_count=0,
            result=EvaluationOutcome(status=JobStatus.SUCCEEDED, benchmark_revision=1),
            artifact=JobFile(bucket=BUCKET, key=key, etag=etag, size_bytes=len(body)),
            updated_by="somebody",
        )
        Repository(table, Evaluation, kind="evaluation").create(space_id, evaluation)
        return checkpoint

    return make


def promote(client: TestClient, checkpoint: Checkpoint) -> Any:
    return client.put(CHAMPION, json={"checkpoint_id": checkpoint.id})


def set_gate(client: TestClient, benchmark: str, **rule: Any) -> None:
    gate = {"required_benchmark_ids": [benchmark], "not_worse": rule}
    client.put(f"{CHAMPION}/gate", json=gate).raise_for_status()


@pytest.mark.parametrize("metric", ["roc_auc", "log_loss", "ks"])
def test_a_checkpoint_is_worse_if_a_paired_test_says_so(
    client: TestClient, measure: Measure, benchmark: str, metric: str
) -> None:
    set_gate(client, benchmark, metric=metric)
    first = promote(client, measure(noisy(0.3))).json()
    assert first["comparisons"] == []
    refused = promote(client, measure(noisy(2.0)))
    assert (refused.status_code, refused.json()["code"]) == (409, "promotion_refused")
    assert "3000 common rows" in refused.json()["error"]
    [comparison] = promote(client, measure(noisy(0.2, seed=2))).json()["comparisons"]
    assert comparison["test"] == ("paired_delong" if metric == "roc_auc" else "paired_difference")
    assert comparison["lowest_difference"] < comparison["difference"] < comparison["highest_difference"]
    assert comparison["highest_difference"] > 0
    assert (comparison["rows"], comparison["against_checkpoint_id"]) == (ROWS, first["checkpoint_id"])
    assert client.get(CHAMPION).json()["comparisons"] == [comparison]


def test_pairs_show_a_difference_that_single_results_hide(client: TestClient, measure: Measure, benchmark: str) -> None:
    better = noisy(0.5)
    worse = blurred(better, 0.35)
    values = [influence(MetricName.ROC_AUC, rows) for rows in (better, worse)]
    (area, error), (other_area, other_error) = ((each.value, each.error) for each in values if each)
    # Two results of rows of their own would be equal, as far as one could tell.
    assert (area - other_area) / np.hypot(error, other_error) < 1.5
    set_gate(client, benchmark)
    promote(client, measure(better)).raise_for_status()
    assert promote(client, measure(worse)).status_code == 409


def test_a_copy_is_never_worse(client: TestClient, measure: Measure, benchmark: str) -> None:
    set_gate(client, benchmark, confidence=0.5)
    promote(client, measure(noisy(0.5))).raise_for_status()
    [comparison] = promote(client, measure(noisy(0.5))).json()["comparisons"]
    assert (comparison["p_value"], comparison["difference"]) == (1.0, 0.0)


def test_only_rows_that_both_scored_are_compared(client: TestClient, measure: Measure, benchmark: str) -> None:
    """A checkpoint that was fitted on a part of the benchmark is measured on the rest, which may be easier."""
    set_gate(client, benchmark)
    rows = noisy(0.5)
    promote(client, measure(rows)).raise_for_status()
    hard = np.abs(rows.probabilities - 0.5) < 0.2
    part = ScoredRows(rows.positive[hard], rows.probabilities[hard], rows.called[hard])
    accepted = promote(client, measure(part, KEYS[hard]))
    [comparison] = accepted.json()["comparisons"]
    assert comparison["value"] < comparison["against"] - 0.05
    assert (comparison["rows"], comparison["difference"]) == (int(hard.sum()), 0.0)


@pytest.mark.parametrize("content", [b"no archive", b""])
def test_without_scores_the_values_are_compared(
    client: TestClient, measure: Measure, benchmark: str, content: bytes
) -> None:
    set_gate(client, benchmark, metric="log_loss", largest_drop=10)
    promote(client, measure(noisy(0.3))).raise_for_status()
    [comparison] = promote(client, measure(noisy(0.5), content=content)).json()["comparisons"]
    assert (comparison["test"], comparison["p_value"], comparison["rows"]) == ("values", None, None)
    assert comparison["difference"] == pytest.approx(comparison["against"] - comparison["value"])
    set_gate(client, benchmark, metric="log_loss")
    assert promote(client, measure(noisy(0.7), content=content)).status_code == 409
