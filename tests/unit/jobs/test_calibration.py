"""Probabilities are measured against labels, and corrected only where that pays on other rows."""

import warnings

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss

from functions.jobs.modelling.calibration import choose_calibration, log_odds_of, measure_calibration
from functions.jobs.modelling.metrics import measure
from shared.models.job import MetricName
from shared.propensity.calibration import corrected_contributions
from shared.propensity.log_odds import LogOdds, probability

ROWS = 20_000


def drawn(seed: int, rows: int = ROWS) -> tuple[LogOdds, np.ndarray]:
    """Returns true log-odds and labels."""
    random = np.random.default_rng(seed)
    log_odds = 1.5 * random.normal(size=rows) - 1
    return log_odds, (random.random(rows) < probability(log_odds)).astype(np.float32)


def shrunken(log_odds: LogOdds) -> LogOdds:
    return 0.4 * log_odds + 0.5


def bent(log_odds: LogOdds) -> LogOdds:
    """Returns log-odds that no straight line corrects."""
    return np.where(log_odds > 0, 4 * log_odds, 0.3 * log_odds)


@pytest.mark.row("XP-4", "ML-4")
@pytest.mark.parametrize(("distort", "kind"), [(shrunken, "logistic"), (bent, "isotonic")])
def test_a_correction_that_wins_on_other_rows_is_kept(distort: type[LogOdds], kind: str) -> None:
    log_odds, labels = drawn(1)
    correction, (note,) = choose_calibration("automatic", labels, distort(log_odds), 0)
    assert correction is not None
    assert correction.kind == kind
    assert f"calibrated by a{'n' if kind == 'isotonic' else ''} {kind} regression" in note

    new, new_labels = drawn(2)
    raw = probability(distort(new))
    calibrated = probability(correction.corrected(distort(new)))
    before, after = measure_calibration(new_labels, raw), measure_calibration(new_labels, calibrated)

    assert after.brier < before.brier
    assert after.expected_error < before.expected_error / 3
    assert after.slope == pytest.approx(1, abs=0.07)
    assert after.intercept == pytest.approx(0, abs=0.07)
    # No two rows change places.
    areas = [measure(new_labels, each).metrics[MetricName.ROC_AUC] for each in (raw, calibrated)]
    assert areas[0] == pytest.approx(areas[1], abs=1e-9)


@pytest.mark.row("ML-4")
def test_good_probabilities_are_left_as_they_are() -> None:
    for seed in range(10):
        log_odds, labels = drawn(seed, 5000)
        assert choose_calibration("automatic", labels, log_odds, 0) == (None, [])


@pytest.mark.row("ML-4")
def test_isotonic_regression_needs_to_win_against_the_logistic_one() -> None:
    log_odds, labels = drawn(3, 3000)
    for choice, kind in (("automatic", "logistic"), ("isotonic", "isotonic")):
        correction, _ = choose_calibration(choice, labels, shrunken(log_odds), 0)  # type: ignore[arg-type]
        assert correction is not None
        assert correction.kind == kind
    assert choose_calibration("none", labels, shrunken(log_odds), 0) == (None, [])
    assert choose_calibration("logistic", labels[:60], log_odds[:60], 0)[0] is None


@pytest.mark.row("ML-4")
def test_the_reliability_table_and_its_figures_are_those_of_their_definitions() -> None:
    log_odds, labels = drawn(4, 3000)
    chances = probability(bent(log_odds))
    found = measure_calibration(labels, chances)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        line = LogisticRegression(C=np.inf).fit(log_odds_of(chances)[:, None], labels)
    assert found.slope == pytest.approx(line.coef_[0, 0], abs=1e-3)
    assert found.intercept == pytest.approx(line.intercept_[0], abs=1e-3)
    assert found.brier == pytest.approx(brier_score_loss(labels, chances))
    assert sum(each.rows for each in found.bins) == 3000
    assert {each.rows for each in found.bins} == {300}
    ordered = np.argsort(chances)
    parts = [ordered[start : start + 300] for start in range(0, 3000, 300)]
    gaps = [abs(float(chances[part].mean() - labels[part].mean())) for part in parts]
    assert found.expected_error == pytest.approx(np.mean(gaps), abs=1e-6)
    assert all(each.low <= each.positive_rate <= each.high for each in found.bins)


@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 0, 1]])
@pytest.mark.parametrize("chances", [[0.5, 0.5, 0.5, 0.5], [0.0, 1.0, 0.0, 1.0], [0.1, 0.1, 0.9, 1.0]])
def test_few_or_equal_rows_have_a_table(labels: list[int], chances: list[float]) -> None:
    found = measure_calibration(np.array(labels, dtype=np.float32), np.array(chances))
    assert sum(each.rows for each in found.bins) == 4


@pytest.mark.row("XP-4")
@pytest.mark.parametrize("kind", ["logistic", "isotonic"])
def test_contributions_sum_to_the_corrected_log_odds(kind: str) -> None:
    log_odds, labels = drawn(5, 4000)
    correction, _ = choose_calibration(kind, labels, bent(log_odds), 0)  # type: ignore[arg-type]
    assert correction is not None
    contributions = np.random.default_rng(0).normal(size=(100, 6))
    contributions[0, :-1] = 0
    found = corrected_contributions(correction, contributions)
    assert found.sum(axis=1) == pytest.approx(correction.corrected(contributions.sum(axis=1)))
    assert (np.sign(found[:, :-1]) == np.sign(contributions[:, :-1])).all()


def test_no_note_says_that_probabilities_are_calibrated_when_no_correction_fits() -> None:
    random = np.random.default_rng(2)
    labels = (random.random(1000) < 0.3).astype(np.float32)
    falling = np.where(labels == 1, -4.0, 4.0)
    for choice in ("logistic", "isotonic"):
        correction, (note,) = choose_calibration(choice, labels, falling, 0)
        assert correction is None
        assert "can't be calibrated" in note
    for seed in range(8):
        # The folds may find steps in noise, where all rows together have none.
        noise = np.random.default_rng(seed).normal(size=5000)
        labels = (np.random.default_rng(seed + 100).random(5000) < 0.3).astype(np.float32)
        correction, notes = choose_calibration("automatic", labels, noise, 0)
        assert (correction is None) == (not notes)


def test_equal_probabilities_have_no_slope() -> None:
    labels = np.array([0, 1, 0, 1, 0], dtype=np.float32)
    measured = measure_calibration(labels, np.full(5, 0.3))
    assert (measured.slope, measured.intercept) == (None, None)
