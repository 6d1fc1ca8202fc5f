"""Intervals of metrics hold as often as they say, and replicates tell the error of a difference."""

import numpy as np
import pytest

from functions.jobs.modelling.uncertainty import influences, intervals, resamples
from functions.leaderboards.shared_ranks import Replicates
from shared.models.job import MetricName
from shared.propensity.influences import ScoredRows
from tests.fixtures.scored_rows import scored_rows


def drawn(count: int, random: np.random.Generator, strength: float = 1.5) -> tuple[ScoredRows, np.ndarray]:
    known = random.normal(size=count)
    positive = random.random(count) < 1 / (1 + np.exp(1.5 - strength * known))
    return scored_rows(positive, known - 1, threshold=0.4), known


@pytest.mark.row("Y-2")
def test_intervals_hold_the_true_value_95_times_in_100() -> None:
    random = np.random.default_rng(5)
    truth = {metric: each.value for metric, each in influences(drawn(400_000, random)[0]).items()}
    held = dict.fromkeys(MetricName, 0)
    samples = 300
    for _ in range(samples):
        rows, _ = drawn(500, random)
        for metric, interval in intervals(influences(rows), rows).items():
            held[metric] += interval.low <= truth[metric] <= interval.high
    # Three standard errors of 300 draws. KS is the largest of many gaps, so it is a little too high on few rows.
    assert all(count >= 0.91 * samples for metric, count in held.items() if metric is not MetricName.KS), held
    assert held[MetricName.KS] >= 0.85 * samples


@pytest.mark.row("Y-2")
@pytest.mark.parametrize("metric", [each for each in MetricName if each is not MetricName.GINI])
def test_replicates_tell_the_error_of_a_paired_difference(metric: MetricName) -> None:
    random = np.random.default_rng(7)
    one, known = drawn(3000, random)
    other = scored_rows(one.positive, known - 1 + 0.3 * random.normal(size=3000), threshold=0.4)
    keys = np.arange(10**6, 10**6 + 3000, dtype=np.uint64)
    exact = influences(one)[metric].minus(influences(other)[metric]).error
    shuffled = random.permutation(3000)

    mine, theirs = (Replicates([resamples(influences(rows), keys)[metric]], metric) for rows in (one, other))
    # The order of the rows does not matter, because the signs come from the keys.
    again = ScoredRows(one.positive[shuffled], one.probabilities[shuffled], one.called[shuffled])
    same = Replicates([resamples(influences(again), keys[shuffled])[metric]], metric)

    assert mine.error_of_difference(theirs) == pytest.approx(exact, rel=0.25)
    assert mine.error_of_difference(same) < exact / 100


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_a_metric_at_its_end_still_has_an_interval(probability: float) -> None:
    positive = np.arange(40) < 20
    chances = np.where(positive, probability, 1 - probability)
    rows = ScoredRows(positive, chances, chances >= 0.5)
    found = intervals(influences(rows), rows)[MetricName.ROC_AUC]
    bounds = (found.low, found.high)
    assert bounds == pytest.approx((0.8316, 1.0) if probability else (0.0, 0.1684), abs=1e-3)
