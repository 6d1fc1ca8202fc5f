"""Finds leakage: columns that give the label away, because their values are only known after the fact."""

import numpy as np
import numpy.typing as npt

from functions.jobs.fitting.base import Examples
from functions.jobs.modelling.metrics import roc_curve
from shared.propensity.dates import Column
from shared.propensity.features import FeatureSchema
from shared.propensity.holdouts import Labels
from shared.propensity.influences import Array

# A column is suspicious if its ROC AUC alone reaches this value.
SUSPICIOUS_AUC = 0.97
_ROWS = 10_000
_LEAST_OF_A_CLASS = 20


def suspicious_columns(schema: FeatureSchema, examples: Examples, seed: int) -> dict[str, float]:
    """Returns the columns that alone predict the label almost perfectly, with their ROC AUC, highest first.

    With fewer than 20 rows of a label, it returns nothing, because a high ROC AUC may be chance.
    """
    rows = _sample(examples.labels, seed)
    labels = examples.labels[rows].astype(np.float64)
    positives = int(labels.sum())
    if min(positives, len(labels) - positives) < _LEAST_OF_A_CLASS:
        return {}
    categorical = set(schema.categorical)
    found: dict[str, float] = {}
    index = 0
    for feature in schema.features:
        for _ in feature.columns:
            column = examples.matrix[rows, index]
            area = _category_area(column, labels) if index in categorical else _area(column, labels)
            if area >= SUSPICIOUS_AUC:
                found[feature.name] = max(area, found.get(feature.name, 0.0))
            index += 1
    return dict(sorted(found.items(), key=lambda each: -each[1]))


def _sample(labels: Labels, seed: int) -> npt.NDArray[np.intp]:
    """Returns rows of both labels: of a rare one, up to half of the sample, because few rows of it would say nothing.

    The area under a ROC curve does not depend on how frequent the labels are.
    """
    drawn = np.random.default_rng(seed).permutation(len(labels))
    sides = [drawn[labels[drawn] == label] for label in (0, 1)]
    halves = [side[: max(_ROWS // 2, _ROWS - len(other))] for side, other in (sides, sides[::-1])]
    return np.random.default_rng(seed).permutation(np.concatenate(halves))


def _area(column: Column, labels: Array) -> float:
    """Returns the ROC AUC of a column, with the better direction and the better end for missing values."""
    known = column[~np.isnan(column)].astype(np.float64)
    ends = (known.min() - 1, known.max() + 1) if len(known) else (0.0,)
    areas = [roc_curve(labels, np.where(np.isnan(column), end, column)).area for end in ends]
    return max(max(area, 1 - area) for area in areas)


def _category_area(column: Column, labels: Array) -> float:
    """Returns the ROC AUC of a categorical column.

    The score of a category is its rate of positive labels in the other half of the rows, so that rare categories do
    not look predictive.
    """
    codes = np.unique(np.nan_to_num(column, nan=-1.0), return_inverse=True)[1]
    halves = np.arange(len(labels)) % 2 == 0
    rates = np.empty(len(labels))
    for half in (halves, ~halves):
        others = ~half
        counts = np.bincount(codes[others], minlength=codes.max() + 1)
        sums = np.bincount(codes[others], weights=labels[others], minlength=codes.max() + 1)
        mean = labels[others].mean()
        rates[half] = ((sums + mean) / (counts + 1))[codes[half]]
    return roc_curve(labels, rates).area
