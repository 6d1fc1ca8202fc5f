"""Compares our architectures with logistic regression and the best possible ranking where few rows are positive.

Rows are generated, so the true probabilities are known. Each cell of the grid is a share of positive rows, a number of
rows and a number of columns. No architecture may be more than 0.005 of ROC AUC below logistic regression.
"""

import itertools
import statistics
from typing import Any

import numpy as np
import polars as pl

from functions.jobs.modelling.metrics import roc_curve
from shared.propensity.holdouts import Labels
from tests.load.harness import options, show
from tests.load.model_quality import logistic_regression, ours

RATES, ROWS, COLUMNS = (0.1, 0.01, 0.003), (5_000, 20_000, 80_000), (5, 40)
TEST_ROWS = 40_000
LIMIT = 0.005
ARCHITECTURES = ("auto", "lightgbm", "xgboost", "additive")


def clients(rows: int, rate: float, columns: int, seed: int) -> tuple[pl.DataFrame, Labels, Any]:
    """Returns clients, their labels, and their true log-odds: mostly a sum, with a bend and an interaction."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(rows, columns))
    signal = values[:, 0] + 0.7 * values[:, 1] + 0.5 * np.maximum(values[:, 2], 0) + 0.4 * values[:, 3] * values[:, 4]
    low, high = -20.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if (1 / (1 + np.exp(-(signal + middle)))).mean() < rate else (low, middle)
    log_odds = signal + low
    labels = (random.random(rows) < 1 / (1 + np.exp(-log_odds))).astype(np.float32)
    return pl.DataFrame(values, schema=[f"x{index}" for index in range(columns)]), labels, log_odds


def main() -> None:
    chosen = options(__doc__, seeds=3, largest=max(ROWS))
    rows, below = [], 0
    for rate, count, columns in itertools.product(RATES, ROWS, COLUMNS):
        if count > chosen.largest or count * rate < 20:
            continue
        areas: dict[str, list[float]] = {}
        for seed in range(chosen.seeds):
            features, labels, _ = clients(count, rate, columns, seed)
            test, truth, log_odds = clients(TEST_ROWS, rate, columns, 1000 + seed)
            sides = {name: ours(name, features, labels, test, seed) for name in ARCHITECTURES}
            sides |= {"logistic": logistic_regression(features, labels, test, seed), "best possible": log_odds}
            for name, scores in sides.items():
                areas.setdefault(name, []).append(roc_curve(truth.astype(np.float64), np.asarray(scores)).area)
        means = {name: statistics.fmean(values) for name, values in areas.items()}
        failed = [name for name in ARCHITECTURES if means[name] < means["logistic"] - LIMIT]
        below += len(failed)
        row = (f"{rate:g}", f"{count:,}", str(columns), *(f"{means[name]:.4f}" for name in means), ", ".join(failed))
        rows.append(row)
    names = (*ARCHITECTURES, "logistic", "best possible", f"more than {LIMIT} below logistic")
    show("ROC AUC at low base rates", ("positive", "rows", "columns", *names), rows)
    if below:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
