"""Chooses the probability from which on a row is called positive."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from functions.jobs.fitting.base import Examples
from shared.propensity.holdouts import Labels, Mask
from shared.propensity.log_odds import LogOddsModel, Probabilities

USUAL = 0.5
# If fewer of the positive rows reach the usual threshold, it calls hardly anything positive.
LEAST_RECALL = 0.05


def held_out_chances(
    models: Sequence[LogOddsModel], examples: Examples, folds: Sequence[Mask]
) -> tuple[Labels, Probabilities]:
    """Returns the labels of the folds' rows, and their probabilities by the models that have not seen them."""
    labels = [examples.labels[held] for held in folds]
    chances = [model.predict(examples.matrix[held]) for model, held in zip(models, folds, strict=True)]
    return np.concatenate(labels), np.concatenate(chances)


def choose_threshold(labels: Labels, chances: Probabilities) -> tuple[float, list[str]]:
    """Returns the threshold and notes about it: 0.5, or the one with the best F1 where 0.5 calls hardly any row."""
    positive = labels == 1
    recall = float((chances[positive] >= USUAL).mean()) if positive.any() else 1.0
    if recall >= LEAST_RECALL:
        return USUAL, []
    threshold, best = _best_f1(positive, chances)
    note = (
        f"Of the positive rows that the model had not seen, {recall:.1%} have a probability of 0.5 or more, because "
        f"only {positive.mean():.2%} of the rows are positive. The threshold is therefore {threshold:.4g}, which has "
        f"the best F1 ({best:.3f}) on these rows."
    )
    return threshold, [note]


def _best_f1(positive: npt.NDArray[np.bool_], chances: Probabilities) -> tuple[float, float]:
    order = np.argsort(-chances, kind="stable")
    ranked = chances[order]
    last = np.append(np.nonzero(np.diff(ranked))[0], len(ranked) - 1)
    hits = np.cumsum(positive[order])[last]
    scores = 2 * hits / (last + 1 + positive.sum())
    best = int(np.argmax(scores))
    return float(ranked[last[best]]), float(scores[best])
