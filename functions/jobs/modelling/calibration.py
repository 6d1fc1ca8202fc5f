"""Measures how well probabilities fit the labels, and corrects them where that pays."""

from collections.abc import Callable, Mapping

import numpy as np

from functions.jobs.modelling.uncertainty import wilson
from shared.models.job import CalibrationMeasurement, ReliabilityBin
from shared.propensity.architectures.configuration import CalibrationChoice
from shared.propensity.calibration import IsotonicCalibration, LogisticCalibration
from shared.propensity.holdouts import Labels
from shared.propensity.influences import Array
from shared.propensity.log_odds import LogOdds, Probabilities, probability

Correction = LogisticCalibration | IsotonicCalibration
BINS = 10
FOLDS = 5
# With fewer rows of a label, a correction would learn their noise.
FEWEST_OF_A_LABEL = 50
# More rows would tell hardly more.
MOST_ROWS = 200_000
# A better log loss counts from so many of its standard errors on.
WORTH = 2.0
MOST_STEPS = 50
_ROUNDS = 50
_EXACT = 1e-9
_Fit = Callable[[Labels, LogOdds], Correction | None]


def measure_calibration(labels: Labels | Array, probabilities: Probabilities) -> CalibrationMeasurement:
    """Returns the reliability of probabilities on some rows. Both labels need not occur."""
    edges = np.unique(np.quantile(probabilities, np.linspace(0, 1, BINS + 1)[1:-1]))
    place = np.searchsorted(edges, probabilities, side="left")
    bins = []
    for each in range(len(edges) + 1):
        among = place == each
        if not (count := int(among.sum())):
            continue
        rate = float(labels[among].mean(dtype=np.float64))
        low, high = wilson(rate, count)
        mean = float(probabilities[among].mean())
        bins.append(ReliabilityBin(rows=count, mean_probability=mean, positive_rate=rate, low=low, high=high))
    gaps = sum(each.rows * abs(each.mean_probability - each.positive_rate) for each in bins)
    # Equal probabilities have no slope.
    has_line = 0 < labels.sum() < len(labels) and probabilities.min() < probabilities.max()
    line = _line(labels, log_odds_of(probabilities), 1e-9) if has_line else None
    return CalibrationMeasurement(
        bins=bins,
        expected_error=gaps / len(labels),
        brier=float(np.mean((probabilities - labels) ** 2)),
        slope=line and line[0],
        intercept=line and line[1],
    )


def choose_calibration(
    choice: CalibrationChoice, labels: Labels, log_odds: LogOdds, seed: int
) -> tuple[Correction | None, list[str]]:
    """Returns the correction of log-odds of rows that the models have not seen, if there is one, and a note about it.

    ``automatic`` takes the one with the best log loss on parts that it was not fitted on, if the loss is better by
    twice its standard error. Isotonic regression has to be better than the logistic correction by as much.
    """
    if len(labels) > MOST_ROWS:
        drawn = np.random.default_rng([seed, MOST_ROWS]).permutation(len(labels))[:MOST_ROWS]
        labels, log_odds = labels[drawn], log_odds[drawn]
    positives = int(labels.sum())
    if choice == "none" or min(positives, len(labels) - positives) < FEWEST_OF_A_LABEL:
        few = choice in ("logistic", "isotonic")
        return None, ["There are too few rows of a label to calibrate the probabilities."] if few else []
    if choice != "automatic":
        correction = _FITS[choice](labels, log_odds)
        if correction is None:
            return None, [f"The probabilities can't be calibrated by {_NAMES[choice]}: no rising one fits the labels."]
        return correction, [f"The probabilities are calibrated by {_NAMES[choice]}, as asked."]
    losses = _validated(labels, log_odds, seed)
    kept, correction = "none", None
    for name in ("logistic", "isotonic"):
        # The folds may have one where all rows together have none.
        if _is_better(losses[kept], losses[name]) and (found := _FITS[name](labels, log_odds)) is not None:
            kept, correction = name, found
    if correction is None:
        return None, []
    before, after = (float(losses[name].mean()) for name in ("none", kept))
    note = (
        f"The probabilities are calibrated by {_NAMES[kept]}: on rows that neither the models nor the calibration had "
        f"seen, the log loss is {after:.5f}, and {before:.5f} without."
    )
    return correction, [note]


def log_odds_of(probabilities: Probabilities) -> LogOdds:
    """Returns the log-odds of probabilities."""
    safe = np.clip(probabilities, 1e-15, 1 - 1e-15)
    return np.asarray(np.log(safe) - np.log1p(-safe))


def _validated(labels: Labels, log_odds: LogOdds, seed: int) -> Mapping[str, Probabilities]:
    """Returns each row's log loss without a correction, and with each one fitted on the other folds."""
    fold = np.random.default_rng([seed, FOLDS]).permutation(len(labels)) % FOLDS
    losses = {"none": _losses(labels, log_odds)}
    for name, fit in _FITS.items():
        found = losses["none"].copy()
        for each in range(FOLDS):
            held = fold == each
            correction = fit(labels[~held], log_odds[~held])
            if correction is not None:
                found[held] = _losses(labels[held], correction.corrected(log_odds[held]))
        losses[name] = found
    return losses


def _is_better(before: Probabilities, after: Probabilities) -> bool:
    gain = before - after
    return bool(gain.mean() > WORTH * gain.std() / np.sqrt(len(gain)))


def _losses(labels: Labels | Array, log_odds: LogOdds) -> Probabilities:
    return np.asarray(np.logaddexp(0, np.where(labels == 1, -log_odds, log_odds)))


def _logistic(labels: Labels, log_odds: LogOdds) -> Correction | None:
    # Half a row for each side holds the line near the model's own probabilities.
    line = _line(labels, log_odds, 0.5)
    if line is None or line[0] <= 0:
        return None
    return LogisticCalibration(slope=line[0], intercept=line[1])


def _line(labels: Labels | Array, log_odds: LogOdds, penalty: float) -> tuple[float, float] | None:
    """Returns slope and intercept of a logistic regression of labels on log-odds, by Newton's method."""
    inputs = np.stack([log_odds, np.ones_like(log_odds)])
    usual = np.array([1.0, 0.0])

    def loss(weights: LogOdds) -> float:
        return float(_losses(labels, weights @ inputs).sum() + penalty * ((weights - usual) ** 2).sum() / 2)

    weights, best = usual, loss(usual)
    for _ in range(_ROUNDS):
        chances = probability(weights @ inputs)
        slope = inputs @ (chances - labels) + penalty * (weights - usual)
        curvature = (inputs * (chances * (1 - chances))) @ inputs.T + penalty * np.eye(2)
        step = np.linalg.solve(curvature, slope)
        while (following := loss(weights - step)) > best and np.abs(step).max() > _EXACT:
            step = step / 2
        if np.abs(step).max() <= _EXACT:
            return float(weights[0]), float(weights[1])
        weights, best = weights - step, following
    return None


def _isotonic(labels: Labels, log_odds: LogOdds) -> Correction | None:
    # Only trainings need it, and functions that score have no scipy.optimize.
    from scipy.optimize import isotonic_regression

    order = np.argsort(log_odds, kind="stable")
    places, own = np.unique(log_odds[order], return_inverse=True)
    counts = np.bincount(own)
    rates = np.bincount(own, weights=labels[order]) / counts
    blocks = isotonic_regression(rates, weights=counts).blocks
    steps = _merged(np.add.reduceat(counts, blocks[:-1]), len(labels) / MOST_STEPS)
    starts = blocks[:-1][steps]
    rows = np.add.reduceat(counts, starts)
    hits = np.add.reduceat(rates * counts, starts)
    middles = np.add.reduceat(places * counts, starts) / rows
    # A step never says 0 or 1.
    calibrated = np.log(hits + 0.5) - np.log(rows - hits + 0.5)
    rising = np.concatenate([[True], calibrated[1:] > np.maximum.accumulate(calibrated)[:-1]])
    if rising.sum() < 2:
        return None
    return IsotonicCalibration(log_odds=middles[rising].tolist(), calibrated=calibrated[rising].tolist())


def _merged(rows: np.ndarray[tuple[int], np.dtype[np.int_]], least: float) -> list[int]:
    """Returns the steps that begin where the ones before have enough rows together."""
    starts, held = [0], 0
    for index, count in enumerate(rows):
        if held >= least:
            starts.append(index)
            held = 0
        held += int(count)
    return starts if held >= least or len(starts) == 1 else starts[:-1]


_FITS: Mapping[str, _Fit] = {"logistic": _logistic, "isotonic": _isotonic}
_NAMES = {"logistic": "a logistic regression", "isotonic": "an isotonic regression"}
