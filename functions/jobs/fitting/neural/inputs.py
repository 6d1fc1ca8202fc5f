"""Chooses how a network reads the columns of a matrix, by a sample of the rows that it is fitted on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from functions.jobs.fitting.base import Examples
from functions.jobs.sharded.group import Group
from shared.errors import JobFailedError
from shared.propensity.features import Matrix
from shared.propensity.networks import Floats, NetworkColumn

SAMPLE_ROWS = 100_000
# Numbers beyond these quantiles count as the quantile.
_QUANTILES = (0.002, 0.998)
_LEAST_OF_A_CATEGORY = 10
_MOST_CODES = 10_000
# The differences of larger numbers have no float of single precision.
_LARGEST = 1e37


@dataclass(frozen=True)
class NetworkInputs:
    """The columns of numbers and of codes that a network reads, in this order."""

    numbers: Sequence[NetworkColumn]
    codes: Sequence[NetworkColumn]

    @property
    def columns(self) -> list[NetworkColumn]:
        return [*self.numbers, *self.codes]

    def split(self, matrix: Matrix) -> tuple[Floats, npt.NDArray[np.int64]]:
        """Returns the numbers of each row, and the places of its codes in one table of all of them."""
        numbers = matrix[:, [column.column for column in self.numbers]]
        places = np.empty((len(matrix), len(self.codes)), dtype=np.int64)
        start = 0
        for index, column in enumerate(self.codes):
            cells = matrix[:, column.column]
            gone = np.isnan(cells)
            known = np.where(gone, -1, cells).astype(np.int64)
            place = np.where((known < 0) | (known >= column.codes), column.codes, known)
            places[:, index] = start + np.where(gone, column.codes + 1, place)
            start += column.vectors
        return numbers, places


def sampled(fitted: Examples, seed: int, group: Group) -> Matrix:
    """Returns some rows of all workers, the same ones for each of them."""
    share = SAMPLE_ROWS // group.size
    matrix = fitted.matrix
    if len(matrix) > share:
        matrix = matrix[np.sort(np.random.default_rng(seed).permutation(len(matrix))[:share])]
    return matrix if group.size == 1 else np.asarray(group.gather_rows(matrix))


def choose_inputs(sample: Matrix, categorical: Sequence[int], bins: int) -> NetworkInputs:
    """Returns how a network reads these columns. Those with one value only are left out.

    Raises:
        JobFailedError: there is no other column.
    """
    numbers, codes = [], []
    for index in range(sample.shape[1]):
        column = sample[:, index]
        known = column[~np.isnan(column)]
        if len(np.unique(known)) + (len(known) < len(column)) < 2:
            continue
        if index in categorical:
            codes.append(NetworkColumn(column=index, codes=_own_codes(known)))
        else:
            numbers.append(NetworkColumn(column=index, points=_points(known, bins)))
    if not numbers and not codes:
        raise JobFailedError("No column has two different values in the rows that the network is fitted on.")
    return NetworkInputs(numbers, codes)


def _points(known: Floats, bins: int) -> list[float]:
    known = np.clip(known, -_LARGEST, _LARGEST)
    values = np.unique(known)
    if len(values) > bins + 1:
        values = np.unique(np.quantile(known, np.linspace(*_QUANTILES, bins + 1)).astype(np.float32))
    return [float(value) for value in values]


def _own_codes(known: Floats) -> int:
    """Returns how many codes are learned each for itself: they are by falling frequency."""
    counts = np.bincount(known.astype(np.int64)) if len(known) else np.zeros(0, dtype=np.int64)
    own = np.nonzero(counts >= _LEAST_OF_A_CATEGORY)[0]
    return min(int(own[-1]) + 1 if len(own) else 0, _MOST_CODES)
