"""XGBoost, on CPU or CUDA."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import xgboost

from shared.errors import JobFailedError
from shared.propensity.architectures.base import (
    Architecture,
    ContributionMatrix,
    Examples,
    Hardware,
    Predictor,
    Probabilities,
    RoundWatcher,
    threads_for,
)
from shared.propensity.architectures.configuration import XGBoostConfiguration
from shared.propensity.errors import CheckpointError
from shared.propensity.features import Matrix


@dataclass
class XGBoostPredictor(Predictor):
    """A booster of which every round counts."""

    booster: xgboost.Booster
    _threads: int = 0

    def predict(self, matrix: Matrix) -> Probabilities:
        """See ``Predictor``."""
        self._use_threads(threads_for(matrix))
        return np.asarray(self.booster.inplace_predict(matrix), dtype=np.float64)

    def contributions(self, matrix: Matrix) -> ContributionMatrix:
        """See ``Predictor``."""
        self._use_threads(threads_for(matrix))
        rows = xgboost.DMatrix(
            matrix, feature_types=self.booster.feature_types, enable_categorical=True, nthread=self._threads
        )
        return np.asarray(self.booster.predict(rows, pred_contribs=True), dtype=np.float64)

    def save(self, path: Path) -> None:
        """See ``Predictor``."""
        self.booster.save_model(path)

    def _use_threads(self, threads: int) -> None:
        """Setting a parameter costs more than predicting a row, for the booster is configured anew."""
        if threads != self._threads:
            self.booster.set_param({"nthread": threads})
            self._threads = threads


class _Watch(xgboost.callback.TrainingCallback):
    def __init__(self, watcher: RoundWatcher, done: int) -> None:
        super().__init__()
        self.watcher, self.done = watcher, done

    def after_iteration(self, model: xgboost.Booster, epoch: int, evals_log: Any) -> bool:
        del epoch
        losses = evals_log["validation"]["logloss"]
        return self.watcher.after_round(self.done + len(losses), losses[-1], model.save_model)


class XGBoost(Architecture[XGBoostConfiguration]):
    """See ``Architecture``."""

    name: ClassVar[str] = "xgboost"
    suffix: ClassVar[str] = ".ubj"

    def fit(
        self,
        configuration: XGBoostConfiguration,
        fitted: Examples,
        validation: Examples,
        categorical: Sequence[int],
        hardware: Hardware,
        seed: int,
        watcher: RoundWatcher,
        resume: tuple[Path, int] | None = None,
    ) -> XGBoostPredictor:
        """See ``Architecture``."""
        model_file, done = resume or (None, 0)
        if hardware.gpu_count and not _finds_gpu():
            raise JobFailedError("XGBoost found no GPU that it can train on. Set gpu_count to 0 and start again.")
        parameters = library_parameters(configuration, hardware, seed)
        types = feature_types(fitted.matrix.shape[1], categorical)
        training_set = xgboost.QuantileDMatrix(
            fitted.matrix,
            fitted.labels,
            feature_types=types,
            enable_categorical=True,
            max_bin=configuration.max_bin,
            nthread=hardware.threads,
        )
        validation_set = xgboost.QuantileDMatrix(
            validation.matrix,
            validation.labels,
            feature_types=types,
            enable_categorical=True,
            max_bin=configuration.max_bin,
            nthread=hardware.threads,
            ref=training_set,
        )
        booster = xgboost.train(
            parameters,
            training_set,
            num_boost_round=max(configuration.n_estimators - done, 1),
            evals=[(validation_set, "validation")],
            verbose_eval=False,
            xgb_model=model_file,
            callbacks=[_Watch(watcher, done)],
        )
        return XGBoostPredictor(booster[: watcher.best_round])

    def load(self, path: Path) -> XGBoostPredictor:
        """See ``Architecture``."""
        try:
            return XGBoostPredictor(xgboost.Booster(model_file=path))
        except (xgboost.core.XGBoostError, ValueError) as error:
            raise CheckpointError(f"{path.name} is not an XGBoost model") from error


def _finds_gpu() -> bool:
    """Without a GPU or CUDA, XGBoost warns and trains on the CPU; its configuration shows which one it used."""
    row = xgboost.DMatrix(np.zeros((1, 1)), [0])
    booster = xgboost.Booster({"device": "cuda"}, [row])
    return bool(json.loads(booster.save_config())["learner"]["generic_param"]["device"] != "cpu")


def feature_types(width: int, categorical: Sequence[int]) -> list[str]:
    """XGBoost's letters: c for a column of category codes, q for a quantity."""
    codes = set(categorical)
    return ["c" if index in codes else "q" for index in range(width)]


def library_parameters(configuration: XGBoostConfiguration, hardware: Hardware, seed: int) -> dict[str, Any]:
    """Returns a resolved configuration as XGBoost's own parameters."""
    return {
        "objective": "binary:logistic",
        "eval_metric": "logloss",
        "tree_method": "hist",
        "learning_rate": configuration.learning_rate,
        "max_depth": configuration.max_depth,
        "min_child_weight": configuration.min_child_weight,
        "gamma": configuration.gamma,
        "alpha": configuration.reg_alpha,
        "lambda": configuration.reg_lambda,
        "subsample": configuration.subsample,
        "colsample_bytree": configuration.colsample_bytree,
        "max_bin": configuration.max_bin,
        "nthread": hardware.threads,
        "device": "cuda" if hardware.gpu_count else "cpu",
        "seed": seed,
        # A continued fit draws the rows of a round as the whole one does, though not its columns.
        "seed_per_iteration": True,
    }
