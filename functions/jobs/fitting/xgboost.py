"""XGBoost, on CPU or CUDA."""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import xgboost

from functions.jobs.fitting.base import BoostingArchitecture, Examples, Hardware, RoundWatcher
from shared.errors import JobFailedError
from shared.propensity.architectures.configuration import XGBoostConfiguration
from shared.propensity.log_odds import LogOddsModel
from shared.propensity.xgboost_trees import from_xgboost

Batches = Callable[[], Iterator[Examples]]


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
        types = feature_types(fitted.matrix.shape[1], categorical)
        data = partial(
            xgboost.QuantileDMatrix,
            feature_types=types,
            enable_categorical=True,
            max_bin=configuration.max_bin,
            nthread=hardware.threads,
        )
        _require_gpu(hardware)
        training_set = data(fitted.matrix, fitted.labels)
        validation_set = data(validation.matrix, validation.labels, ref=training_set)
        # The sets have the values in steps, so the rows themselves need no memory while trees grow.
        del fitted, validation
        return _boost(configuration, training_set, validation_set, hardware, seed, watcher, resume)


def fit_batches(
    configuration: XGBoostConfiguration,
    fitted: Batches,
    validation: Batches,
    width: int,
    categorical: Sequence[int],
    hardware: Hardware,
    seed: int,
    watcher: RoundWatcher,
    resume: tuple[Path, int] | None = None,
    cache: Path | None = None,
) -> LogOddsModel:
    """Boosts on rows that come in batches, together with the other workers if there are any.

    Columns are kept in steps in the memory, or with ``cache`` in files that begin so.
    """
    _require_gpu(hardware)
    types = feature_types(width, categorical)
    data = partial(
        xgboost.ExtMemQuantileDMatrix if cache else xgboost.QuantileDMatrix,
        enable_categorical=True,
        max_bin=configuration.max_bin,
        nthread=hardware.threads,
    )
    training_set = data(_BatchIterator(fitted, types, cache and cache.with_suffix(".fit")))
    validation_set = data(_BatchIterator(validation, types, cache and cache.with_suffix(".check")), ref=training_set)
    return _boost(configuration, training_set, validation_set, hardware, seed, watcher, resume)


class _BatchIterator(xgboost.DataIter):
    """Gives XGBoost one batch after the other. A worker without rows gives an empty one, because it takes part."""

    def __init__(self, batches: Batches, types: list[str], cache: Path | None) -> None:
        self._batches, self._types, self._left = batches, types, self._with_one(batches())
        super().__init__(cache_prefix=None if cache is None else str(cache), release_data=True)

    def next(self, input_data: Callable[..., None]) -> bool:
        batch = next(self._left, None)
        if batch is not None:
            input_data(data=batch.matrix, label=batch.labels, feature_types=self._types)
        return batch is not None

    def reset(self) -> None:
        self._left = self._with_one(self._batches())

    def _with_one(self, batches: Iterator[Examples]) -> Iterator[Examples]:
        first = next(batches, None)
        yield first or Examples(np.empty((0, len(self._types)), np.float32), np.empty(0, np.float32))
        yield from batches


def _boost(
    configuration: XGBoostConfiguration,
    training_set: xgboost.DMatrix,
    validation_set: xgboost.DMatrix,
    hardware: Hardware,
    seed: int,
    watcher: RoundWatcher,
    resume: tuple[Path, int] | None,
) -> LogOddsModel:
    model_file, done = resume or (None, 0)
    booster = xgboost.train(
        library_parameters(configuration, hardware, seed),
        training_set,
        num_boost_round=max(configuration.n_estimators - done, 1),
        evals=[(validation_set, "validation")],
        verbose_eval=False,
        xgb_model=model_file,
        callbacks=[_XGBoostWatch(watcher, done)],
    )
    return from_xgboost(json.loads(booster[: watcher.best_round].save_raw("json")))


def _require_gpu(hardware: Hardware) -> None:
    if hardware.gpu_count and not _finds_gpu():
        raise JobFailedError("XGBoost found no GPU that it can train on. Set gpu_count to 0 and start again.")


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
        "device": f"cuda:{hardware.gpu}" if hardware.gpu_count else "cpu",
        "seed": seed,
        # A continued fit draws the rows of a round as the whole one does, though not its columns.
        "seed_per_iteration": True,
    }
