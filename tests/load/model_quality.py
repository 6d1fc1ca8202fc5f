"""Compares the ROC AUC of our default models with the defaults of LightGBM, XGBoost and CatBoost on public data.

``uv run --group bench python -m tests.load.model_quality`` prints the mean ROC AUC on held-out rows of each data set.
Our models come from a training with an empty configuration. The libraries get the same splits, their native categories
for texts, and only their defaults: 100 rounds of LightGBM and XGBoost, 1000 of CatBoost.
"""

import importlib.util
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import numpy.typing as npt
import polars as pl
import xgboost
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedShuffleSplit

from functions.jobs.fitting.base import Examples
from functions.jobs.fitting.xgboost import feature_types
from functions.jobs.modelling.frames import encode_frame, infer_schema
from functions.jobs.modelling.splits import validation_folds
from functions.jobs.modelling.training import Workspace, fit_ensemble
from shared.propensity.architectures.registry import ARCHITECTURES, validate_configuration
from tests.fixtures.datasets import DATASETS, Dataset
from tests.load.harness import options, show

Labels = npt.NDArray[np.float32]
TEST_SHARE = 0.25
# A function that fits the features and labels, and then predicts the test rows.
Fit = Callable[[pl.DataFrame, Labels, pl.DataFrame], Any]


class SilentObserver:
    """An observer of a training that ignores its progress."""

    stop_requested = False

    def record(self, name: str, value: float, step: int) -> None:
        pass


def ours(architecture: str, features: pl.DataFrame, labels: Labels, test: pl.DataFrame) -> Any:
    """Predicts with a training with an empty configuration."""
    schema = infer_schema(features)
    examples = Examples(encode_frame(schema, features), labels)
    configuration = validate_configuration(architecture, {}).resolved(len(labels))
    size = configuration.ensemble_size or 1
    folds = validation_folds(size, configuration.validation_fraction, labels, None, 0)
    family = ARCHITECTURES[architecture].load()
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace.open(Path(folder), family.suffix, "bench")
        ensemble = fit_ensemble(
            family, configuration, examples, folds, schema.categorical, 0, 0, SilentObserver(), workspace, 1.0
        )
        return ensemble.predict(encode_frame(schema, test))


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


def lightgbm_defaults(features: pl.DataFrame, labels: Labels, test: pl.DataFrame) -> Any:
    fitted, held_out, categorical = encode_texts(features, test)
    training_set = lightgbm.Dataset(fitted, labels, categorical_feature=categorical)
    return lightgbm.train({"objective": "binary", "verbosity": -1}, training_set).predict(held_out)


def xgboost_defaults(features: pl.DataFrame, labels: Labels, test: pl.DataFrame) -> Any:
    """Predicts with the 100 rounds of XGBoost's scikit-learn class."""
    fitted, held_out, categorical = encode_texts(features, test)
    types = feature_types(fitted.shape[1], categorical)
    matrix = partial(xgboost.DMatrix, feature_types=types, enable_categorical=True)
    return xgboost.train({"objective": "binary:logistic"}, matrix(fitted, labels), 100).predict(matrix(held_out))


def catboost_defaults(features: pl.DataFrame, labels: Labels, test: pl.DataFrame) -> Any:
    import catboost

    texts = [index for index, dtype in enumerate(features.dtypes) if dtype == pl.String]
    model = catboost.CatBoostClassifier(verbose=0, allow_writing_files=False)
    fitted, held_out = (frame.to_numpy().astype(object) for frame in (features, test))
    return model.fit(fitted, labels, cat_features=texts).predict_proba(held_out)[:, 1]


def mean_auc(dataset: Dataset, fit: Fit, splits: int) -> float:
    """Returns the mean ROC AUC over stratified splits, which are the same for all sides."""
    frame = dataset.frame()
    labels = (frame[dataset.target] == dataset.positive_label).to_numpy().astype(np.float32)
    features = frame.drop(dataset.target)
    shuffles = StratifiedShuffleSplit(splits, test_size=TEST_SHARE, random_state=7).split(labels, labels)
    return statistics.fmean(
        float(roc_auc_score(labels[held_out], fit(features[fitted], labels[fitted], features[held_out])))
        for fitted, held_out in shuffles
    )


def main() -> None:
    splits = options(__doc__, splits=5).splits
    sides: dict[str, Fit] = {
        "our LightGBM": partial(ours, "lightgbm"),
        "LightGBM": lightgbm_defaults,
        "our XGBoost": partial(ours, "xgboost"),
        "XGBoost": xgboost_defaults,
    }
    if importlib.util.find_spec("catboost"):
        sides["CatBoost"] = catboost_defaults
    else:
        print("CatBoost is not installed: run with `uv run --group bench`")
    values = {data.name: [mean_auc(data, fit, splits) for fit in sides.values()] for data in DATASETS}
    values["mean"] = [statistics.fmean(column) for column in zip(*values.values(), strict=True)]
    rows = [(name, *(f"{value:.4f}" for value in row)) for name, row in values.items()]
    title = f"ROC AUC, mean of {splits} splits (ours at least the library's, our best at most 0.003 below CatBoost's)"
    show(title, ("data set", *sides), rows)


if __name__ == "__main__":
    main()
