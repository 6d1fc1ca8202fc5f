"""Whole tables: what a feature schema learns from one, and the matrix one becomes."""

import re
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import polars as pl

from shared.errors import JobFailedError
from shared.models.missing_values import MISSING, MISSING_WORDS
from shared.propensity.features import (
    BOOLEAN_SPELLINGS,
    BOOLEAN_TEXTS,
    MISSING_IN_NUMBERS,
    NUMBER_PATTERN,
    WHITESPACE,
    Column,
    DateOrder,
    DroppedColumn,
    Feature,
    FeatureSchema,
    Matrix,
    Seconds,
    category_codes,
    cell_key,
    expand_time,
    finite,
    offset_seconds,
    seconds_from_parts,
)

MAX_CATEGORIES = 254
# Of the texts that aren't missing, how many must be numbers (or dates) for the column to be one of numbers.
TYPE_SHARE = 0.98
IDENTIFIER_SHARE = 0.9
MIN_ROWS_TO_CALL_IDENTIFIER = 20
LONG_TEXT = 100
IDENTIFYING = "it identifies persons, by what a scan found or the connector's personal_data says"
_IDENTIFIER_NAME = re.compile(
    r"^$|^unnamed: 0$|(^|[_\s.-])(id|uuid|guid|key|index|row|rownames|number|no|nr)$", re.IGNORECASE
)


def infer_schema(frame: pl.DataFrame, excluded: Iterable[str] = (), identifying: Iterable[str] = ()) -> FeatureSchema:
    """Learns from the rows a model will be fitted on, never from held-out ones; the target must be left out already.

    ``identifying`` columns are left out too, since a model that knows persons has learned nothing of others.

    Raises:
        JobFailedError: no column can be used.
    """
    features: list[Feature] = []
    left_out = dict.fromkeys(identifying, IDENTIFYING) | dict.fromkeys(excluded, "excluded by the configuration")
    dropped = [DroppedColumn(name=name, reason=reason) for name, reason in left_out.items() if name in frame]
    skipped = {column.name for column in dropped}
    for series in frame:
        if series.name in skipped:
            continue
        found = _infer(series)
        if isinstance(found, Feature):
            features.append(found)
        else:
            dropped.append(DroppedColumn(name=series.name, reason=found))
    if not features:
        reasons = "; ".join(f"'{column.name}': {column.reason}" for column in dropped[:20])
        raise JobFailedError(f"No column can be used as a feature ({reasons or 'there is none beside the target'}).")
    return FeatureSchema(features=features, dropped=dropped)


def encode_frame(schema: FeatureSchema, frame: pl.DataFrame) -> Matrix:
    """Returns one matrix row for each row of the table. Columns that the model doesn't know are ignored.

    Raises:
        JobFailedError: columns of the model are missing.
    """
    if missing := [feature.name for feature in schema.features if feature.name not in frame.columns]:
        names = ", ".join(f"'{name}'" for name in missing[:20])
        raise JobFailedError(f"The files lack {len(missing)} of the columns the model was trained on: {names}.")
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


def times_of(series: pl.Series, order: DateOrder = DateOrder.ISO) -> Seconds:
    """Returns dates, times or their texts as seconds since 1970 in UTC; NaN where a value is missing."""
    if series.dtype == pl.Date:
        days = series.to_physical().cast(pl.Float64).to_numpy()
        return np.asarray(days * 86_400.0)
    if isinstance(series.dtype, pl.Datetime):
        # Values with a time zone are stored in UTC already; microseconds before 1970 round down, as later ones do.
        per_second = {"ms": 1e3, "us": 1e6, "ns": 1e9}[series.dtype.time_unit]
        ticks = series.to_physical()
        return np.asarray((ticks // int(per_second)).cast(pl.Float64).to_numpy())
    if series.dtype != pl.String:
        return np.full(len(series), np.nan)
    texts = series.str.strip_chars(WHITESPACE)
    seconds = _parse_times(texts, DateOrder.ISO)
    return seconds if order is DateOrder.ISO else np.where(np.isnan(seconds), _parse_times(texts, order), seconds)


def date_order_of(texts: pl.Series) -> DateOrder | None:
    """Returns the order under which nearly all (non-null) texts are dates, ``None`` when there is no such order."""
    if not len(texts):
        return None

    def share(order: DateOrder) -> float:
        return float(np.isfinite(times_of(texts, order)).mean())

    if _share(_sample(texts), r"^[0-9]{1,4}[-/.][0-9]{1,2}[-/.]") < TYPE_SHARE / 2:
        return None
    if share(DateOrder.ISO) >= TYPE_SHARE:
        return DateOrder.ISO
    # Where both orders read everything, a point is European and a slash American usage.
    usual_first = [DateOrder.DAY_FIRST, DateOrder.MONTH_FIRST]
    if _sample(texts).str.contains("/", literal=True).any():
        usual_first.reverse()
    best = max(usual_first, key=share)
    return best if share(best) >= TYPE_SHARE else None


def _infer(series: pl.Series) -> Feature | str:
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
        return _nothing_to_learn(series) or Feature(name=name, kind="datetime", has_time=_has_times(times_of(series)))
    if dtype == pl.String:
        return _infer_text(clean_text(series, MISSING))
    return f"values of the type {dtype} can't be used"


def _infer_text(texts: pl.Series) -> Feature | str:
    if reason := _nothing_to_learn(texts):
        return reason
    without_words = clean_text(texts, MISSING_WORDS)
    return _infer_values(without_words) or _infer_categories(texts)


def _infer_values(texts: pl.Series) -> Feature | str | None:
    """Returns the feature of texts that are numbers, dates or truth values, and None for other texts."""
    name, values = texts.name, texts.drop_nulls()
    if not len(values):
        return None
    if _share(_sample(values), NUMBER_PATTERN) >= TYPE_SHARE / 2 and _share(values, NUMBER_PATTERN) >= TYPE_SHARE:
        numbers = pl.Series(_numbers(texts)).fill_nan(None)
        return _nothing_to_learn(numbers) or Feature(name=name, kind="numeric")
    if order := date_order_of(values):
        seconds = times_of(texts, order)
        return Feature(name=name, kind="datetime", date_order=order, has_time=_has_times(seconds))
    if values.is_in(list(BOOLEAN_SPELLINGS)).all():
        return _nothing_to_learn(texts) or Feature(name=name, kind="boolean")
    return None


def _infer_categories(texts: pl.Series) -> Feature | str:
    name, values = texts.name, texts.drop_nulls()
    counts = values.value_counts().sort(["count", name], descending=[True, False])
    distinct = counts[name].to_list()
    if len(values) >= MIN_ROWS_TO_CALL_IDENTIFIER and len(distinct) > IDENTIFIER_SHARE * len(values):
        long = float(values.str.len_chars().mean() or 0) > LONG_TEXT  # type: ignore[arg-type]
        return "free text" if long else "an identifier: nearly every row has a value of its own"
    return Feature(
        name=name, kind="categorical", categories=distinct[:MAX_CATEGORIES], others=len(distinct) > MAX_CATEGORIES
    )


def _sample(values: pl.Series, count: int = 1000) -> pl.Series:
    """Returns a sample of values from the whole column."""
    return values.gather_every(max(len(values) // count, 1))


def _share(values: pl.Series, pattern: str) -> float:
    """Returns the share of the texts that match."""
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
    return "an identifier: every row has a number of its own" if values.n_unique() == len(values) else None


def _has_times(seconds: Seconds) -> bool:
    known = seconds[np.isfinite(seconds)]
    return bool((known % 86_400 != 0).any())


def _encode(feature: Feature, series: pl.Series) -> list[Column]:
    if isinstance(series.dtype, (pl.Categorical, pl.Enum)):
        series = series.cast(pl.String)
    match feature.kind:
        case "numeric":
            return [finite(_numbers(series))]
        case "boolean":
            return [_booleans(series)]
        case "categorical":
            codes = category_codes(feature, distinct := _distinct(series))
            return [_replace(series, distinct, [codes[cell_key(cell)] for cell in distinct])]
        case "datetime":
            return expand_time(times_of(series, feature.date_order), has_time=feature.has_time)


def _numbers(series: pl.Series) -> npt.NDArray[np.float64]:
    if series.dtype == pl.String:
        texts = series.str.strip_chars(WHITESPACE)
        series = texts.set(~texts.str.contains(NUMBER_PATTERN), None).cast(pl.Float64, strict=False)
    elif series.dtype.is_numeric() or series.dtype == pl.Boolean:
        series = series.cast(pl.Float64)
    else:
        return np.full(len(series), np.nan)
    return series.to_numpy()


def _booleans(series: pl.Series) -> Column:
    if series.dtype == pl.String:
        texts = list(BOOLEAN_TEXTS)
        return _replace(series.str.strip_chars(WHITESPACE), texts, [float(BOOLEAN_TEXTS[text]) for text in texts])
    numbers = _numbers(series)
    return np.where(np.isin(numbers, (0.0, 1.0)), numbers, np.nan).astype(np.float32)


def _distinct(series: pl.Series) -> list[object]:
    return series.unique(maintain_order=True).to_list()


def _replace(series: pl.Series, old: list[object] | list[str], new: list[float]) -> Column:
    mapped = series.replace_strict(pl.Series(old, dtype=series.dtype), new, default=np.nan, return_dtype=pl.Float32)
    return mapped.to_numpy()


def _parse_times(texts: pl.Series, order: DateOrder) -> Seconds:
    groups = texts.str.extract_groups(order.pattern).struct.unnest()
    if not groups.width:
        return np.full(len(texts), np.nan)
    columns = groups.get_columns()

    def numbers(index: int, fill: float | None = None) -> npt.NDArray[np.float64]:
        values = columns[index].cast(pl.Float64)
        return (values if fill is None else values.fill_null(fill)).to_numpy()

    offsets = columns[6]
    known_offsets = _distinct(offsets)
    seconds_of_offsets = [offset_seconds(offset) for offset in known_offsets if isinstance(offset, str)]
    texts_of_offsets = [offset for offset in known_offsets if isinstance(offset, str)]
    offset_numbers = np.zeros(len(texts))
    if texts_of_offsets:
        replaced = _replace(offsets, texts_of_offsets, seconds_of_offsets)
        offset_numbers = np.nan_to_num(replaced.astype(np.float64))
    dates = [numbers(position) for position in order.positions]
    times = [numbers(index, 0.0) for index in (3, 4, 5)]
    return seconds_from_parts([*dates, *times], offset_numbers)
