"""Calculates the eight metrics of a binary classifier.

Labels are 0 or 1, and probabilities are in [0, 1]. Both are one-dimensional arrays of the same length.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from functions.jobs.modelling.calibration import measure_calibration
from functions.jobs.modelling.uncertainty import influences, intervals
from shared.models.job import MAX_SERIES_POINTS, CurvePoint, Measurement, MetricName
from shared.propensity.influences import Array, ScoredRows

# The log loss of a wrong probability of exactly 0 or 1 would be infinite.
SMALLEST_PROBABILITY = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Curve:
    """The ROC curve from (0, 0): the rates if every score of at least ``thresholds[i]`` is predicted positive."""

    thresholds: Array
    true_positive_rates: Array
    false_positive_rates: Array

    @property
    def area(self) -> float:
        """Returns the area under the curve. A tie between a positive and a negative row counts as one half."""
        return float(np.trapezoid(self.true_positive_rates, self.false_positive_rates))

    @property
    def largest_gap(self) -> float:
        """Returns the Kolmogorov-Smirnov statistic: max |TPR - FPR|."""
        return float(np.max(np.abs(self.true_positive_rates - self.false_positive_rates)))

    def points(self, limit: int = MAX_SERIES_POINTS) -> list[CurvePoint]:
        """Returns at most ``limit`` evenly spaced points of the curve, with its ends and its largest gap."""
        count = len(self.thresholds)
        gap = int(np.argmax(np.abs(self.true_positive_rates - self.false_positive_rates)))
        kept = sorted({*np.linspace(0, count - 1, min(count, limit - 1)).astype(int).tolist(), gap})
        return [
            CurvePoint(
                threshold=float(self.thresholds[index]) if index else None,
                true_positive_rate=float(self.true_positive_rates[index]),
                false_positive_rate=float(self.false_positive_rates[index]),
            )
            for index in kept
        ]


def roc_curve(labels: Array, probabilities: Array) -> Curve:
    """Returns the ROC curve with one point for each distinct probability, highest first. Both labels must occur."""
    order = np.argsort(-probabilities, kind="stable")
    ranked, scores = labels[order], probabilities[order]
    last_of_each_score = np.append(np.nonzero(np.diff(scores))[0], len(scores) - 1)
    true_positives = np.cumsum(ranked)[last_of_each_score]
    false_positives = last_of_each_score + 1 - true_positives
    return Curve(
        thresholds=np.append(np.inf, scores[last_of_each_score]),
        true_positive_rates=np.append(0.0, true_positives / true_positives[-1]),
        false_positive_rates=np.append(0.0, false_positives / false_positives[-1]),
    )


def log_loss(labels: Array, probabilities: Array) -> float:
    """Returns the mean negative log likelihood with the natural logarithm."""
    safe = np.clip(probabilities, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    return float(-np.mean(np.where(labels == 1, np.log(safe), np.log1p(-safe))))


def measure(labels: npt.ArrayLike, probabilities: npt.ArrayLike, threshold: float = 0.5) -> Measurement:
    """Returns all eight metrics, with their intervals where rows are enough.

    A probability of at least ``threshold`` is predicted positive. As in scikit-learn, precision, recall and F1 are 0
    if no row is predicted positive or no row is positive.
    ROC AUC, KS and Gini are null with a reason if all rows have the same label.

    Raises:
        ValueError: the arrays are empty, differ in length, or have invalid values.
    """
    truth, scores = np.asarray(labels, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    if truth.ndim != 1 or truth.shape != scores.shape or not len(truth):
        raise ValueError(f"labels {truth.shape} and probabilities {scores.shape} must be equally long and not empty")
    if not np.isin(truth, (0.0, 1.0)).all():
        raise ValueError("labels must be 0 or 1")
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError("probabilities must be numbers between 0 and 1")
    called = scores >= threshold
    positives, hits = int(truth.sum()), int(truth[called].sum())
    calls = int(called.sum())
    metrics: dict[MetricName, float | None] = {
        MetricName.ACCURACY: float(np.mean(called == (truth == 1))),
        MetricName.PRECISION: hits / calls if calls else 0.0,
        MetricName.RECALL: hits / positives if positives else 0.0,
        MetricName.F1: 2 * hits / (calls + positives) if calls + positives else 0.0,
        MetricName.LOG_LOSS: log_loss(truth, scores),
    }
    rows = ScoredRows(truth == 1, scores, called)
    measurement = Measurement(
        metrics=metrics, intervals=intervals(influences(rows), rows), rows=len(truth), positives=positives
    )
    ranking = (MetricName.ROC_AUC, MetricName.KS, MetricName.GINI)
    if positives in (0, len(truth)):
        only = "positive" if positives else "negative"
        reason = f"all {len(truth)} rows are {only}, but this metric needs both labels"
        measurement.metrics |= dict.fromkeys(ranking)
        measurement.reasons |= dict.fromkeys(ranking, reason)
    else:
        curve = roc_curve(truth, scores)
        measurement.metrics |= {
            MetricName.ROC_AUC: curve.area,
            MetricName.KS: curve.largest_gap,
            MetricName.GINI: 2 * curve.area - 1,
        }
        measurement.curve = curve.points()
    return measurement


def measure_all(
    labels: npt.ArrayLike, probabilities: Array, raw_probabilities: Array | None, threshold: float
) -> Measurement:
    """Returns the metrics and the calibration, also without the checkpoint's calibration if it has one."""
    truth = np.asarray(labels, dtype=np.float64)
    # Sums of the same rows in another order would differ in their last digits.
    order = np.lexsort((truth, probabilities))
    truth, ranked = truth[order], probabilities[order]
    measurement = measure(truth, ranked, threshold)
    measurement.calibration = measure_calibration(truth, ranked)
    if raw_probabilities is not None:
        measurement.raw_calibration = measure_calibration(truth, raw_probabilities[order])
    return measurement
