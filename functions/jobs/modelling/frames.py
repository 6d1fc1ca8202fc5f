"""Infers feature schemas from tables, and encodes tables as matrices."""

import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from shared.errors import JobFailedError
from shared.models.missing_values import MISSING, MISSING_WORDS
from shared.propensity.dates import (
    ISO,
    MONTH_FORMATS,
    TEXT_PARTS,
    Column,
    DateReading,
    Seconds,
    date_readings,
    expand_time,
    value_of_part,
)
from shared.propensity.features import (
    BOOLEAN_SPELLINGS,
    BOOLEAN_TEXTS,
    MISSING_IN_NUMBERS,
    NUMBER_PATTERN,
    WHITESPACE,
    DroppedColumn,
    Feature,
    FeatureSchema,
    Matrix,
    category_codes,
    cell_key,
    finite,
    value_key,
)

# The formats other than ISO in which each column of dates is written; ``None`` where they leave its dates open.
DateFormats = Mapping[str, Sequence[str] | None]

MAX_CATEGORIES = 254
# Longer texts are no categories of their own, because the checkpoint keeps the categories.
CATEGORY_CHARACTERS = 1_000
# Leading zeros, 16 or more digits, a leading plus, and the likes of 12E5: as numbers, different codes would be equal.
_CODE = r"^(?:[+-]?0[0-9]+|[+-]?[0-9]{16,}|\+[0-9]+|[0-9]+[eE][0-9]+)$"
# A text column becomes numeric or datetime if this share of its texts are numbers or dates.
TYPE_SHARE = 0.98
IDENTIFIER_SHARE = 0.9
MIN_ROWS_TO_CALL_IDENTIFIER = 20
LONG_TEXT = 100
NOTHING: Mapping[str, Any] = MappingProxyType({})
_IDENTIFIER_NAME = re.compile(
    r"^$|^unnamed: 0$|(^|[_\s.-])(id|uuid|guid|key|index|row|rownames|number|no|nr)$", re.IGNORECASE
)
_DATE_LIKE = r"^[0-9]{1,4}[-/.][0-9]{1,2}[-/.]"
# Short years only after two digits each: 1.2.30 is a version.
_LONG_YEARS = r"^[0-9]{1,2}([-/.])[0-9]{1,2}[-/.][0-9]{4}(?:[^0-9]|$)"
_SHORT_YEARS = r"^[0-9]{2}([-/.])[0-9]{2}[-/.][0-9]{2}(?:[^0-9]|$)"
_ORDERS = (("%d", "%m"), ("%m", "%d"))


def infer_schema(
    frame: pl.DataFrame, left_out: Mapping[str, str] = NOTHING, formats: DateFormats = NOTHING
) -> FeatureSchema:
    """Returns the feature schema of the rows to fit. ``frame`` must not contain the target or rows of the holdout.

    ``left_out`` has the reason for each column that is not used. ``formats`` are the known formats of dates.

    Raises:
        JobFailedError: no column can be used.
    """
    features: list[Feature] = []
    dropped = [DroppedColumn(name=name, reason=reason) for name, reason in left_out.items() if name in frame]
    skipped = {column.name for column in dropped}
    for series in frame:
        if series.name in skipped:
            continue
        found = _infer(series, formats)
        if isinstance(found, Feature):
            features.append(found)
        else:
            dropped.append(DroppedColumn(name=series.name, reason=found))
    if not features:
        reasons = "; ".join(f"'{column.name}': {column.reason}" for column in dropped[:20])
        raise JobFailedError(f"No column can be used as a feature ({reasons or 'the target is the only column'}).")
    return FeatureSchema(features=features, dropped=dropped)


def encode_frame(schema: FeatureSchema, frame: pl.DataFrame) -> Matrix:
    """Returns one matrix row for each row of the table. It ignores columns that the model does not use.

    Raises:
        JobFailedError: columns of the model are missing.
    """
    if missing := [feature.name for feature in schema.features if feature.name not in frame.columns]:
        names = ", ".join(f"'{name}'" for name in missing[:20])
        raise JobFailedError(f"The files lack {len(missing)} of the columns that the model uses: {names}.")
    matrix = np.empty((frame.height, len(schema.columns)), dtype=np.float32)
    start = 0
    for feature in schema.features:
        for column in _encode(feature, frame[feature.name]):
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
                seconds[left] = _parse_times(texts.filter(left), reading)
                left &= np.isnan(seconds)
    return seconds


def date_formats_of(texts: pl.Series) -> list[str] | None:
    """Returns the formats under which nearly all (non-null) texts are dates, ``None`` when there are none.

    The list is empty for ISO dates.
    """
    if not len(texts):
        return None
    if month := _month_format_of(texts):
        return [month]
    if _share(_sample(texts), _DATE_LIKE) < TYPE_SHARE / 2:
        return None

    def share(formats: list[str]) -> float:
        return float(np.isfinite(times_of(texts, date_readings(tuple(formats)))).mean())

    if share([]) >= TYPE_SHARE:
        return []
    written = [
        (mark, year)
        for year, pattern in (("%Y", _LONG_YEARS), ("%y", _SHORT_YEARS))
        for mark in texts.str.extract(pattern).drop_nulls().unique().sort()
    ]
    # Where both orders read everything, a point is European and a slash American usage.
    usual_first = [[mark.join((*order, year)) for mark, year in written] for order in _ORDERS]
    if any(mark == "/" for mark, _ in written):
        usual_first.reverse()
    best = max(usual_first, key=share)
    return best if share(best) >= TYPE_SHARE else None


def _month_format_of(texts: pl.Series) -> str | None:
    """Returns the format of texts that are months of a year, such as 2024-01."""
    sample = _sample(texts)
    for form, reading in MONTH_FORMATS.items():
        if np.isfinite(_parse_times(sample, reading)).mean() >= TYPE_SHARE:
            return form if np.isfinite(_parse_times(texts, reading)).mean() >= TYPE_SHARE else None
    return None


def date_formats(frame: pl.DataFrame, known: DateFormats) -> DateFormats:
    """Returns the known formats, and those of the other columns of text whose values are dates."""
    found = {
        series.name: date_formats_of(clean_text(series).drop_nulls())
        for series in frame
        if series.dtype == pl.String and series.name not in known
    }
    return {**{name: formats for name, formats in found.items() if formats is not None}, **known}


def _infer(series: pl.Series, formats: DateFormats) -> Feature | str:
    """Returns the feature of a column, or the reason why it can't be one."""
    dtype, name = series.dtype, series.name
    if isinstance(dtype, (pl.Categorical, pl.Enum)):
        series, dtype = series.cast(pl.String), pl.String()
    if dtype == pl.Null:
        return "every value is missing"
    if dtype.is_numeric():
        values = series.fill_nan(None) if dtype.is_float() else series
        if reason := _nothing_to_learn(values):
            return reason
        return _identifies_rows(values) or Feature(name=name, kind="numeric")
    if dtype == pl.Boolean:
        return _nothing_to_learn(series) or Feature(name=name, kind="boolean")
    if dtype == pl.Date or isinstance(dtype, pl.Datetime):
        return _nothing_to_learn(series) or _dates(series, formats.get(name) or [])
    if dtype == pl.String:
        return _infer_text(clean_text(series, MISSING), formats)
    return f"values of the type {dtype} cannot be used"


def _infer_text(texts: pl.Series, formats: DateFormats) -> Feature | str:
    if reason := _nothing_to_learn(texts):
        return reason
    without_words = clean_text(texts, MISSING_WORDS)
    return _infer_values(without_words, formats) or _infer_categories(texts)


def _infer_values(texts: pl.Series, formats: DateFormats) -> Feature | str | None:
    """Returns the feature of texts that are numbers, dates or truth values, and None for other texts."""
    name, values = texts.name, texts.drop_nulls()
    if not len(values):
        return None
    if _are_numbers(values):
        numbers = pl.Series(numbers_of(texts)).fill_nan(None)
        return _nothing_to_learn(numbers) or Feature(name=name, kind="numeric")
    written = formats[name] if name in formats else date_formats_of(values)
    if written is not None:
        return _dates(texts, written)
    if values.is_in(list(BOOLEAN_TEXTS)).all():
        return _nothing_to_learn(texts) or Feature(name=name, kind="boolean")
    return None


def _are_numbers(values: pl.Series) -> bool:
    """Returns whether texts are numbers, which even a single code shows they are not."""
    if _share(_sample(values), NUMBER_PATTERN) < TYPE_SHARE / 2 or _share(values, NUMBER_PATTERN) < TYPE_SHARE:
        return False
    return not values.str.contains(_CODE).any()


def _infer_categories(texts: pl.Series) -> Feature | str:
    name, values = texts.name, texts.drop_nulls()
    counts = values.value_counts().sort(["count", name], descending=[True, False])
    distinct = _spelled_once(counts[name].to_list())
    if len(values) >= MIN_ROWS_TO_CALL_IDENTIFIER and len(distinct) > IDENTIFIER_SHARE * len(values):
        long = float(values.str.len_chars().mean() or 0) > LONG_TEXT  # type: ignore[arg-type]
        return "it is free text" if long else "it is an identifier: almost every row has a different value"
    categories = [text for text in distinct if len(text) <= CATEGORY_CHARACTERS][:MAX_CATEGORIES]
    return Feature(name=name, kind="categorical", categories=categories, others=len(distinct) > len(categories))


def _spelled_once(texts: Iterable[str]) -> list[str]:
    """Returns the first spelling of each value."""
    first: dict[str, str] = {}
    for text in texts:
        first.setdefault(value_key(text), text)
    return list(first.values())


def _sample(values: pl.Series, count: int = 1000) -> pl.Series:
    """Returns a sample of values from the whole column."""
    return values.gather_every(max(len(values) // count, 1))


def _share(values: pl.Series, pattern: str) -> float:
    """Returns the share of the texts that match the pattern."""
    return float(np.mean(values.str.contains(pattern).to_numpy()))


def _nothing_to_learn(values: pl.Series) -> str | None:
    if values.null_count() == len(values):
        return "every value is missing"
    if values.null_count() == 0 and values.min() == values.max():
        return "every value is the same"
    return None


def _identifies_rows(values: pl.Series) -> str | None:
    """Returns the reason to drop a column of whole numbers that only count or identify the rows."""
    if not (_IDENTIFIER_NAME.search(values.name) or values.name.endswith(("Id", "ID"))):
        return None
    if not values.dtype.is_integer() or values.null_count() or len(values) < MIN_ROWS_TO_CALL_IDENTIFIER:
        return None
    return "it is an identifier: every row has a different number" if values.n_unique() == len(values) else None


def _dates(series: pl.Series, formats: Sequence[str]) -> Feature:
    feature = Feature(name=series.name, kind="datetime", date_formats=list(formats))
    feature.has_time = _has_times(times_of(series, feature.readings))
    return feature


def _has_times(seconds: Seconds) -> bool:
    known = seconds[np.isfinite(seconds)]
    return bool((known % 86_400 != 0).any())


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


def _parse_times(texts: pl.Series, reading: DateReading) -> Seconds:
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
