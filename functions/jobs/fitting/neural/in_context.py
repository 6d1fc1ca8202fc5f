"""TabICL as a teacher: a transformer that predicts rows from the labelled rows that it is shown.

Qu, Holzmüller, Varoquaux, Le Morvan: TabICL: A tabular foundation model for in-context learning on large data, ICML
2025. Its library can download weights. Here it only gets a file, which it reads without running code of it.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tabicl import TabICLClassifier

from functions.jobs.fitting.base import Examples, Hardware
from shared.errors import JobFailedError
from shared.propensity.dates import Numbers
from shared.propensity.features import Matrix
from shared.propensity.log_odds import LogOdds

# Rows times columns that the transformer has in memory at the same time: 1 GB for each layer's vectors.
CELLS_AT_ONCE = 2_000_000
# Squares of larger numbers have no float of single precision.
_LARGEST = 1e15
_MISSING_CODE = -1.0
_LEAST_PROBABILITY = 1e-6


class Teacher:
    """A transformer with the operator's weights."""

    def __init__(self, weights: Path, views: int, categorical: Sequence[int], hardware: Hardware, seed: int) -> None:
        self._categorical = list(categorical)
        self._hardware = hardware
        self._transformer = TabICLClassifier(
            n_estimators=views,
            batch_size=1,
            model_path=weights,
            allow_auto_download=False,
            device=f"cuda:{hardware.gpu}" if hardware.gpu_count else "cpu",
            random_state=seed,
            n_jobs=hardware.threads,
        )

    def log_odds(self, context: Examples, matrix: Matrix) -> LogOdds:
        """Returns what the transformer says of rows when it is shown the examples, which have both labels.

        Raises:
            JobFailedError: the weights are none of this transformer, or the GPU's memory is too small.
        """
        flagged = np.nonzero(np.isnan(context.matrix).any(axis=0))[0]
        shown = self._inputs(context.matrix, flagged)
        rows_at_once = max(CELLS_AT_ONCE // shown.shape[1] - len(shown), 1)
        try:
            self._show(shown, context)
            chances = [
                self._transformer.predict_proba(self._inputs(matrix[start : start + rows_at_once], flagged))[:, 1]
                for start in range(0, len(matrix), rows_at_once)
            ]
        except torch.OutOfMemoryError as error:
            raise JobFailedError(
                "TabICL does not fit into the GPU's memory. Use fewer context_rows or columns, or no GPU."
            ) from error
        known = np.clip(np.concatenate(chances).astype(np.float64), _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
        return np.log(known / (1 - known))

    def _show(self, shown: Numbers, context: Examples) -> None:
        """Loads the weights, too."""
        try:
            self._transformer.fit(shown, context.labels.astype(np.int64))
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            raise JobFailedError(
                "The weights of this deployment cannot be loaded as a classifier of TabICL. Its operator has to "
                f"provide others ({type(error).__name__}: {str(error)[:200]})."
            ) from error
        if self._transformer.model_.max_classes < 2:
            raise JobFailedError(
                "The weights of this deployment are of a regression of TabICL. Its operator has to provide those of a "
                "classifier."
            )

    def _inputs(self, matrix: Matrix, flagged: npt.NDArray[np.intp]) -> Numbers:
        """Returns the columns, and 0 or 1 for the missing values of those that are flagged.

        The library replaces missing numbers by means, which hides them.
        """
        found = np.clip(matrix.astype(np.float64), -_LARGEST, _LARGEST)
        gone = np.isnan(found)
        codes = found[:, self._categorical]
        found[:, self._categorical] = np.where(np.isnan(codes), _MISSING_CODE, codes)
        return np.concatenate([found, gone[:, flagged]], axis=1)
