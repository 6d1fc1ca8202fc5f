"""Few rows of a label: leaves small enough for them, a threshold that calls some of them, and no crash."""

from pathlib import Path

import numpy as np
import pytest

from functions.jobs.fitting.base import Examples
from functions.jobs.modelling.metrics import measure, roc_curve
from functions.jobs.modelling.thresholds import choose_threshold
from functions.jobs.train.results import rarity_notes
from shared.models.job import MetricName
from shared.propensity.log_odds import mean
from tests.fixtures.trained_models import HERE
from tests.unit.jobs.fits import examples, fit, session


@pytest.mark.row("ML-7")
@pytest.mark.parametrize("architecture", ["additive", "lightgbm", "xgboost", "catboost"])
def test_a_column_that_tells_24_of_12_000_rows_apart_is_used(tmp_path: Path, architecture: str) -> None:
    random = np.random.default_rng(2)
    labels = (random.permutation(12_000) < 24).astype(np.float32)
    matrix = random.normal(size=(12_000, 3)).astype(np.float32)
    matrix[:, 1] = labels
    settings = {} if architecture == "additive" else {"n_estimators": 60}
    model = mean(fit(architecture, session(tmp_path), Examples(matrix, labels), settings, categorical=[]))

    assert roc_curve(labels.astype(np.float64), model.predict(matrix)).area > 0.99


@pytest.mark.row("ML-1")
@pytest.mark.parametrize("architecture", HERE)
def test_columns_without_values_and_four_rows_of_a_label_are_enough(tmp_path: Path, architecture: str) -> None:
    data = examples(60)
    data.matrix[:, 0] = np.nan
    data.matrix[:, 1] = 3
    data.matrix[:, 2] = np.arange(60) * 1e36
    labels = (np.arange(60) % 15 < 1).astype(np.float32)
    models = fit(architecture, session(tmp_path), Examples(data.matrix, labels))

    chances = mean(models).predict(data.matrix)
    assert ((chances > 0) & (chances < 1)).all()


def test_the_threshold_is_a_half_unless_it_would_call_hardly_any_row() -> None:
    random = np.random.default_rng(3)
    log_odds = random.normal(size=5_000)
    usual = (random.random(5_000) < 1 / (1 + np.exp(-2 * log_odds))).astype(np.float32)
    assert choose_threshold(usual, 1 / (1 + np.exp(-2 * log_odds))) == (0.5, "0.5", [])

    chances = 1 / (1 + np.exp(-(log_odds - 4.5)))
    rare = (random.random(5_000) < chances).astype(np.float32)
    threshold, _, (note,) = choose_threshold(rare, chances)
    assert 0 < threshold < 0.5
    assert f"The threshold is therefore {threshold:.4g}" in note
    measured = measure(rare, chances, threshold).metrics
    assert measure(rare, chances).metrics[MetricName.F1] == 0
    best = max(measure(rare, chances, float(each)).metrics[MetricName.F1] or 0 for each in np.unique(chances)[::7])
    assert measured[MetricName.F1] == pytest.approx(best, rel=0.05)


@pytest.mark.parametrize(
    ("architecture", "positives", "rows", "is_noted"),
    [
        ("lightgbm", 200, 20_000, True),
        ("xgboost", 19_800, 20_000, True),
        ("auto", 200, 20_000, False),
        ("additive", 200, 20_000, False),
        ("lightgbm", 400, 40_000, False),
        ("lightgbm", 200, 5_000, False),
    ],
)
def test_trees_alone_say_when_a_label_is_too_rare_for_them(
    architecture: str, positives: int, rows: int, is_noted: bool
) -> None:
    notes = rarity_notes(architecture, (np.arange(rows) < positives).astype(np.float32))

    assert [note.split(" With")[0] for note in notes] == ["Only 200 of 20,000 rows have the rarer label."] * is_noted
