"""How exactly rows tell a metric: intervals, and what a later paired comparison needs of them."""

import base64
import math
from collections.abc import Mapping
from statistics import NormalDist

import numpy as np

from shared.models.job import REPLICATES, Interval, IntervalMethod, MetricName, Resample
from shared.propensity.influences import Array, Influence, ScoredRows, influence
from shared.propensity.scored_rows import ScoreKeys, mixed

_METHODS = {
    MetricName.ACCURACY: IntervalMethod.WILSON,
    MetricName.PRECISION: IntervalMethod.WILSON,
    MetricName.RECALL: IntervalMethod.WILSON,
    MetricName.F1: IntervalMethod.DELTA,
    MetricName.KS: IntervalMethod.DELTA,
    MetricName.ROC_AUC: IntervalMethod.DELONG,
    MetricName.GINI: IntervalMethod.DELONG,
    MetricName.LOG_LOSS: IntervalMethod.MEAN,
}
_OUTSIDE = 0.05
_Z = NormalDist().inv_cdf(1 - _OUTSIDE / 2)
_ROWS_AT_ONCE = 65_536
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def influences(rows: ScoredRows) -> dict[MetricName, Influence]:
    """Returns the influence of the rows on each metric that they are enough for."""
    found = {metric: influence(metric, rows) for metric in MetricName}
    return {metric: each for metric, each in found.items() if each is not None}


def intervals(found: Mapping[MetricName, Influence], rows: ScoredRows) -> dict[MetricName, Interval]:
    """Returns a 95% interval of each metric."""
    positives, calls = int(rows.positive.sum()), int(rows.called.sum())
    counts = {
        MetricName.ACCURACY: len(rows),
        MetricName.PRECISION: calls,
        MetricName.RECALL: positives,
        MetricName.F1: positives,
    }
    fewest = min(positives, len(rows) - positives)
    return {metric: _interval(metric, each, counts.get(metric, fewest)) for metric, each in found.items()}


def resamples(found: Mapping[MetricName, Influence], keys: ScoreKeys) -> dict[MetricName, Resample]:
    """Returns the replicates of each metric. Each row's signs come from its key.

    Gini has none, because it is twice the ROC AUC.
    """
    metrics = [metric for metric in found if metric is not MetricName.GINI]
    parts = np.stack([found[metric].parts for metric in metrics]) if metrics else np.empty((0, len(keys)))
    totals = np.zeros((len(metrics), REPLICATES))
    for start in range(0, len(keys), _ROWS_AT_ONCE):
        chunk = slice(start, start + _ROWS_AT_ONCE)
        totals += parts[:, chunk] @ _signs(keys[chunk])
    made: dict[MetricName, Resample] = {}
    for metric, total in zip(metrics, totals, strict=True):
        error = found[metric].error
        units = np.clip(total / error if error else total, -1000, 1000).astype("<f2")
        made[metric] = Resample(error=error, replicates=base64.b64encode(units.tobytes()).decode())
    return made


def _signs(keys: ScoreKeys) -> Array:
    words = np.stack([mixed(keys + _GOLDEN), mixed(keys ^ _GOLDEN)], axis=1).astype("<u8")
    bits = np.unpackbits(words.view(np.uint8), axis=1)[:, :REPLICATES]
    return np.asarray(2.0 * bits - 1.0, dtype=np.float64)


def _interval(metric: MetricName, found: Influence, count: int) -> Interval:
    method, value, error = _METHODS[metric], found.value, found.error
    if method is IntervalMethod.MEAN:
        return Interval(low=max(value - _Z * error, 0.0), high=value + _Z * error, method=method)
    if method is IntervalMethod.WILSON:
        low, high = wilson(value, count)
        return Interval(low=low, high=high, method=method)
    if metric is MetricName.GINI:
        low, high = _on_log_odds((value + 1) / 2, error / 2, count)
        return Interval(low=2 * low - 1, high=2 * high - 1, method=method)
    low, high = _on_log_odds(value, error, count)
    return Interval(low=low, high=high, method=method)


def wilson(value: float, count: int) -> tuple[float, float]:
    """Returns Wilson's 95% interval of a proportion."""
    middle = (value + _Z**2 / (2 * count)) / (1 + _Z**2 / count)
    half = _Z / (1 + _Z**2 / count) * math.sqrt(value * (1 - value) / count + _Z**2 / (4 * count**2))
    return max(middle - half, 0.0), min(middle + half, 1.0)


def _on_log_odds(value: float, error: float, count: int) -> tuple[float, float]:
    """Returns the interval of a value in [0, 1]. At its ends the error is 0: then the number of rows bounds it."""
    if not 0 < value < 1:
        furthest = (_OUTSIDE / 2) ** (1 / max(count, 1))
        return (furthest, 1.0) if value >= 1 else (0.0, 1 - furthest)
    place, width = math.log(value / (1 - value)), _Z * error / (value * (1 - value))
    low, high = (1 / (1 + math.exp(-max(min(each, 700), -700))) for each in (place - width, place + width))
    return low, high
