"""Finds rows that are there twice: copies within a data set, and the rows of a benchmark that a model was fitted on."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from shared.propensity.errors import CheckpointError
from shared.propensity.features import Matrix
from shared.propensity.holdouts import Labels, Mask

Hashes = npt.NDArray[np.uint32]

HASHES_FILE = "fitted_rows.npy"
# 40 MB. Of so many rows, one other row in 400 has the hash of one of them.
MAX_HASHES = 10_000_000
# Features distinguish rows if hardly any row equals another one.
_DISTINCT_SHARE = 0.99
# Copies have the label of their original. Of rows that are equal by chance, pairs with different labels are nearly as
# frequent as of any rows; from this part of that frequency on, equal rows are no copies.
_CHANCE = 0.3
# Fewer different rows than these are all that few values allow.
_FEWEST_DIFFERENT = 100
_PRIME = np.uint64(0x9E3779B97F4A7C15)


def copies(features: pl.DataFrame, labels: pl.Series) -> tuple[Mask, bool]:
    """Returns the mask of the rows that equal an earlier row in all columns, and whether they are copies of it.

    Rows of few different values may be equal by chance, as those of two clients.
    """
    keys = features.hash_rows().rename("key").to_frame().with_columns(label=labels)
    repeated = ~keys.select(pl.struct("key", "label").is_first_distinct()).to_series()
    return repeated.to_numpy(), not are_by_chance(keys, repeated.len() - int(repeated.sum()))


def are_by_chance(keys: pl.DataFrame, different: int) -> bool:
    """Returns whether rows have equal keys by chance: there are few ``different`` rows, or equal ones differ in labels.

    That is, rows with equal keys have different labels nearly as often as any rows.
    """
    if different < _FEWEST_DIFFERENT:
        return True
    alike = keys.group_by("key", "label").len()
    equal = alike.group_by("key").agg(pl.col("len").sum())
    any_rows = alike.group_by("label").agg(pl.col("len").sum())
    chance = 1 - _pairs(any_rows) / (keys.height * (keys.height - 1) / 2)
    return _pairs(equal) - _pairs(alike) > _CHANCE * chance * _pairs(equal)


def _pairs(groups: pl.DataFrame) -> float:
    """Returns the number of pairs within groups of rows."""
    sizes = groups["len"].cast(pl.Float64)
    return float((sizes * (sizes - 1) / 2).sum())


def row_hashes(matrix: Matrix, labels: Labels) -> Hashes:
    """Returns a hash of each row's encoded features and label, the same in every file format."""
    state = labels.astype(np.uint64) + np.uint64(1)
    for index in range(matrix.shape[1]):
        # There is more than one zero, and more than one NaN.
        column = matrix[:, index] + np.float32(0)
        column[np.isnan(column)] = np.nan
        state = (state ^ column.view(np.uint32)) * _PRIME
        state ^= state >> np.uint64(29)
    return (state >> np.uint64(32)).astype(np.uint32)


def write_hashes(folder: Path, matrix: Matrix, labels: Labels) -> None:
    """Keeps the hashes of the fitted rows with the model, if these tell rows apart."""
    keep_hashes(folder, row_hashes(matrix, labels))


def keep_hashes(folder: Path, hashes: Hashes) -> None:
    """Keeps the hashes of rows with the model, if these tell rows apart."""
    distinct = np.unique(hashes)
    if len(hashes) <= MAX_HASHES and len(distinct) >= _DISTINCT_SHARE * len(hashes):
        np.save(folder / HASHES_FILE, distinct, allow_pickle=False)


def read_hashes(folder: Path) -> Hashes | None:
    """Returns the hashes of the fitted rows, ``None`` if the model has none. Raises CheckpointError if damaged."""
    path = folder / HASHES_FILE
    if not path.exists():
        return None
    try:
        return np.asarray(np.load(path, allow_pickle=False), dtype=np.uint32)
    except (ValueError, OSError, EOFError) as error:
        raise CheckpointError(f"{HASHES_FILE} of the model artifact is damaged: {error}") from error
