"""Calibrations and thresholds from the training to the scores of a checkpoint."""

import tarfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from functions.jobs.evaluate.job import evaluate
from functions.jobs.train.job import train
from shared.models.job import EvaluationResult, JobFile, MetricName
from shared.propensity.checkpoints import CALIBRATED_VERSION, FORMAT_VERSION, Scorer
from tests.functional.jobs.conftest import Box, Cloud, training
from tests.functional.jobs.test_evaluate import evaluation
from tests.functional.jobs.test_train import customers

# So much of a penalty pulls all probabilities towards the mean.
WEAK = {"penalty": 3000, "knots": 0, "ensemble_size": 2}


def trained(box: Box, file: JobFile, **configuration: Any) -> Scorer:
    """Returns the scorer of a scorecard that is fitted on the file."""
    job = training([file], architecture="additive", configuration=WEAK | configuration)
    train(job, box.container, threading.Event(), box.cloud.client)
    return Scorer(box.container.model_folder)


@pytest.mark.row("XP-4", "ML-4")
@pytest.mark.parametrize("calibration", ["automatic", "isotonic"])
def test_calibrated_scores_beat_raw_ones(tmp_path: Path, box: Box, cloud: Cloud, calibration: str) -> None:
    file = cloud.put_frame("a.csv", customers(4000))
    raw = trained(Box(tmp_path / "raw", cloud), file, calibration="none")
    scorer = trained(box, file, calibration=calibration)
    checkpoint = scorer.checkpoint
    measured, before = checkpoint.measurement.calibration, checkpoint.measurement.raw_calibration

    assert checkpoint.calibration is not None
    assert checkpoint.calibration.kind == ("logistic" if calibration == "automatic" else "isotonic")
    assert (checkpoint.format_version, raw.checkpoint.format_version) == (CALIBRATED_VERSION, FORMAT_VERSION)
    assert measured is not None
    assert before is not None
    assert before == raw.checkpoint.measurement.calibration
    assert measured.brier < before.brier
    assert measured.expected_error < before.expected_error
    assert abs((measured.slope or 0) - 1) < abs((before.slope or 0) - 1) / 2
    areas = [each.checkpoint.measurement.metrics[MetricName.ROC_AUC] for each in (scorer, raw)]
    assert areas[0] == pytest.approx(areas[1], abs=1e-6)
    assert any("calibrated by" in note for note in checkpoint.notes)
    # Contributions explain the probability that is returned.
    rows = customers(20, seed=8).to_dicts()
    matrix = checkpoint.features.encode_rows(rows)
    log_odds = [each.base_value + sum(each.contributions.values()) for each in scorer.explain(matrix)]
    assert 1 / (1 + np.exp(-np.array(log_odds))) == pytest.approx(scorer.probabilities(matrix))


@pytest.mark.row("ML-4")
def test_an_evaluation_measures_calibrated_and_raw_probabilities(tmp_path: Path, box: Box, cloud: Cloud) -> None:
    folder = Box(tmp_path / "training", cloud)
    trained(folder, cloud.put_frame("a.csv", customers(4000)))
    box.container.model_channel.mkdir(parents=True)
    with tarfile.open(box.container.model_channel / "model.tar.gz", "w:gz") as archive:
        archive.add(folder.container.model_folder, arcname=".")

    job = evaluation([cloud.put_frame("new.csv", customers(2000, seed=9))])
    evaluate(job, box.container, threading.Event(), cloud.client)
    found = EvaluationResult.model_validate_json((box.container.model_folder / "result.json").read_bytes()).measurement

    assert found.calibration is not None
    assert found.raw_calibration is not None
    assert found.calibration.brier < found.raw_calibration.brier
    assert found.calibration.expected_error < found.raw_calibration.expected_error / 2


@pytest.mark.row("XP-4")
def test_the_threshold_follows_the_rule_of_the_configuration(box: Box, cloud: Cloud) -> None:
    file = cloud.put_frame("a.csv", customers(1500))
    scorer = trained(box, file, threshold={"rule": "capacity", "share": 0.1})
    checkpoint = scorer.checkpoint
    new = scorer.score(customers(1000, seed=9).to_dicts())
    called = np.mean([each.label == checkpoint.positive_label for each in new])
    assert called == pytest.approx(0.1, abs=0.04)
    assert checkpoint.threshold_rule == "as many rows as possible, at most 0.1 of all"
    assert any(note.startswith(f"The threshold is {checkpoint.threshold:.4g}") for note in checkpoint.notes)
