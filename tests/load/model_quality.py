"""What our defaults are worth beside LightGBM's, XGBoost's and CatBoost's own, on the same splits of public data.

``uv run --group bench python -m tests.load.model_quality`` prints the mean ROC AUC on held-out rows of each data set.
Ours is what a training does with an empty configuration. The libraries get the same rows, texts as their native
categories, and nothing but their defaults: LightGBM's and XGBoost's 100 rounds, CatBoost's 1000.
"""

import argparse
import importlib.util
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import numpy.typing as npt
import polars as pl
import xgboost
from shared.propensity.frames import encode_frame, infer_schema
from shared.propensity.splits import validation_folds
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedShuffleSplit

from shared.propensity.architectures.base import Examples
from shared.propensity.architectures.registry import ARCHITECTURES, validate_configuration
from shared.propensity.architectures.xgboost import feature_types
from shared.propensity.training import Workspace, fit_ensemble
from tests.fixtures.datasets import DATASETS, Dataset

Labels = npt.NDArray[np.float32]
TEST_SHARE = 0.25
Fit = Callable[[pl.DataFrame, Labels, pl.DataFrame], Any]


class Unobserved:
    """An observer that asks for nothing."""

    stop_requested = False

    def record(self, name: str, value: float, step: int) -> None:
        """Forgets it."""


def ours(architecture: str) -> Fit:
    """A training with an empty configuration."""

    def fit(features: pl.DataFrame, labels: Labels, test: pl.DataFrame) -> Any:
        schema = infer_schema(features)
        examples = Examples(encode_frame(schema, features), labels)
        configuration = validate_configuration(architecture, {}).resolved(len(labels))
        size = configuration.ensemble_size or 1
        folds = validation_folds(size, configuration.validation_fraction, labels, None, 0)
        family = ARCHITECTURES[architecture].load()
        with tempfile.TemporaryDirectory() as folder:
            workspace = Workspace.open(Path(folder), family.suffix, "bench")
            ensemble = fit_ensemble(
                family, configuration, examples, folds, schema.categorical, 0, 0, Unobserved(), workspace, 1.0
            )
            return ensemble.predict(encode_frame(schema, test))

    return fit


def coded(features: pl.DataFrame, test: pl.DataFrame) -> tuple[Any, Any, list[int]]:
    """Numbers, with texts as codes in the order of their names; which columns are codes."""
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
    """LightGBM as it comes."""
    fitted, held_out, categorical = coded(features, test)
    training_set = lightgbm.Dataset(fitted, labels, categorical_feature=categorical)
    return lightgbm.train({"objective": "binary", "verbosity": -1}, training_set).predict(held_out)


def xgboost_defaults(features: pl.DataFrame, labels: Labels, test: pl.DataFrame) -> Any:
    """XGBoost as it comes, with the 100 rounds of its scikit-learn class."""
    fitted, held_out, categorical = coded(features, test)
    options: dict[str, Any] = {
        "feature_types": feature_types(fitted.shape[1], categorical),
        "enable_categorical": True,
    }
    model = xgboost.train({"objective": "binary:logistic"}, xgboost.DMatrix(fitted, labels, **options), 100)
    return model.predict(xgboost.DMatrix(held_out, **options))


def catboost_defaults(features: pl.DataFrame, labels: Labels, test: pl.DataFrame) -> Any:
    """CatBoost as it comes, told which columns are texts."""
    import catboost

    texts = [index for index, dtype in enumerate(features.dtypes) if dtype == pl.String]
    model = catboost.CatBoostClassifier(verbose=0, allow_writing_files=False)
    fitted, held_out = (frame.to_numpy().astype(object) for frame in (features, test))
    return model.fit(fitted, labels, cat_features=texts).predict_proba(held_out)[:, 1]


def mean_auc(dataset: Dataset, fit: Fit, splits: int) -> float:
    """Over stratified splits, the same for everyone."""
    frame = dataset.frame()
    labels = (frame[dataset.target] == dataset.positive_label).to_numpy().astype(np.float32)
    features = frame.drop(dataset.target)
    shuffles = StratifiedShuffleSplit(splits, test_size=TEST_SHARE, random_state=7).split(labels, labels)
    return statistics.fmean(
        float(roc_auc_score(labels[held_out], fit(features[fitted], labels[fitted], features[held_out])))
        for fitted, held_out in shuffles
    )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description="Our defaults beside the libraries' own.")
    parser.add_argument("--splits", type=int, default=5)
    arguments, _ = parser.parse_known_args()
    contestants: dict[str, Fit] = {
        "our lightgbm": ours("lightgbm"),
        "lightgbm": lightgbm_defaults,
        "our xgboost": ours("xgboost"),
        "xgboost": xgboost_defaults,
    }
    if importlib.util.find_spec("catboost"):
        contestants["catboost"] = catboost_defaults
    else:
        print("CatBoost is not installed: run with `uv run --group bench`")
    print(f"mean ROC AUC over {arguments.splits} stratified splits, {TEST_SHARE:.0%} held out")
    print(f"{'':18}" + "".join(f"{name:>14}" for name in contestants))
    table = []
    for dataset in DATASETS:
        row = [mean_auc(dataset, fit, arguments.splits) for fit in contestants.values()]
        print(f"{dataset.name:18}" + "".join(f"{value:14.4f}" for value in row), flush=True)
        table.append(row)
    means = dict(zip(contestants, (statistics.fmean(column) for column in zip(*table, strict=True)), strict=True))
    print(f"{'mean':18}" + "".join(f"{value:14.4f}" for value in means.values()))
    for name in ARCHITECTURES:
        print(f"our {name} minus {name}'s own: {means[f'our {name}'] - means[name]:+.4f} (at least 0 wanted)")
    if "catboost" in means:
        best = max(means[f"our {name}"] for name in ARCHITECTURES)
        print(f"our better one minus CatBoost's own: {best - means['catboost']:+.4f} (at least -0.003 wanted)")


if __name__ == "__main__":
    main()
