"""From customer rows to the numbers a model sees: the schema learned in training, and rows encoded by it.

Needs numpy only, so that scoring carries no data-frame library; ``tables.py`` does the same to whole tables and must
give the same matrix, bit by bit.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from functools import cached_property, lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from shared.errors import Detail, ValidationFailedError
from shared.models.missing_values import MISSING, MISSING_WORDS
from shared.propensity.dates import (
    Column,
    DateOrder,
    DateReading,
    Seconds,
    date_part,
    date_readings,
    expand_time,
    seconds_from_parts,
    seconds_of_texts,
)

Matrix = npt.NDArray[np.float32]
Cells = Sequence[Any]

WHITESPACE = " \t\r\n\f\v\u00a0\u200b\ufeff"
# Missing in features of numbers, truth values and dates.
MISSING_IN_NUMBERS = MISSING | MISSING_WORDS
BOOLEAN_SPELLINGS = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
BOOLEAN_TEXTS = BOOLEAN_SPELLINGS | {"1": True, "1.0": True, "0": False, "0.0": False}
# Character classes are spelled out: \d and \s mean different things in Python and in Rust.
# Digits can match in one way only, or a long text that is almost a number would take the square of its length.
NUMBER_PATTERN = r"^[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?$"
# What a value of each kind has to be; any text is a category.
EXPECTED = {"numeric": "a number", "boolean": "true or false", "datetime": "a date or time such as 2026-01-31"}
# An example of a date in an error's message.
_EXAMPLE = date(2026, 1, 31)
LISTED_COLUMNS = 20
REPORTED_COLUMNS = 1000
_LARGEST_EXACT = 2.0**53
# 1.0, but not 1.50, nor 007.0.
_WHOLE = re.compile(r"^(-?(?:0|[1-9][0-9]*))\.0+\Z")
_NUMBER = re.compile(NUMBER_PATTERN.replace("$", r"\Z"))


class Feature(BaseModel):
    """One source column the model uses, and how it becomes one or several columns of numbers."""

    model_config = ConfigDict(extra="forbid")

    name: str
    kind: Literal["numeric", "boolean", "categorical", "datetime"]
    categories: list[str] = Field(
        default_factory=list, description="by falling frequency; a category's code is its index"
    )
    others: bool = Field(default=False, description="rarer categories share one more code, and so do unseen ones")
    date_order: DateOrder = Field(
        default=DateOrder.ISO, description="of texts; checkpoints from before formats were kept have no other"
    )
    date_formats: list[str] = Field(
        default_factory=list, description="formats other than ISO that the training's texts were written in"
    )
    has_time: bool = False

    @cached_property
    def columns(self) -> list[str]:
        """Returns the names of the matrix columns it becomes."""
        if self.kind != "datetime":
            return [self.name]
        parts = ["days", "month", "weekday", "day", *(["hour"] if self.has_time else [])]
        return [f"{self.name}.{part}" for part in parts]

    @cached_property
    def codes(self) -> tuple[dict[str, float], dict[str, float]]:
        """Returns the code of each category, and that of each value under the key of all its spellings."""
        known = {category: float(code) for code, category in enumerate(self.categories)}
        spelled: dict[str, float] = {}
        for category, code in known.items():
            spelled.setdefault(value_key(category), code)
        return known, spelled

    @property
    def readings(self) -> tuple[DateReading, ...]:
        """Returns the ways to read a text as a date."""
        return date_readings(tuple(self.date_formats), self.date_order)

    @property
    def expected(self) -> str:
        """Returns what a value must be; any text is a category."""
        if self.kind != "datetime":
            return EXPECTED[self.kind]
        examples = [_EXAMPLE.strftime(part) for form in self.date_formats if (part := date_part(form))]
        return " or ".join((EXPECTED[self.kind], *dict.fromkeys(examples)))

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

    @cached_property
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
            ValidationFailedError: a row lacks columns of the model, or a value is a list or an object.
        """
        self._require_columns(rows)
        if len(rows) == 1:
            return self._encode_row(rows[0])
        matrix = np.empty((len(rows), len(self.columns)), dtype=np.float32)
        start = 0
        for feature in self.features:
            cells = [row[feature.name] for row in rows]
            _require_scalars(cells, feature.name)
            for column in encode_cells(feature, cells):
                matrix[:, start] = column
                start += 1
        return matrix

    def _encode_row(self, row: Mapping[str, Any]) -> Matrix:
        """Returns the same for one row, whose cells need no arrays."""
        numbers: list[float] = []
        for feature in self.features:
            cell = row[feature.name]
            _require_scalars([cell], feature.name)
            numbers += encode_cell(feature, cell)
        return finite(np.array([numbers], dtype=np.float64))

    def _require_columns(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Raises ValidationFailedError for all missing columns, each with the first row that lacks it."""
        names = [feature.name for feature in self.features]
        missing: dict[str, int] = {}
        for index, row in enumerate(rows):
            # Nearly always, a row has all of them or lacks what the rows before lack.
            if not row.keys() >= self._names:
                missing |= {name: index for name in names if name not in row and name not in missing}
        if missing:
            details = [
                Detail(f"rows[{index}].{name}", f"the column '{name}' is missing") for name, index in missing.items()
            ]
            listed = ", ".join(f"'{name}'" for name in [*missing][:LISTED_COLUMNS])
            more = f" and {len(missing) - LISTED_COLUMNS} more" if len(missing) > LISTED_COLUMNS else ""
            text = f"the column {listed} is missing" if len(missing) == 1 else f"the columns {listed}{more} are missing"
            raise ValidationFailedError(
                f"{details[0].field}: {text}; give every column the model was trained on, with null where a value is "
                "unknown",
                details[:REPORTED_COLUMNS],
            )

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(feature.name for feature in self.features)

    def unread(self, rows: Sequence[Mapping[str, Any]], matrix: Matrix) -> Iterator[tuple[int, Feature]]:
        """Features with a value that was given but could not be read, each with the first row that has one."""
        found: set[str] = set()
        for index, feature in self.unread_cells(rows, matrix):
            if feature.name not in found:
                found.add(feature.name)
                yield index, feature

    def unread_cells(self, rows: Sequence[Mapping[str, Any]], matrix: Matrix) -> Iterator[tuple[int, Feature]]:
        """Yields the row and the feature of each value that was given but could not be read."""
        if not np.isnan(matrix).any():
            return
        start = 0
        for feature in self.features:
            missing = np.isnan(matrix[:, start]).nonzero()[0] if feature.kind in EXPECTED else ()
            start += len(feature.columns)
            for index in missing:
                if is_unread(feature, rows[int(index)][feature.name]):
                    yield int(index), feature

    def unseen(self, rows: Sequence[Mapping[str, Any]], matrix: Matrix) -> Iterator[tuple[str, str]]:
        """Categories that were given but are not known to the model, each once with its column.

        Where rare categories share a code, the model does not know which those were.
        """
        if not np.isnan(matrix).any():
            return
        start = 0
        for feature in self.features:
            missing = np.isnan(matrix[:, start]).nonzero()[0] if feature.kind == "categorical" else ()
            start += len(feature.columns)
            texts = dict.fromkeys(_given_text(rows[int(index)][feature.name]) for index in missing)
            yield from ((feature.name, text) for text in texts if text is not None)


def is_unread(feature: Feature, cell: Any) -> bool:
    """Returns whether a cell that the feature encodes as missing was given all the same."""
    # A number beyond single precision is missing, as it was in the training.
    beyond = feature.kind == "numeric" and not np.isnan(number_of(cell))
    return _given_text(cell) is not None and not beyond


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


def value_key(text: str) -> str:
    """Returns a text that is the same for all spellings of a value: true, True, 1 and 1.0."""
    if text in BOOLEAN_TEXTS:
        return "1" if BOOLEAN_TEXTS[text] else "0"
    whole = _WHOLE.match(text)
    return whole[1] if whole else text


def number_of(value: Any) -> float:
    """Returns a cell as a number, NaN when it is missing or no number."""
    if isinstance(value, str):
        text = value.strip(WHITESPACE)
        return float(text) if _NUMBER.match(text) else float(BOOLEAN_SPELLINGS.get(text, np.nan))
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
            return expand_time(_seconds(cells, feature.readings), has_time=feature.has_time)


def encode_cell(feature: Feature, cell: Any) -> Sequence[float]:
    """Returns the numbers of one cell, as ``encode_cells`` does."""
    match feature.kind:
        case "numeric":
            return (number_of(cell),)
        case "boolean":
            return (_boolean(cell),)
        case "categorical":
            return tuple(category_codes(feature, (cell,)).values())
        case "datetime":
            return _date_numbers(cell, feature.readings, feature.has_time)


def cell_key(cell: Any) -> Any:
    """Returns a key that distinguishes cells: True, 1 and 1.0 are equal to Python, but not the same text."""
    return cell if isinstance(cell, str) else (type(cell), cell)


def category_codes(feature: Feature, cells: Iterable[Any]) -> dict[Any, float]:
    """Returns the code of every distinct cell, under its key.

    A known category comes first, then another spelling of one: `-` is missing only for a model that has no such
    category.
    """
    known, spelled = feature.codes
    unseen = feature.unseen_code
    codes: dict[Any, float] = {}
    for cell in cells:
        if (key := cell_key(cell)) not in codes:
            text = cell.strip(WHITESPACE) if isinstance(cell, str) else text_of(cell)
            if text is None:
                codes[key] = np.nan
            else:
                codes[key] = (
                    known[text]
                    if text in known
                    else spelled.get(value_key(text), np.nan if text in MISSING_IN_NUMBERS else unseen)
                )
    return codes


def finite(numbers: npt.NDArray[np.float64]) -> Column:
    """Returns values in single precision, as both libraries read them. Values that are not finite become missing."""
    with np.errstate(over="ignore"):
        column = numbers.astype(np.float32)
    column[~np.isfinite(column)] = np.nan
    return column


def _given_text(cell: Any) -> str | None:
    """Returns the text of a cell, ``None`` for every spelling of a missing value."""
    text = text_of(cell)
    return None if text in MISSING_WORDS else text


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


# Models of one space read the same dates. The type is part of the key, because a day equals its first moment.
@lru_cache(maxsize=256, typed=True)
def _date_numbers(cell: Any, readings: tuple[DateReading, ...], has_time: bool) -> Sequence[float]:
    columns = expand_time(_seconds([cell], readings), has_time=has_time)
    return tuple(float(column[0]) for column in columns)


def _seconds(cells: Cells, readings: Sequence[DateReading]) -> Seconds:
    seconds = np.full(len(cells), np.nan)
    moments: dict[int, tuple[float, ...]] = {}
    texts: dict[int, str] = {}
    for index, cell in enumerate(cells):
        if isinstance(cell, datetime):
            moments[index] = _parts_of_datetime(cell)
        elif isinstance(cell, date):
            moments[index] = (cell.year, cell.month, cell.day, 0, 0, 0, 0)
        elif isinstance(cell, str):
            texts[index] = cell.strip(WHITESPACE)
    if moments:
        *parts, offsets = np.array(list(moments.values()), dtype=np.float64).T
        seconds[list(moments)] = seconds_from_parts(parts, offsets)
    if texts:
        distinct = list(dict.fromkeys(texts.values()))
        read = dict(zip(distinct, seconds_of_texts(distinct, readings), strict=True))
        seconds[list(texts)] = [read[text] for text in texts.values()]
    return seconds


def _parts_of_datetime(value: datetime) -> tuple[float, ...]:
    offset = value.utcoffset()
    return (*value.timetuple()[:6], offset.total_seconds() if offset else 0.0)


def _require_scalars(cells: Cells, name: str) -> None:
    for index, cell in enumerate(cells):
        if isinstance(cell, (list, dict)):
            raise ValidationFailedError.of(
                f"rows[{index}].{name}", "must be a string, a number, a boolean or null, not a list or an object"
            )
