"""XGBoost, on CPU or CUDA."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import xgboost

from functions.jobs.fitting.base import BoostingArchitecture, Examples, Hardware, RoundWatcher
from shared.errors import JobFailedError
from shared.propensity.architectures.configuration import XGBoostConfiguration
from shared.propensity.log_odds import LogOddsModel
from shared.propensity.xgboost_trees import from_xgboost


class _XGBoostWatch(xgboost.callback.TrainingCallback):
    def __init__(self, watcher: RoundWatcher, done: int) -> None:
        super().__init__()
        self.watcher, self.done = watcher, done

    def after_iteration(self, model: xgboost.Booster, epoch: int, evals_log: Any) -> bool:
        del epoch
        losses = evals_log["validation"]["logloss"]
        return self.watcher.after_round(self.done + len(losses), losses[-1], model.save_model)


class XGBoost(BoostingArchitecture[XGBoostConfiguration]):
    """See ``BoostingArchitecture``."""

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
    ) -> LogOddsModel:
        """See ``BoostingArchitecture``."""
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
            callbacks=[_XGBoostWatch(watcher, done)],
        )
        return from_xgboost(json.loads(booster[: watcher.best_round].save_raw("json")))


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
