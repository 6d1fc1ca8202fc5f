"""Compares our architectures with others' libraries on public data: ROC AUC, log loss and KS on held-out rows.

``python -m tests.load.model_quality`` prints means with standard errors of the differences from `auto`, paired over
data sets and seeds, and the seconds of a fit. All sides get the same rows and as many threads as `OMP_NUM_THREADS`
says. Libraries get their native categories for texts. `--autogluon` also runs AutoGluon, which needs an environment of
its own: the variable `AUTOGLUON_PYTHON` names its interpreter.
"""

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import catboost
import lightgbm
import numpy as np
import numpy.typing as npt
import polars as pl
import xgboost
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupShuffleSplit, StratifiedShuffleSplit, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from functions.jobs.fitting.base import Examples, FitTask, Hardware
from functions.jobs.fitting.families import family_of
from functions.jobs.fitting.xgboost import feature_types
from functions.jobs.modelling.frames import infer_schema
from functions.jobs.modelling.metrics import measure
from functions.jobs.modelling.splits import validation_folds
from functions.jobs.modelling.training import Session, Workspace
from shared.models.job import MetricName
from shared.propensity.architectures.registry import validate_configuration
from shared.propensity.holdouts import Labels
from shared.propensity.log_odds import LogOddsModel, mean
from shared.propensity.tables import encode_frame
from tests.fixtures.datasets import DATASETS, HEALTH_INSURANCE, ORANGE_JUICE, Dataset
from tests.load.harness import options, show

TEST_SHARE = 0.3
THREADS = int(os.environ.get("OMP_NUM_THREADS", "1"))
TRIALS = 50
# A fit of features and labels that then predicts the test rows.
Fit = Callable[[pl.DataFrame, Labels, pl.DataFrame, int], Any]
Rows = npt.NDArray[np.intp]
METRICS = (MetricName.ROC_AUC, MetricName.LOG_LOSS, MetricName.KS)


@dataclass(frozen=True)
class Task:
    """A data set with the kind of rows that are held out: any, the latest ones, or those of whole groups."""

    dataset: Dataset
    split: str = "random"
    column: str = ""

    @property
    def name(self) -> str:
        return self.dataset.name + (f" by {self.column}" if self.column else "")

    def rows(self, frame: pl.DataFrame, labels: Labels, seed: int) -> tuple[Rows, Rows]:
        """Returns the rows to fit and the rows to predict."""
        if self.split == "time":
            # Seeds differ in the rows that they fit on, because the latest rows are always the same.
            order = np.argsort(frame[self.column].to_numpy(), kind="stable")
            latest, earlier = order[int(len(order) * (1 - TEST_SHARE)) :], order[: int(len(order) * (1 - TEST_SHARE))]
            kept = np.random.default_rng(seed).permutation(earlier)[: int(0.9 * len(earlier))]
            return np.sort(kept), latest
        if self.split == "group":
            splitter = GroupShuffleSplit(1, test_size=TEST_SHARE, random_state=seed)
            ((fitted, held_out),) = splitter.split(labels, labels, frame[self.column].to_numpy())
            return fitted, held_out
        splitter = StratifiedShuffleSplit(1, test_size=TEST_SHARE, random_state=seed)
        ((fitted, held_out),) = splitter.split(labels, labels)
        return fitted, held_out


TASKS = (
    *(Task(dataset) for dataset in DATASETS),
    Task(ORANGE_JUICE, "time", "WeekofPurchase"),
    Task(ORANGE_JUICE, "group", "StoreID"),
    Task(HEALTH_INSURANCE, "time", "year"),
)


class SilentObserver:
    """An observer of a training that ignores its progress."""

    stop_requested = False

    def record(self, name: str, value: float, step: int) -> None:
        pass


def fit_ours(architecture: str, examples: Examples, categorical: Sequence[int], seed: int) -> LogOddsModel:
    """Returns the model of a training with an empty configuration."""
    labels = examples.labels
    configuration = validate_configuration(architecture, {}).resolved(len(labels), int(labels.sum()))
    folds = validation_folds(configuration.ensemble_size or 1, 0.2, labels, None, seed)
    with tempfile.TemporaryDirectory() as folder:
        session = Session(Workspace.open(Path(folder), "bench"), SilentObserver(), 1000.0)
        task = FitTask(examples, folds, categorical, Hardware(THREADS), seed)
        return mean(family_of(architecture).fit_folds(configuration, task, session))


def ours(architecture: str, features: pl.DataFrame, labels: Labels, test: pl.DataFrame, seed: int) -> Any:
    schema = infer_schema(features)
    model = fit_ours(architecture, Examples(encode_frame(schema, features), labels), schema.categorical, seed)
    return model.predict(encode_frame(schema, test))


def encode_texts(features: pl.DataFrame, test: pl.DataFrame) -> tuple[Any, Any, list[int]]:
    """Returns both frames as numbers, texts as codes in alphabetical order, and the columns of codes."""
    texts = [name for name, dtype in features.schema.items() if dtype == pl.String]
    codes = [
        pl.col(name).replace_strict(
            seen := sorted(features[name].drop_nulls().unique()), range(len(seen)), default=None
        )
        for name in texts
    ]
    matrices = [
        frame.with_columns(codes).cast(pl.Float64).fill_null(float("nan")).to_numpy() for frame in (features, test)
    ]
    return matrices[0], matrices[1], [features.columns.index(name) for name in texts]


def lightgbm_defaults(features: pl.DataFrame, labels: Labels, test: pl.DataFrame, seed: int) -> Any:
    fitted, held_out, categorical = encode_texts(features, test)
    training_set = lightgbm.Dataset(fitted, labels, categorical_feature=categorical)
    parameters = {"objective": "binary", "verbosity": -1, "num_threads": THREADS, "seed": seed}
    return lightgbm.train(parameters, training_set).predict(held_out, num_threads=THREADS)


def lightgbm_tuned(features: pl.DataFrame, labels: Labels, test: pl.DataFrame, seed: int) -> Any:
    """Predicts with the best of 50 random settings, by early stopping on a fifth of the rows, fitted on all of them."""
    fitted, held_out, categorical = encode_texts(features, test)
    rows, others = train_test_split(np.arange(len(labels)), test_size=0.2, random_state=seed, stratify=labels)
    random = np.random.default_rng(seed)
    best: tuple[float, dict[str, Any], int] = (float("inf"), {}, 1)
    for _ in range(TRIALS):
        parameters = {
            "objective": "binary",
            "verbosity": -1,
            "num_threads": THREADS,
            "seed": seed,
            "learning_rate": float(10 ** random.uniform(-2, -0.7)),
            "num_leaves": int(2 ** random.uniform(2, 7)),
            "min_data_in_leaf": int(2 ** random.uniform(1, 7)),
            "feature_fraction": float(random.uniform(0.4, 1)),
            "bagging_fraction": float(random.uniform(0.5, 1)),
            "bagging_freq": 1,
            "lambda_l2": float(10 ** random.uniform(-2, 2)),
        }
        data = lightgbm.Dataset(fitted[rows], labels[rows], categorical_feature=categorical)
        stop = lightgbm.early_stopping(50, verbose=False)
        validation = data.create_valid(fitted[others], labels[others])
        found = lightgbm.train(parameters, data, 1000, valid_sets=[validation], callbacks=[stop])
        loss = found.best_score["valid_0"]["binary_logloss"]
        if loss < best[0]:
            best = (loss, parameters, found.best_iteration)
    data = lightgbm.Dataset(fitted, labels, categorical_feature=categorical)
    return lightgbm.train(best[1], data, best[2]).predict(held_out, num_threads=THREADS)


def xgboost_defaults(features: pl.DataFrame, labels: Labels, test: pl.DataFrame, seed: int) -> Any:
    """Predicts with the 100 rounds of XGBoost's scikit-learn class."""
    fitted, held_out, categorical = encode_texts(features, test)
    types = feature_types(fitted.shape[1], categorical)
    matrix = partial(xgboost.DMatrix, feature_types=types, enable_categorical=True, nthread=THREADS)
    parameters = {"objective": "binary:logistic", "nthread": THREADS, "seed": seed}
    return xgboost.train(parameters, matrix(fitted, labels), 100).predict(matrix(held_out))


def catboost_defaults(features: pl.DataFrame, labels: Labels, test: pl.DataFrame, seed: int) -> Any:
    texts = [index for index, dtype in enumerate(features.dtypes) if dtype == pl.String]
    model = catboost.CatBoostClassifier(verbose=0, allow_writing_files=False, thread_count=THREADS, random_seed=seed)
    filled = [frame.with_columns(pl.col(pl.String).fill_null("missing")) for frame in (features, test)]
    fitted, held_out = (frame.to_numpy().astype(object) for frame in filled)
    return model.fit(fitted, labels, cat_features=texts).predict_proba(held_out)[:, 1]


def logistic_regression(features: pl.DataFrame, labels: Labels, test: pl.DataFrame, seed: int) -> Any:
    fitted, held_out, categorical = encode_texts(features, test)
    numeric = [index for index in range(fitted.shape[1]) if index not in categorical]
    prepared = make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler()), numeric),
        (OneHotEncoder(handle_unknown="ignore"), categorical),
    )
    model = make_pipeline(prepared, LogisticRegression(max_iter=2000, random_state=seed))
    return model.fit(fitted, labels).predict_proba(held_out)[:, 1]


AUTOGLUON = """
import sys
import pandas as pd
from autogluon.tabular import TabularPredictor
folder, seconds = sys.argv[1], float(sys.argv[2])
fitted, test = (pd.read_csv(f"{folder}/{name}.csv") for name in ("fitted", "test"))
model = TabularPredictor("label", path=f"{folder}/models", eval_metric="roc_auc", verbosity=0)
model.fit(fitted, presets="medium_quality", time_limit=seconds, num_cpus=int(sys.argv[3]))
model.predict_proba(test)[1].to_csv(f"{folder}/chances.csv", index=False)
"""


def autogluon(features: pl.DataFrame, labels: Labels, test: pl.DataFrame, seed: int, *, seconds: float = 60.0) -> Any:
    """Predicts with AutoGluon's medium quality and as much time as it is given, in the environment named above."""
    with tempfile.TemporaryDirectory() as folder:
        features.with_columns(label=pl.Series(labels.astype(int))).write_csv(f"{folder}/fitted.csv")
        test.write_csv(f"{folder}/test.csv")
        command = [os.environ["AUTOGLUON_PYTHON"], "-c", AUTOGLUON, folder, str(seconds), str(THREADS)]
        subprocess.run(command, check=True, capture_output=True)
        return pl.read_csv(f"{folder}/chances.csv").to_series().to_numpy()


SIDES: dict[str, Fit] = {
    "auto": partial(ours, "auto"),
    "our LightGBM": partial(ours, "lightgbm"),
    "our XGBoost": partial(ours, "xgboost"),
    "our CatBoost": partial(ours, "catboost"),
    "additive": partial(ours, "additive"),
    "LightGBM": lightgbm_defaults,
    "LightGBM tuned": lightgbm_tuned,
    "XGBoost": xgboost_defaults,
    "CatBoost": catboost_defaults,
    "logistic": logistic_regression,
}


@dataclass(frozen=True)
class Score:
    """The metrics of one fit on held-out rows, and its seconds."""

    metrics: dict[MetricName, float]
    seconds: float


def score(task: Task, fit: Fit, seed: int) -> Score:
    """Fits and measures one side on one split."""
    frame = task.dataset.frame()
    labels = (frame[task.dataset.target] == task.dataset.positive_label).to_numpy().astype(np.float32)
    # A group that is held out says nothing about itself.
    features = frame.drop(task.dataset.target, *([task.column] if task.split == "group" else []))
    fitted, held_out = task.rows(frame, labels, seed)
    began = time.perf_counter()
    chances = fit(features[fitted], labels[fitted], features[held_out], seed)
    seconds = time.perf_counter() - began
    measured = measure(labels[held_out], np.clip(np.asarray(chances, dtype=np.float64), 0, 1)).metrics
    return Score({name: measured[name] or 0.0 for name in METRICS}, seconds)


def difference(values: Sequence[float], others: Sequence[float]) -> str:
    """Returns the mean of the paired differences with its standard error."""
    paired = [one - other for one, other in zip(values, others, strict=True)]
    error = statistics.stdev(paired) / len(paired) ** 0.5 if len(paired) > 1 else 0.0
    return f"{statistics.fmean(paired):+.4f} ± {error:.4f}"


def main() -> None:
    chosen = options(__doc__, seeds=3, sets=len(TASKS), autogluon=False, quick=False)
    sides = {**SIDES, **({"AutoGluon": autogluon} if chosen.autogluon else {})}
    if chosen.quick:
        sides = {name: sides[name] for name in ("auto", "our XGBoost", "additive", "CatBoost", "logistic")}
    tasks, seeds = TASKS[: chosen.sets], range(7, 7 + chosen.seeds)
    scores = {
        side: {task.name: [score(task, fit, seed) for seed in seeds] for task in tasks} for side, fit in sides.items()
    }
    areas = [
        (task.name, *(f"{_mean(each[task.name], MetricName.ROC_AUC):.4f}" for each in scores.values()))
        for task in tasks
    ]
    show(f"ROC AUC, mean of {chosen.seeds} seeds (auto at most 0.003 below the best)", ("data set", *sides), areas)
    auto = [each for of_task in scores["auto"].values() for each in of_task]
    rows = []
    for side, by_task in scores.items():
        flat = [each for of_task in by_task.values() for each in of_task]
        row = [side]
        for name in METRICS:
            mine, theirs = ([each.metrics[name] for each in some] for some in (auto, flat))
            row += [f"{statistics.fmean(theirs):.4f}", difference(mine, theirs)]
        rows.append((*row, f"{statistics.fmean(each.seconds for each in flat):.1f}"))
    names = [column for name in METRICS for column in (name.value, "auto less it")]
    show("Means over all data sets and seeds", ("", *names, "seconds"), rows)


def _mean(scores: Sequence[Score], name: MetricName) -> float:
    return statistics.fmean(each.metrics[name] for each in scores)


if __name__ == "__main__":
    main()
