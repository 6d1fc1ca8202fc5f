"""One row at a time through LightGBM's C interface.

``Booster.predict`` prepares all trees anew for each call, which takes a single row several times as long as the trees
themselves. The interface for single rows prepares them once.
"""

import ctypes
import threading
import weakref
from typing import Any

import numpy as np
from lightgbm import basic as lightgbm_basic

from shared.propensity.features import Matrix

# The documented C interface, behind names that Python's package keeps to itself.
basic: Any = lightgbm_basic


class SingleRows:
    """Scores single rows of ``width`` columns with a booster."""

    def __init__(self, booster: Any, width: int) -> None:
        # The prepared trees point into the booster, so it must live as long as they do.
        self._booster = booster
        self._prepared = ctypes.c_void_p()
        # LightGBM keeps the row that it works on beside the trees.
        self._lock = threading.Lock()
        basic._safe_call(
            basic._LIB.LGBM_BoosterPredictForMatSingleRowFastInit(
                booster._handle,
                ctypes.c_int(basic._C_API_PREDICT_RAW_SCORE),
                ctypes.c_int(0),
                ctypes.c_int(-1),
                ctypes.c_int(basic._C_API_DTYPE_FLOAT32),
                ctypes.c_int32(width),
                b"num_threads=1",
                ctypes.byref(self._prepared),
            )
        )
        weakref.finalize(self, basic._LIB.LGBM_FastConfigFree, self._prepared)

    def log_odds(self, matrix: Matrix) -> float:
        """Returns the sum of all trees for the only row of a matrix."""
        row = np.ascontiguousarray(matrix, dtype=np.float32)
        length, found = ctypes.c_int64(), ctypes.c_double()
        with self._lock:
            basic._safe_call(
                basic._LIB.LGBM_BoosterPredictForMatSingleRowFast(
                    self._prepared, ctypes.c_void_p(row.ctypes.data), ctypes.byref(length), ctypes.byref(found)
                )
            )
        return found.value
