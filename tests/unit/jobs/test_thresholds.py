"""A threshold is the best one by the rule that was asked for."""

from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from functions.jobs.modelling.thresholds import choose_threshold
from shared.propensity.architectures.configuration import ThresholdRule

RULES: TypeAdapter[Any] = TypeAdapter(ThresholdRule)


def rows(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    chances = np.round(random.beta(1, 4, 400), 2)
    return (random.random(400) < chances).astype(np.float32), chances


@pytest.mark.row("XP-4")
@pytest.mark.parametrize(("false_positive", "false_negative"), [(1, 1), (1, 8), (5, 1)])
def test_no_other_threshold_costs_less(false_positive: float, false_negative: float) -> None:
    labels, chances = rows()

    def cost(threshold: float) -> float:
        called = chances >= threshold
        return float(false_positive * (called & (labels == 0)).sum() + false_negative * (~called & (labels == 1)).sum())

    rule = RULES.validate_python({"rule": "cost", "false_positive": false_positive, "false_negative": false_negative})
    threshold, words, (note,) = choose_threshold(labels, chances, rule)

    assert cost(threshold) == min(cost(each) for each in np.unique(chances))
    assert words == f"the lowest cost, {false_positive} for a false positive and {false_negative} for a miss"
    assert note == f"The threshold is {threshold:.4g}: {words}, on rows that the models had not seen."


@pytest.mark.row("XP-4")
@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 1])
def test_no_more_rows_are_called_than_the_capacity_allows(share: float) -> None:
    labels, chances = rows()
    threshold, _, _ = choose_threshold(labels, chances, RULES.validate_python({"rule": "capacity", "share": share}))
    called = float((chances >= threshold).mean())
    assert called <= share
    lower = chances[chances < threshold]
    assert not len(lower) or (chances >= lower.max()).mean() > share


@pytest.mark.row("XP-4")
def test_the_best_f1_is_taken_when_asked_for() -> None:
    labels, chances = rows()

    def f1(threshold: float) -> float:
        called = chances >= threshold
        return float(2 * (called & (labels == 1)).sum() / (called.sum() + labels.sum()))

    threshold, words, _ = choose_threshold(labels, chances, RULES.validate_python({"rule": "f1"}))
    assert f1(threshold) == max(f1(each) for each in np.unique(chances))
    assert words == "the best F1"
