"""How a customer's file is read: what its owner states, what the reader found, and the reader's warnings."""

import codecs
import hashlib
import json
import re
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, field_validator, model_validator

from shared.bounds import SCANNED_FILE
from shared.models.base import ALSO_WITH_POINT, ColumnName, Model

ColumnTypeName = Literal["int", "float", "boolean", "date", "datetime", "string"]
# A catalog entry and a training's notes show so many warnings; counts are of all.
SHOWN_WARNINGS = 100
NULL_SPELLINGS_LIMIT = 50
TYPED_COLUMNS_LIMIT = 1000
_DATE_PART = re.compile(r"%[YymbBdHIMSTpz]|%#z|%\.[369]?f|(?<=\.)%f")
# Of a file's rows, how many may be left out or repaired before the file is refused, if its owner states no share.
AFFECTED_SHARE = 0.05
# Columns of a file, of all files of a training together, and of a row to score.
COLUMNS_LIMIT = SCANNED_FILE.columns
# Options of which no two may name the same character.
_MARKS = ("delimiter", "quote", "escape")
_NUMBER_MARKS = ("decimal", "thousands")
# Codecs of names and of program text. Some need time that grows with the square of the text.
_NOT_OF_FILES = frozenset({"idna", "punycode", "raw-unicode-escape", "unicode-escape", "utf-7"})
_CHARACTER = r"^[\x01-\x09\x0b\x0c\x0e-\x7f]$"


def check_encoding(name: str) -> str:
    """Returns the usual name of a text encoding. Raises ValueError for an unknown one."""
    try:
        "a".encode(name)  # Codecs that are no encodings of text, such as zip, raise LookupError too.
        usual = codecs.lookup(name).name
    except (LookupError, ValueError):
        usual = None
    if usual is None or usual.replace("_", "-") in _NOT_OF_FILES:
        raise ValueError("is not an encoding of text; examples are utf-8, cp1252, utf-16 and shift_jis")
    return usual


def check_date_format(text: str) -> str:
    """Returns a format such as ``%d/%m/%Y``. Raises ValueError if it lacks a part of a date or of a time."""
    parts = [part[-1] for part in _DATE_PART.findall(text)]
    found = set(parts)
    is_date = bool(found & {"Y", "y"} and found & {"m", "b", "B"} and "d" in found)
    has_hour = "T" in found or "H" in found or {"I", "p"} <= found
    has_time = bool(found & set("HIMSTpfz"))
    if not is_date or len(found) < len(parts) or "%" in _DATE_PART.sub("", text):
        raise ValueError("must have a year (%Y or %y), a month (%m, %b or %B) and a day (%d) once, such as %d/%m/%Y")
    if has_time and not (has_hour and found & {"M", "T"}):
        raise ValueError("must have hours (%H, or %I with %p) and minutes (%M) if it has a time")
    return text


def is_date_format(text: str) -> bool:
    """Returns whether a text is a format of dates."""
    try:
        check_date_format(text)
    except ValueError:
        return False
    return True


Character = Annotated[str, StringConstraints(pattern=_CHARACTER)]
EncodingName = Annotated[str, StringConstraints(max_length=40), AfterValidator(check_encoding)]
DateFormat = Annotated[str, StringConstraints(max_length=60), AfterValidator(check_date_format)]


class ReadOptions(Model):
    """What the owner states about the way files are written. The reader finds out what is not stated."""

    delimiter: Character | None = Field(default=None, description="character between fields")
    quote: Character | Literal[""] | None = Field(default=None, description="character around fields; empty: none")
    escape: Character | None = Field(
        default=None, description="character before a quote inside a quoted field; without it, quotes are doubled"
    )
    header: bool | None = Field(default=None, description="whether the first line names the columns")
    skip_lines: Annotated[int | None, ALSO_WITH_POINT] = Field(
        default=None, strict=True, ge=0, le=1000, description="lines before the header or the first row"
    )
    encoding: EncodingName | None = Field(default=None, description="such as `utf-8`, `cp1252` or `shift_jis`")
    decimal: Literal[".", ","] | None = Field(default=None, description="decimal mark of all numbers")
    thousands: Literal[",", ".", "'", " ", ""] | None = Field(
        default=None, description="mark between groups of digits; empty: none"
    )
    date_format: DateFormat | None = Field(default=None, description="format of ambiguous dates, such as `%d/%m/%Y`")
    date_formats: dict[ColumnName, DateFormat] | None = Field(
        default=None, max_length=TYPED_COLUMNS_LIMIT, description="format of the dates of single columns"
    )
    nulls: list[Annotated[str, StringConstraints(max_length=100)]] | None = Field(
        default=None,
        max_length=NULL_SPELLINGS_LIMIT,
        description="texts that mean a missing value, instead of the usual",
    )
    types: dict[ColumnName, ColumnTypeName] | None = Field(
        default=None, max_length=TYPED_COLUMNS_LIMIT, description="types of single columns"
    )
    max_affected_share: float | None = Field(
        strict=True,
        default=None,
        ge=0,
        le=1,
        description="share of the rows that may be left out or repaired before the file is refused; if not stated "
        f"{AFFECTED_SHARE}, and of small files 3 rows",
    )

    @field_validator("delimiter", "escape")
    @classmethod
    def _not_a_quote(cls, value: str | None) -> str | None:
        if value == '"':
            raise ValueError("must not be a double quote")
        return value

    @model_validator(mode="after")
    def _distinct_marks(self) -> "ReadOptions":
        if self.decimal is not None and self.decimal == self.thousands:
            raise ValueError("decimal and thousands must differ")
        marks = [mark for mark in (self.delimiter, self.quote, self.escape) if mark]
        if len(set(marks)) < len(marks):
            raise ValueError("delimiter, quote and escape must differ")
        return self

    def merged(self, other: "ReadOptions | None") -> "ReadOptions":
        """Returns these options, replaced by those that ``other`` states, and without marks that contradict them."""
        if other is None:
            return self
        stated = other.model_dump(exclude_none=True)
        kept = self.model_dump(exclude_none=True, exclude=set(stated))
        for marks in (_MARKS, _NUMBER_MARKS):
            taken = {stated.get(name) for name in marks}
            kept = {name: value for name, value in kept.items() if name not in marks or value not in taken - {""}}
        return ReadOptions.model_validate(kept | stated)

    @property
    def digest(self) -> str | None:
        """Returns a text that only equal options have; ``None`` where nothing is stated."""
        stated = self.model_dump(exclude_none=True)
        return hashlib.sha256(json.dumps(stated, sort_keys=True).encode()).hexdigest() if stated else None


class WarningCode(StrEnum):
    """Kind of a reader's warning."""

    ENCODING = "encoding"
    DIALECT = "dialect"
    HEADER = "header"
    LINES_SKIPPED = "lines_skipped"
    ROW_LEFT_OUT = "row_left_out"
    ROW_REPAIRED = "row_repaired"
    COLUMN_LEFT_OUT = "column_left_out"
    COLUMN_NAME = "column_name"
    IDENTIFIER = "identifier"
    NUMBER_FORMAT = "number_format"
    DATE_FORMAT = "date_format"
    MIXED_TYPES = "mixed_types"
    VALUE = "value"


class ReadWarning(Model):
    """Doubt about a file, or a change to it. ``message`` names what was done, and what to do."""

    code: WarningCode
    line: int | None = Field(default=None, description="line of the file, from 1")
    column: str | None = None
    message: str


class FileDialect(Model):
    """How a text file is written, as the reader found or the owner stated."""

    delimiter: str
    quote: str | None = None
    escape: str | None = None
    header_line: int | None = Field(default=None, description="line with the columns' names; null: no header")
    certainty: float = Field(description="share of the first lines that have the same number of fields")
