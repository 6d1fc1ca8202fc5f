"""Chooses the probability from which on a row is called positive."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from functions.jobs.fitting.base import Examples
from shared.propensity.architectures.configuration import CapacityRule, CostRule, ThresholdRule
from shared.propensity.holdouts import Labels, Mask
from shared.propensity.log_odds import LogOdds, LogOddsModel, Probabilities

USUAL = 0.5
# If fewer of the positive rows reach the usual threshold, it calls hardly anything positive.
LEAST_RECALL = 0.05
_BEST_F1 = "the best F1"
_Counts = npt.NDArray[Any]
# Of the positive rows among those that are called, all that are called, all positive rows, and all rows.
_Scores = Callable[[_Counts, _Counts, int, int], _Counts]


def held_out_log_odds(
    models: Sequence[LogOddsModel], examples: Examples, folds: Sequence[Mask]
) -> tuple[Labels, LogOdds]:
    """Returns the labels of the folds' rows, and their log-odds by the models that have not seen them."""
    labels = [examples.labels[held] for held in folds]
    found = [model.log_odds(examples.matrix[held]) for model, held in zip(models, folds, strict=True)]
    return np.concatenate(labels), np.concatenate(found)


def choose_threshold(
    labels: Labels, chances: Probabilities, rule: ThresholdRule | None = None
) -> tuple[float, str, list[str]]:
    """Returns the threshold, the rule in words, and notes about it.

    Without a rule it is 0.5, or the one with the best F1 where 0.5 calls hardly any row.
    """
    positive = labels == 1
    if rule is not None:
        words, scores_of = _asked(rule)
        threshold, _ = _best(positive, chances, scores_of)
        note = f"The threshold is {threshold:.4g}: {words}, on rows that the models had not seen."
        return threshold, words, [note]
    recall = float((chances[positive] >= USUAL).mean()) if positive.any() else 1.0
    if recall >= LEAST_RECALL:
        return USUAL, "0.5", []
    threshold, best = _best(positive, chances, _f1)
    note = (
        f"Of the positive rows that the model had not seen, {recall:.1%} have a probability of 0.5 or more, because "
        f"only {positive.mean():.2%} of the rows are positive. The threshold is therefore {threshold:.4g}, which has "
        f"the best F1 ({best:.3f}) on these rows."
    )
    return threshold, _BEST_F1, [note]


def _asked(rule: ThresholdRule) -> tuple[str, _Scores]:
    if isinstance(rule, CostRule):
        words = f"the lowest cost, {rule.false_positive:g} for a false positive and {rule.false_negative:g} for a miss"
        return (
            words,
            lambda hits, calls, positives, _: (
                -(rule.false_positive * (calls - hits) + rule.false_negative * (positives - hits))
            ),
        )
    if isinstance(rule, CapacityRule):
        words = f"as many rows as possible, at most {rule.share:.4g} of all"
        return words, lambda _, calls, __, rows: np.where(calls <= rule.share * rows, calls, -calls)
    return _BEST_F1, _f1


def _f1(hits: _Counts, calls: _Counts, positives: int, _: int) -> _Counts:
    return np.asarray(2 * hits / (calls + positives))


def _best(positive: npt.NDArray[np.bool_], chances: Probabilities, scores_of: _Scores) -> tuple[float, float]:
    """Returns the probability with the best score, and this score."""
    order = np.argsort(-chances, kind="stable")
    ranked = chances[order]
    last = np.append(np.nonzero(np.diff(ranked))[0], len(ranked) - 1)
    hits = np.cumsum(positive[order])[last]
    scores = scores_of(hits, last + 1, int(positive.sum()), len(chances))
    best = int(np.argmax(scores))
    return float(ranked[last[best]]), float(scores[best])
