"""Keeps rows with equal features on one side of a split: a model that knows a row also knows its copies."""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from functions.jobs.modelling.copies import are_by_chance
from functions.jobs.modelling.frames import DateFormats, infer_schema
from shared.propensity.features import WHITESPACE, Matrix, number_of
from shared.propensity.holdouts import Draws, Labels
from shared.propensity.tables import times_of

RowKeys = npt.NDArray[np.uint64]

_PRIME = np.uint64(0x9E3779B97F4A7C15)


def content_draws(frame: pl.DataFrame, columns: Sequence[str], seed: int) -> Draws:
    """Returns one number in [0, 1) for each row, equal for rows that are equal in these columns.

    The same values have the same number in every file format.
    """
    return _as_draws(content_keys(frame, columns, seed))


def content_keys(frame: pl.DataFrame, columns: Sequence[str], seed: int = 0) -> RowKeys:
    """Returns a hash of each row's values in these columns. A column that the table lacks has no values."""
    keys = np.full(frame.height, int.from_bytes(_digest(str(seed)), "big"), dtype=np.uint64)
    for name in columns:
        if name in frame.columns:
            keys = (keys ^ _cell_keys(frame[name])) * _PRIME
        keys ^= keys >> np.uint64(29)
    return (keys ^ (keys >> np.uint64(32))) * _PRIME


def matrix_keys(matrix: Matrix) -> RowKeys:
    """Returns a hash of each row of an encoded matrix."""
    keys = np.zeros(len(matrix), dtype=np.uint64)
    for column in matrix.T:
        keys = (keys ^ _number_keys(column.astype(np.float64))) * _PRIME
        keys ^= keys >> np.uint64(29)
    return keys


def key_draws(keys: RowKeys, seed: int) -> Draws:
    """Returns one number in [0, 1) for each row, equal for rows with equal keys. Seeds give different numbers."""
    mixed = (keys ^ np.uint64(int.from_bytes(_digest(str(seed)), "big"))) * _PRIME
    mixed ^= mixed >> np.uint64(29)
    return _as_draws((mixed ^ (mixed >> np.uint64(32))) * _PRIME)


def entity_numbers(column: pl.Series) -> npt.NDArray[np.int64]:
    """Returns a number for each row, equal for rows of one client. A row without a client is its own."""
    numbers = column.rank("dense").cast(pl.Int64)
    alone = -1 - pl.int_range(len(column), eager=True)
    return numbers.fill_null(alone).to_numpy()


def repeated_columns(
    frame: pl.DataFrame, labels: Labels, left_out: Mapping[str, str], formats: DateFormats
) -> list[str] | None:
    """Returns the columns in which rows are copies of others, ``None`` if there are no copies.

    These are the columns that a model would use: rows with numbers of their own may be copies in all others.
    """
    columns = [feature.name for feature in infer_schema(frame, left_out, formats).features]
    return columns if are_repeated(content_keys(frame, columns), labels) else None


def are_repeated(keys: RowKeys, labels: Labels) -> bool:
    """Returns whether rows have equal keys because they are copies, rather than by chance."""
    distinct = len(np.unique(keys))
    return distinct < len(keys) and not are_by_chance(pl.DataFrame({"key": keys, "label": labels}), distinct)


def _as_draws(keys: RowKeys) -> Draws:
    return np.asarray((keys >> np.uint64(11)) / 2.0**53)


def _cell_keys(series: pl.Series) -> RowKeys:
    if isinstance(series.dtype, (pl.Categorical, pl.Enum)):
        series = series.cast(pl.String)
    if series.dtype == pl.String:
        distinct = series.unique()
        keys = [_text_key(text) for text in distinct.to_list()]
        return series.replace_strict(distinct, pl.Series(keys, dtype=pl.UInt64), return_dtype=pl.UInt64).to_numpy()
    if series.dtype.is_numeric() or series.dtype == pl.Boolean:
        return _number_keys(series.cast(pl.Float64).to_numpy())
    return _number_keys(times_of(series))


def _text_key(text: str | None) -> int:
    number = number_of(text)
    if text is None or not np.isnan(number):
        return int(_number_keys(np.array([number]))[0])
    return int.from_bytes(_digest(text.strip(WHITESPACE)), "big")


def _number_keys(numbers: npt.NDArray[np.float64]) -> RowKeys:
    """Returns the bits of numbers. There is more than one zero, and more than one NaN."""
    numbers = numbers + 0.0
    numbers[np.isnan(numbers)] = np.nan
    return numbers.view(np.uint64)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
