"""From customer rows to the numbers a model sees: the schema learned in training, and rows encoded by it.

Needs numpy only, so that scoring carries no data-frame library; ``frames.py`` does the same to whole tables and must
give the same matrix, bit by bit.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from shared.errors import ValidationFailedError
from shared.models.missing_values import MISSING, MISSING_WORDS

Matrix = npt.NDArray[np.float32]
Column = npt.NDArray[np.float32]
Seconds = npt.NDArray[np.float64]
Cells = Sequence[Any]

WHITESPACE = " \t\r\n\f\v\u00a0\u200b\ufeff"
# Missing in features of numbers, truth values and dates.
MISSING_IN_NUMBERS = MISSING | MISSING_WORDS
BOOLEAN_SPELLINGS = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
BOOLEAN_TEXTS = BOOLEAN_SPELLINGS | {"1": True, "0": False}
# Character classes are spelled out: \d and \s mean different things in Python and in Rust.
NUMBER_PATTERN = r"^[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?$"
# What a value of each kind has to be; any text is a category.
EXPECTED = {"numeric": "a number", "boolean": "true or false", "datetime": "a date or time such as 2026-01-31"}
_TIME_PATTERN = r"(?:[T ]([0-9]{1,2}):([0-9]{2})(?::([0-9]{2})(?:[.,][0-9]{1,9})?)? ?(Z|[+-][0-9]{2}:?[0-9]{2})?)?$"
_LARGEST_EXACT = 2.0**53


class DateOrder(StrEnum):
    """Order of a date's three numbers. ISO dates are read under every order."""

    ISO = "iso"
    DAY_FIRST = "day_first"
    MONTH_FIRST = "month_first"

    @property
    def pattern(self) -> str:
        """Returns a regular expression with the groups first, second, third number, hour, minute, second, offset."""
        numbers = (
            r"^([0-9]{4})[-/.]([0-9]{1,2})[-/.]([0-9]{1,2})"
            if self is DateOrder.ISO
            else r"^([0-9]{1,2})[-/.]([0-9]{1,2})[-/.]([0-9]{4})"
        )
        return numbers + _TIME_PATTERN

    @property
    def positions(self) -> tuple[int, int, int]:
        """Returns the positions of year, month and day in the three numbers."""
        return {"iso": (0, 1, 2), "day_first": (2, 1, 0), "month_first": (2, 0, 1)}[self.value]


_NUMBER = re.compile(NUMBER_PATTERN.replace("$", r"\Z"))
_DATES = {order: re.compile(order.pattern.replace("$", r"\Z")) for order in DateOrder}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Feature(BaseModel):
    """One source column the model uses, and how it becomes one or several columns of numbers."""

    model_config = ConfigDict(extra="forbid")

    name: str
    kind: Literal["numeric", "boolean", "categorical", "datetime"]
    categories: list[str] = Field(
        default_factory=list, description="by falling frequency; a category's code is its index"
    )
    others: bool = Field(default=False, description="rarer categories share one more code, and so do unseen ones")
    date_order: DateOrder = DateOrder.ISO
    has_time: bool = False

    @property
    def columns(self) -> list[str]:
        """Returns the names of the matrix columns it becomes."""
        if self.kind != "datetime":
            return [self.name]
        parts = ["days", "month", "weekday", "day", *(["hour"] if self.has_time else [])]
        return [f"{self.name}.{part}" for part in parts]

    @property
    def unseen_code(self) -> float:
        """Returns the code of an unlisted category: the shared code if it exists, else missing."""
        return float(len(self.categories)) if self.others else np.nan


class DroppedColumn(BaseModel):
    """A column that was there and isn't used."""

    name: str
    reason: str


class FeatureSchema(BaseModel):
    """What was learned about the columns from the rows a model is fitted on."""

    model_config = ConfigDict(extra="forbid")

    features: list[Feature] = Field(min_length=1)
    dropped: list[DroppedColumn] = Field(default_factory=list)

    @property
    def columns(self) -> list[str]:
        """Returns the matrix's columns, in order."""
        return [column for feature in self.features for column in feature.columns]

    @property
    def categorical(self) -> list[int]:
        """Returns the columns of the matrix that hold codes of categories."""
        kinds = [feature.kind for feature in self.features for _ in feature.columns]
        return [index for index, kind in enumerate(kinds) if kind == "categorical"]

    def encode_rows(self, rows: Sequence[Mapping[str, Any]]) -> Matrix:
        """Returns one matrix row for each of ``rows``; columns the model doesn't know are ignored, ``None`` is missing.

        Raises:
            ValidationFailedError: a row lacks a column of the model, or a value is a list or an object.
        """
        matrix = np.empty((len(rows), len(self.columns)), dtype=np.float32)
        start = 0
        for feature in self.features:
            try:
                cells = [row[feature.name] for row in rows]
            except KeyError:
                index = next(index for index, row in enumerate(rows) if feature.name not in row)
                raise ValidationFailedError.of(
                    f"rows[{index}].{feature.name}",
                    f"the column '{feature.name}' is missing; give every column the model was trained on, "
                    "with null where a value is unknown",
                ) from None
            _require_scalars(cells, feature.name)
            for column in encode_cells(feature, cells):
                matrix[:, start] = column
                start += 1
        return matrix

    def unread(self, rows: Sequence[Mapping[str, Any]], matrix: Matrix) -> Iterator[tuple[int, Feature]]:
        """Features with a value that was given but could not be read, each with the first row that has one."""
        start = 0
        for feature in self.features:
            missing = np.isnan(matrix[:, start]).nonzero()[0] if feature.kind in EXPECTED else ()
            start += len(feature.columns)
            for index in missing:
                text = text_of(rows[int(index)][feature.name])
                if text is not None and text not in MISSING_WORDS:
                    yield int(index), feature
                    break


def text_of(value: Any) -> str | None:
    """Returns the canonical text of a cell, ``None`` when it is missing: the same for 3, 3.0 and " 3 "."""
    if value is None:
        return None
    if isinstance(value, str):
        text = value.strip(WHITESPACE)
        return None if text in MISSING else text
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (float, Decimal)):
        number = float(value)
        if np.isnan(number):
            return None
        return str(int(number)) if number.is_integer() and abs(number) < _LARGEST_EXACT else repr(number)
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    return str(value)


def number_of(value: Any) -> float:
    """Returns a cell as a number, NaN when it is missing or no number."""
    if isinstance(value, str):
        text = value.strip(WHITESPACE)
        return float(text) if _NUMBER.match(text) else np.nan
    if isinstance(value, (int, float, Decimal)):
        try:
            return float(value)
        except OverflowError:
            return np.nan
    return np.nan


def encode_cells(feature: Feature, cells: Cells) -> list[Column]:
    """Returns the matrix columns of one feature, each as long as ``cells``."""
    match feature.kind:
        case "numeric":
            return [finite(_numbers(cells))]
        case "boolean":
            return [np.array([_boolean(cell) for cell in cells], dtype=np.float32)]
        case "categorical":
            codes = category_codes(feature, cells)
            return [np.array([codes[cell_key(cell)] for cell in cells], dtype=np.float32)]
        case "datetime":
            return expand_time(_seconds(cells, feature.date_order), has_time=feature.has_time)


def cell_key(cell: Any) -> Any:
    """Returns a key that distinguishes cells: True, 1 and 1.0 are equal to Python, but not the same text."""
    return cell if isinstance(cell, str) else (type(cell), cell)


def category_codes(feature: Feature, cells: Iterable[Any]) -> dict[Any, float]:
    """Returns the code of every distinct cell, under its key.

    A known category comes first: `-` is missing only for a model that has no such category.
    """
    known = {category: float(code) for code, category in enumerate(feature.categories)}
    missing = dict.fromkeys(MISSING_IN_NUMBERS, np.nan)
    unseen = feature.unseen_code
    codes: dict[Any, float] = {}
    for cell in cells:
        if (key := cell_key(cell)) not in codes:
            text = cell.strip(WHITESPACE) if isinstance(cell, str) else text_of(cell)
            codes[key] = np.nan if text is None else known.get(text, missing.get(text, unseen))
    return codes


def finite(numbers: npt.NDArray[np.float64]) -> Column:
    """Returns values in single precision, as both libraries read them. Values that are not finite become missing."""
    with np.errstate(over="ignore"):
        column = numbers.astype(np.float32)
    column[~np.isfinite(column)] = np.nan
    return column


def seconds_from_parts(parts: Iterable[npt.NDArray[np.float64]], offsets: npt.NDArray[np.float64]) -> Seconds:
    """Seconds since 1970 in UTC from year, month, day, hour, minute, second; NaN where they form no time.

    Days from a civil date: https://howardhinnant.github.io/date_algorithms.html
    """
    year, month, day, hour, minute, second = parts
    with np.errstate(invalid="ignore"):
        leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
        long_months = np.isin(month, (1, 3, 5, 7, 8, 10, 12))
        last_day = np.where(month == 2, 28.0 + leap, np.where(long_months, 31.0, 30.0))
        valid = (year >= 1) & (month >= 1) & (month <= 12) & (day >= 1) & (day <= last_day)
        valid &= (hour <= 23) & (minute <= 59) & (second <= 59) & (np.abs(offsets) < 86_400)
        shifted = year - (month <= 2)
        era = np.floor(shifted / 400)
        year_of_era = shifted - era * 400
        day_of_year = np.floor((153 * (month + np.where(month > 2, -3, 9)) + 2) / 5) + day - 1
        day_of_era = year_of_era * 365 + np.floor(year_of_era / 4) - np.floor(year_of_era / 100) + day_of_year
        days = era * 146_097 + day_of_era - 719_468
        seconds = days * 86_400 + hour * 3600 + minute * 60 + second - offsets
    return np.where(valid, seconds, np.nan)


def expand_time(seconds: Seconds, *, has_time: bool) -> list[Column]:
    """Days since 1970, month, weekday (Monday 0) and day of month, and the hour where times are given."""
    known = np.isfinite(seconds)
    whole = np.where(known, seconds, 0.0).astype(np.int64)
    days = whole // 86_400
    dates = days.astype("datetime64[D]")
    months = dates.astype("datetime64[M]")
    parts: list[npt.NDArray[Any]] = [
        whole / 86_400,
        months.astype(np.int64) % 12 + 1,
        (days + 3) % 7,
        (dates - months).astype(np.int64) + 1,
    ]
    if has_time:
        parts.append(whole % 86_400 // 3600)
    return [np.where(known, part, np.nan).astype(np.float32) for part in parts]


def offset_seconds(text: str | None) -> float:
    """Returns the offset of ``Z``, ``+02:00`` or ``-0330``; no offset is UTC."""
    if text is None or text == "Z":
        return 0.0
    digits = text[1:].replace(":", "")
    seconds = int(digits[:2]) * 3600.0 + int(digits[2:]) * 60.0
    return -seconds if text[0] == "-" else seconds


def _numbers(cells: Cells) -> npt.NDArray[np.float64]:
    if {type(cell) for cell in cells} <= {int, float, type(None)}:
        try:
            return np.array(cells, dtype=np.float64)
        except OverflowError:
            pass
    return np.array([number_of(cell) for cell in cells], dtype=np.float64)


def _boolean(cell: Any) -> float:
    if isinstance(cell, str):
        cell = BOOLEAN_TEXTS.get(cell.strip(WHITESPACE))
    return float(cell) if isinstance(cell, (bool, int, float, Decimal)) and cell in (0, 1) else np.nan


def _seconds(cells: Cells, order: DateOrder) -> Seconds:
    parts = np.full((7, len(cells)), np.nan)
    for index, cell in enumerate(cells):
        if isinstance(cell, datetime):
            parts[:, index] = _parts_of_datetime(cell)
        elif isinstance(cell, date):
            parts[:, index] = (cell.year, cell.month, cell.day, 0, 0, 0, 0)
        elif isinstance(cell, str):
            parts[:, index] = _parts_of_text(cell.strip(WHITESPACE), order)
    return seconds_from_parts(parts[:6], parts[6])


def _parts_of_datetime(value: datetime) -> tuple[float, ...]:
    offset = value.utcoffset()
    return (*value.timetuple()[:6], offset.total_seconds() if offset else 0.0)


def _parts_of_text(text: str, order: DateOrder) -> tuple[float, ...]:
    for candidate in dict.fromkeys((DateOrder.ISO, order)):
        if match := _DATES[candidate].match(text):
            *numbers, hour, minute, second, offset = match.groups()
            dates = (float(numbers[position]) for position in candidate.positions)
            return (*dates, float(hour or 0), float(minute or 0), float(second or 0), offset_seconds(offset))
    return (np.nan,) * 7


def _require_scalars(cells: Cells, name: str) -> None:
    for index, cell in enumerate(cells):
        if isinstance(cell, (list, dict)):
            raise ValidationFailedError.of(
                f"rows[{index}].{name}", "must be a string, a number, a boolean or null, not a list or an object"
            )
