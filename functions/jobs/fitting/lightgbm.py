"""LightGBM, on CPU or GPU.

Its wheels hold the OpenCL kernels (``device_type=gpu``), not the CUDA ones.
Source: https://github.com/microsoft/LightGBM/blob/master/python-package/README.rst
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import lightgbm

from functions.jobs.fitting.base import BoostingArchitecture, Examples, Hardware, RoundWatcher
from shared.errors import JobFailedError
from shared.propensity.architectures.configuration import LightGBMConfiguration
from shared.propensity.log_odds import LogOddsModel

NO_DEVICE = "No OpenCL device found"


class LightGBM(BoostingArchitecture[LightGBMConfiguration]):
    """See ``BoostingArchitecture``."""

    name: ClassVar[str] = "lightgbm"
    suffix: ClassVar[str] = ".txt"

    def fit(
        self,
        configuration: LightGBMConfiguration,
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
        if hardware.gpu_count:
            # Containers get NVIDIA's driver, but not the file by which OpenCL finds it.
            os.environ.setdefault("OCL_ICD_FILENAMES", "libnvidia-opencl.so.1")
        # A continued fit draws its rows and columns anew: with the same seed it would repeat the first draws.
        parameters = library_parameters(configuration, hardware, seed + done)
        targets = fitted.labels if fitted.taught is None else fitted.taught
        if fitted.taught is not None:
            # The same loss, for probabilities.
            parameters |= {"objective": "cross_entropy", "metric": "cross_entropy"}
        sets = list(categorical) if configuration.categories == "sets" else []
        width = fitted.matrix.shape[1]
        training_set = lightgbm.Dataset(fitted.matrix, targets, categorical_feature=sets, params=parameters)
        validation_set = training_set.create_valid(validation.matrix, validation.labels)
        # When the sets have the values in steps, they drop the rows, which then need no memory while trees grow.
        del fitted, validation

        def after_round(environment: Any) -> None:
            loss = environment.evaluation_result_list[0][2]
            booster = environment.model
            if watcher.after_round(environment.iteration + 1, loss, lambda path: booster.save_model(path, -1)):
                raise lightgbm.callback.EarlyStopException(watcher.best_round - 1, environment.evaluation_result_list)

        try:
            booster = lightgbm.train(
                parameters,
                training_set,
                num_boost_round=max(configuration.n_estimators - done, 1),
                valid_sets=[validation_set],
                init_model=model_file,
                keep_training_booster=True,
                callbacks=[after_round],
            )
        except lightgbm.basic.LightGBMError as error:
            if hardware.gpu_count and NO_DEVICE in str(error):
                raise JobFailedError(
                    "LightGBM found no GPU that it can train on (it looks for one by OpenCL). "
                    "Set gpu_count to 0, or choose the architecture xgboost, which trains by CUDA."
                ) from error
            raise
        return LogOddsModel(width, forest=booster.model_to_string(num_iteration=watcher.best_round))


def library_parameters(configuration: LightGBMConfiguration, hardware: Hardware, seed: int) -> dict[str, Any]:
    """Returns a resolved configuration as LightGBM's own parameters."""
    return {
        "objective": "binary",
        "metric": "binary_logloss",
        "learning_rate": configuration.learning_rate,
        "num_leaves": configuration.num_leaves,
        "max_depth": configuration.max_depth,
        "min_data_in_leaf": configuration.min_child_samples,
        "lambda_l1": configuration.reg_alpha,
        "lambda_l2": configuration.reg_lambda,
        "bagging_fraction": configuration.subsample,
        "bagging_freq": 1 if configuration.subsample < 1 else 0,
        "feature_fraction": configuration.colsample_bytree,
        "max_bin": configuration.max_bin,
        # LightGBM's 100 rows a group of categories leave a column of few rows unused.
        "min_data_per_group": configuration.min_child_samples,
        "max_cat_to_onehot": 16,
        "num_threads": hardware.threads,
        "device_type": "gpu" if hardware.gpu_count else "cpu",
        "deterministic": not hardware.gpu_count,
        "force_row_wise": not hardware.gpu_count,
        # A GPU adds in any order: in single precision, the default, the same seed would not give the same model.
        "gpu_use_dp": True,
        "seed": seed,
        "verbosity": -1,
    }
