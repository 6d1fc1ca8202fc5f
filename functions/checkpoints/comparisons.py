"""Compares two results on one benchmark with what evaluations store: values, and numbers of rows.

Both results are of the same rows, so the errors of the two values usually go together. Without scores of single rows
nobody knows how much, so the tests take the errors as independent: they need a larger difference to call one worse.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist

from shared.models.checkpoint_alias import ComparisonTest
from shared.models.evaluation import EvaluationOutcome
from shared.models.job import LOWER_IS_BETTER, MetricName


def gain(metric: MetricName, value: float, against: float) -> float:
    """Returns by how much the first value is better; negative when it is worse."""
    return against - value if metric in LOWER_IS_BETTER else value - against


def compare(
    metric: MetricName,
    value: float,
    against: float,
    outcomes: Sequence[EvaluationOutcome | None],
) -> tuple[ComparisonTest, float | None]:
    """Returns the test, and the probability of a difference as bad between equal models; ``None`` without a test.

    ``outcomes`` are the results that the two values are of.
    """
    test = _TESTS.get(metric, ComparisonTest.VALUES)
    variances = [
        _variance(test, metric, each, outcome) for each, outcome in zip((value, against), outcomes, strict=True)
    ]
    if None in variances:
        return ComparisonTest.VALUES, None
    error = math.sqrt(sum(each for each in variances if each is not None))
    difference = gain(metric, value, against) / (2 if metric is MetricName.GINI else 1)
    if not error:
        return test, 0.0 if difference < 0 else 1.0
    return test, NormalDist().cdf(difference / error)


_TESTS = {
    MetricName.ROC_AUC: ComparisonTest.UNPAIRED_ROC,
    MetricName.GINI: ComparisonTest.UNPAIRED_ROC,
    MetricName.ACCURACY: ComparisonTest.UNPAIRED_PROPORTION,
}


def _variance(
    test: ComparisonTest, metric: MetricName, value: float, outcome: EvaluationOutcome | None
) -> float | None:
    if outcome is None or not outcome.rows or outcome.positives is None or test is ComparisonTest.VALUES:
        return None
    if test is ComparisonTest.UNPAIRED_PROPORTION:
        return value * (1 - value) / outcome.rows
    area = (value + 1) / 2 if metric is MetricName.GINI else value
    positives, negatives = outcome.positives, outcome.rows - outcome.positives
    if not positives or not negatives:
        return None
    both_positive, both_negative = area / (2 - area), 2 * area**2 / (1 + area)
    spread = (
        area * (1 - area) + (positives - 1) * (both_positive - area**2) + (negatives - 1) * (both_negative - area**2)
    )
    return max(spread, 0.0) / (positives * negatives)
