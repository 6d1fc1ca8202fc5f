"""Infers feature schemas from tables."""

import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import polars as pl

from shared.errors import JobFailedError
from shared.models.missing_values import MISSING, MISSING_WORDS
from shared.propensity.dates import (
    MONTH_FORMATS,
    Seconds,
    date_readings,
)
from shared.propensity.features import (
    BOOLEAN_TEXTS,
    NUMBER_PATTERN,
    DroppedColumn,
    Feature,
    FeatureSchema,
    value_key,
)
from shared.propensity.holdouts import Mask
from shared.propensity.tables import clean_text, numbers_of, parse_times, times_of

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
    frame: pl.DataFrame,
    left_out: Mapping[str, str] = NOTHING,
    formats: DateFormats = NOTHING,
    rows: Mask | None = None,
) -> FeatureSchema:
    """Returns the feature schema of the rows to fit, all or those of a mask: none of the holdout.

    ``frame`` must not contain the target. ``left_out`` has the reason for each column that is not used. ``formats`` are
    the known formats of dates.

    Raises:
        JobFailedError: no column can be used.
    """
    features: list[Feature] = []
    dropped = [DroppedColumn(name=name, reason=reason) for name, reason in left_out.items() if name in frame]
    skipped = {column.name for column in dropped}
    for series in frame:
        if series.name in skipped:
            continue
        found = _infer(series if rows is None else series.filter(pl.Series(rows)), formats)
        if isinstance(found, Feature):
            features.append(found)
        else:
            dropped.append(DroppedColumn(name=series.name, reason=found))
    if not features:
        reasons = "; ".join(f"'{column.name}': {column.reason}" for column in dropped[:20])
        raise JobFailedError(f"No column can be used as a feature ({reasons or 'the target is the only column'}).")
    return FeatureSchema(features=features, dropped=dropped)


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
        if np.isfinite(parse_times(sample, reading)).mean() >= TYPE_SHARE:
            return form if np.isfinite(parse_times(texts, reading)).mean() >= TYPE_SHARE else None
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
