"""Encodes tables as matrices: the same as ``features.py`` does to rows, bit by bit, for many rows."""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from shared.errors import JobFailedError
from shared.propensity.dates import ISO, TEXT_PARTS, Column, DateReading, Seconds, expand_time, value_of_part
from shared.propensity.features import (
    BOOLEAN_SPELLINGS,
    BOOLEAN_TEXTS,
    EXPECTED,
    MISSING_IN_NUMBERS,
    NUMBER_PATTERN,
    WHITESPACE,
    Feature,
    FeatureSchema,
    Matrix,
    category_codes,
    cell_key,
    finite,
    is_unread,
)
from shared.propensity.holdouts import Mask


def encode_frame(schema: FeatureSchema, frame: pl.DataFrame, rows: Mask | None = None) -> Matrix:
    """Returns one matrix row for each row of the table, or of a mask. It ignores columns that the model does not use.

    Raises:
        JobFailedError: columns of the model are missing.
    """
    if missing := [feature.name for feature in schema.features if feature.name not in frame.columns]:
        names = ", ".join(f"'{name}'" for name in missing[:20])
        raise JobFailedError(f"The files lack {len(missing)} of the columns that the model uses: {names}.")
    height = frame.height if rows is None else int(rows.sum())
    matrix = np.empty((height, len(schema.columns)), dtype=np.float32)
    start = 0
    for feature in schema.features:
        series = frame[feature.name]
        for column in _encode(feature, series if rows is None else series.filter(pl.Series(rows))):
            matrix[:, start] = column
            start += 1
    return matrix


def clean_text(series: pl.Series, missing: Iterable[str] = MISSING_IN_NUMBERS) -> pl.Series:
    """Returns trimmed texts. The spellings of a missing value become null."""
    trimmed = series.str.strip_chars(WHITESPACE)
    return trimmed.set(trimmed.is_in(sorted(missing)), None)


def times_of(series: pl.Series, readings: Sequence[DateReading] = (ISO,)) -> Seconds:
    """Returns dates, times or their texts as seconds since 1970 in UTC; NaN where a value is missing."""
    if series.dtype == pl.Date:
        days = series.to_physical().cast(pl.Float64).to_numpy()
        return np.asarray(days * 86_400.0)
    if isinstance(series.dtype, pl.Datetime):
        # polars stores values with a time zone in UTC. Floor division rounds times before 1970 down like later times.
        per_second = {"ms": 1e3, "us": 1e6, "ns": 1e9}[series.dtype.time_unit]
        ticks = series.to_physical()
        return np.asarray((ticks // int(per_second)).cast(pl.Float64).to_numpy())
    seconds = np.full(len(series), np.nan)
    if series.dtype == pl.String:
        texts = series.str.strip_chars(WHITESPACE)
        left = texts.is_not_null().to_numpy()
        for reading in readings:
            if left.any():
                seconds[left] = parse_times(texts.filter(left), reading)
                left &= np.isnan(seconds)
    return seconds


def _encode(feature: Feature, series: pl.Series) -> list[Column]:
    if isinstance(series.dtype, (pl.Categorical, pl.Enum)):
        series = series.cast(pl.String)
    match feature.kind:
        case "numeric":
            return [finite(numbers_of(series))]
        case "boolean":
            return [_booleans(series)]
        case "categorical":
            codes = category_codes(feature, distinct := _distinct(series))
            return [_replace(series, distinct, [codes[cell_key(cell)] for cell in distinct])]
        case "datetime":
            return expand_time(times_of(series, feature.readings), has_time=feature.has_time)


def numbers_of(series: pl.Series) -> npt.NDArray[np.float64]:
    """Returns numbers, their texts and truth values as numbers; NaN for other values."""
    if series.dtype == pl.String:
        texts = series.str.strip_chars(WHITESPACE)
        series = texts.set(~texts.str.contains(NUMBER_PATTERN), None).cast(pl.Float64, strict=False)
        is_flag = texts.is_in(list(BOOLEAN_SPELLINGS)).fill_null(value=False)
        if is_flag.any():
            flags = texts.filter(is_flag).replace_strict(BOOLEAN_SPELLINGS, return_dtype=pl.Float64)
            series = series.scatter(is_flag.arg_true(), flags)
    elif series.dtype.is_numeric() or series.dtype == pl.Boolean:
        series = series.cast(pl.Float64)
    else:
        return np.full(len(series), np.nan)
    return series.to_numpy()


def _booleans(series: pl.Series) -> Column:
    if series.dtype == pl.String:
        texts = list(BOOLEAN_TEXTS)
        return _replace(series.str.strip_chars(WHITESPACE), texts, [float(BOOLEAN_TEXTS[text]) for text in texts])
    numbers = numbers_of(series)
    return np.where(np.isin(numbers, (0.0, 1.0)), numbers, np.nan).astype(np.float32)


def _distinct(series: pl.Series) -> list[object]:
    return series.unique(maintain_order=True).to_list()


def _replace(series: pl.Series, old: list[object] | list[str], new: list[float]) -> Column:
    mapped = series.replace_strict(pl.Series(old, dtype=series.dtype), new, default=np.nan, return_dtype=pl.Float32)
    return mapped.to_numpy()


def parse_times(texts: pl.Series, reading: DateReading) -> Seconds:
    columns = texts.str.extract_groups(reading.pattern).struct.unnest().get_columns()
    if not columns:
        return np.full(len(texts), np.nan)
    return reading.seconds([_part_values(*each) for each in zip(reading.parts, columns, strict=True)])


def _part_values(part: str, texts: pl.Series) -> npt.NDArray[np.float64]:
    if part not in TEXT_PARTS:
        return texts.cast(pl.Float64).to_numpy()
    distinct = texts.drop_nulls().unique().to_list()
    if not distinct:
        return np.full(len(texts), np.nan)
    return _replace(texts, distinct, [value_of_part(part, text) for text in distinct]).astype(np.float64)


def unread_rows(schema: FeatureSchema, frame: pl.DataFrame, matrix: Matrix) -> dict[int, Feature]:
    """Returns the rows with a value that was given but could not be read, each with the first such feature.

    ``matrix`` is the encoded table. A row is here exactly if ``FeatureSchema.unread`` finds one for it alone.
    """
    found: dict[int, Feature] = {}
    start = 0
    for feature in schema.features:
        column, series = matrix[:, start], frame[feature.name]
        start += len(feature.columns)
        if feature.kind not in EXPECTED or series.null_count() == len(series):
            continue
        given = np.isnan(column) & series.is_not_null().to_numpy()
        places = given.nonzero()[0]
        if len(places):
            cells = series.gather(places).to_list()
            for place, cell in zip(places.tolist(), cells, strict=True):
                if place not in found and is_unread(feature, cell):
                    found[place] = feature
    return found
