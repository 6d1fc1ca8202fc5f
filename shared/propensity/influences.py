"""How much each row moves a metric: the basis of intervals, and of paired comparisons of two models.

To first order, a metric is its value plus a sum over the rows. The rows are independent, so the sum of the squares of
its parts is the metric's variance, and that of the differences between two models' parts is the variance of the
difference. For ROC AUC, this is the method of DeLong, DeLong and Clarke-Pearson (1988).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared.models.job import MetricName

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
# Log loss of a wrong probability of exactly 0 or 1 would be infinite.
_SMALLEST = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class ScoredRows:
    """Labels, probabilities of the positive label, and whether the model calls the rows positive."""

    positive: Flags
    probabilities: Array
    called: Flags

    def __len__(self) -> int:
        return len(self.positive)


@dataclass(frozen=True)
class Influence:
    """A metric's value, and what each row adds to its deviations. The parts sum to 0."""

    value: float
    parts: Array

    @property
    def error(self) -> float:
        """Returns the metric's standard error."""
        return float(np.sqrt(np.sum(self.parts**2)))

    def minus(self, other: "Influence") -> "Influence":
        """Returns the difference of two models' metrics on the same rows."""
        return Influence(self.value - other.value, self.parts - other.parts)


def influence(metric: MetricName, rows: ScoredRows) -> Influence | None:
    """Returns the influence of the rows on a metric; ``None`` if there are too few to tell."""
    positives = int(rows.positive.sum())
    if len(rows) < 2:
        return None
    if metric in _NEEDS_BOTH and min(positives, len(rows) - positives) < 2:
        return None
    return _FUNCTIONS[metric](rows)


def _mean(values: Array, among: Flags | None = None) -> Influence | None:
    """Returns the influence on the mean of values, ``among`` some rows whose number is given."""
    chosen = np.ones(len(values), dtype=bool) if among is None else among
    count = int(chosen.sum())
    if count < 2:
        return None
    mean = float(values[chosen].mean())
    return Influence(mean, np.where(chosen, values - mean, 0.0) / math.sqrt(count * (count - 1)))


def _ratio(above: Array, below: Array) -> Influence | None:
    """Returns the influence on the ratio of two sums."""
    total, count = float(below.sum()), len(below)
    if not total:
        return None
    value = float(above.sum()) / total
    return Influence(value, (above - value * below) / total * math.sqrt(count / (count - 1)))


def _of_both(of_positive: Influence | None, of_negative: Influence | None) -> Influence | None:
    """Returns the influence of the rows of both labels; the value is that of the positive ones."""
    if of_positive is None or of_negative is None:
        return None
    return Influence(of_positive.value, of_positive.parts + of_negative.parts)


def _area(rows: ScoredRows) -> Influence | None:
    """Returns DeLong's components: for each row, the share of the other label's rows that it is right against."""
    ranked = {label: np.sort(rows.probabilities[rows.positive == label]) for label in (False, True)}
    below, at_most = (np.searchsorted(ranked[False], rows.probabilities, side) for side in ("left", "right"))
    wins = (below + at_most) / (2 * len(ranked[False]))
    below, at_most = (np.searchsorted(ranked[True], rows.probabilities, side) for side in ("left", "right"))
    losses = 1 - (below + at_most) / (2 * len(ranked[True]))
    return _of_both(_mean(wins, rows.positive), _mean(losses, ~rows.positive))


def _gini(rows: ScoredRows) -> Influence | None:
    area = _area(rows)
    return area and Influence(2 * area.value - 1, 2 * area.parts)


def _largest_gap(rows: ScoredRows) -> Influence | None:
    """Returns the influence on KS, with the threshold of the largest gap: a small move of it changes nothing."""
    positive, negative = (np.sort(rows.probabilities[rows.positive == label]) for label in (True, False))
    thresholds = np.unique(rows.probabilities)
    recalls, alarms = (1 - np.searchsorted(each, thresholds, "left") / len(each) for each in (positive, negative))
    best = int(np.argmax(np.abs(recalls - alarms)))
    sign = 1.0 if recalls[best] >= alarms[best] else -1.0
    above = sign * (rows.probabilities >= thresholds[best])
    found = _of_both(_mean(above, rows.positive), _mean(-above, ~rows.positive))
    return found and Influence(float(abs(recalls[best] - alarms[best])), found.parts)


def _log_loss(rows: ScoredRows) -> Influence | None:
    safe = np.clip(rows.probabilities, _SMALLEST, 1 - _SMALLEST)
    return _mean(-np.where(rows.positive, np.log(safe), np.log1p(-safe)))


def _hits(rows: ScoredRows) -> Array:
    return (rows.positive & rows.called).astype(np.float64)


_FUNCTIONS: Mapping[MetricName, Callable[[ScoredRows], Influence | None]] = {
    MetricName.ACCURACY: lambda rows: _mean((rows.called == rows.positive).astype(np.float64)),
    MetricName.F1: lambda rows: _ratio(2 * _hits(rows), np.add(rows.called, rows.positive, dtype=np.float64)),
    MetricName.PRECISION: lambda rows: _ratio(_hits(rows), rows.called.astype(np.float64)),
    MetricName.RECALL: lambda rows: _mean(rows.called.astype(np.float64), rows.positive),
    MetricName.ROC_AUC: _area,
    MetricName.LOG_LOSS: _log_loss,
    MetricName.KS: _largest_gap,
    MetricName.GINI: _gini,
}
_NEEDS_BOTH = frozenset({MetricName.ROC_AUC, MetricName.GINI, MetricName.KS})
