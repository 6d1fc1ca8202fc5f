"""Columns that give the label away are found however rare the label is."""

from typing import Literal

import numpy as np
import pytest

from functions.jobs.fitting.base import Examples
from functions.jobs.modelling.leakage import suspicious_columns
from shared.propensity.features import Feature, FeatureSchema


@pytest.mark.row("Y-3")
@pytest.mark.parametrize("kind", ["numeric", "categorical"])
@pytest.mark.parametrize("positives", [25, 1_000, 59_000])
def test_a_leak_is_found_at_every_rate(kind: Literal["numeric", "categorical"], positives: int) -> None:
    random = np.random.default_rng(3)
    labels = (random.permutation(60_000) < positives).astype(np.float32)
    matrix = random.integers(0, 50, size=(60_000, 2)).astype(np.float32)
    matrix[labels == 1, 1] = 60 + random.integers(0, 3, positives)
    features = [
        Feature(name=name, kind=kind, categories=[str(code) for code in range(63)]) for name in ("fair", "leak")
    ]

    assert list(suspicious_columns(FeatureSchema(features=features), Examples(matrix, labels), 0)) == ["leak"]
