"""What the cells of a text column are: one type that every value of the whole file satisfies."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import polars as pl

# Read as missing in every column. Two of them are words elsewhere (Namibia's code is NA): like pandas and R we
# take the reading that is far more common in exported data.
NULL_SPELLINGS = (
    "",
    "NA",
    "N/A",
    "n/a",
    "na",
    "#N/A",
    "NULL",
    "Null",
    "null",
    "NaN",
    "nan",
    "None",
    "none",
    "\\N",
)


class ColumnType(StrEnum):
    """The types a profile names; nested, binary and mixed values are `string`."""

    INTEGER = "int"
    FLOAT = "float"
    BOOLEAN = "boolean"
    DATE = "date"
    DATETIME = "datetime"
    STRING = "string"


@dataclass(frozen=True)
class TypeReading:
    """One way to read text: a type and, for dates, the format. `parse` gives null where a value does not fit."""

    type: ColumnType
    format: str | None = None

    def parse(self, text: pl.Expr, *, strict: bool = False, decimal_comma: bool = False) -> pl.Expr:
        """Parses cleaned text.

        `strict` makes a number or date that does not fit an error instead of a null; booleans have no strict form.
        """
        match self.type:
            case ColumnType.INTEGER:
                return text.cast(pl.Int64, strict=strict)
            case ColumnType.FLOAT:
                number = text.str.replace(",", ".", literal=True) if decimal_comma else text
                return number.cast(pl.Float64, strict=strict).fill_nan(None)
            case ColumnType.BOOLEAN:
                lower = text.str.to_lowercase()
                return pl.when((lower == "true") | (lower == "false")).then(lower == "true")
            case ColumnType.DATE:
                return text.str.to_date(self.format, strict=strict)
            case ColumnType.DATETIME:
                moment = text.str.to_datetime(self.format, strict=strict, time_unit="us")
                return moment.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if self.has_zone else moment
            case ColumnType.STRING:
                return text

    @property
    def has_zone(self) -> bool:
        """Returns whether values carry an offset; they are turned into UTC."""
        return self.format is not None and self.format.endswith("%#z")


STRING = TypeReading(ColumnType.STRING)
NUMBERS = (TypeReading(ColumnType.INTEGER), TypeReading(ColumnType.FLOAT))
BOOLEAN = TypeReading(ColumnType.BOOLEAN)
# 01/02/2024 alone could be January or February: a file in which both readings fit stays text rather than guessed.
AMBIGUOUS_DATES = (TypeReading(ColumnType.DATE, "%d/%m/%Y"), TypeReading(ColumnType.DATE, "%m/%d/%Y"))
DATES = (
    *(TypeReading(ColumnType.DATE, form) for form in ("%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y")),
    *AMBIGUOUS_DATES,
    *(
        TypeReading(ColumnType.DATETIME, form)
        for form in (
            "%Y-%m-%d %H:%M:%S%.f",
            "%Y-%m-%dT%H:%M:%S%.f",
            "%Y-%m-%d %H:%M:%S%.f%#z",
            "%Y-%m-%dT%H:%M:%S%.f%#z",
            "%Y-%m-%d %H:%M",
            "%Y-%m-%dT%H:%M",
        )
    ),
)
ALL_READINGS = (*NUMBERS, BOOLEAN, *DATES)
DATE_PATTERN = re.compile(r"\d{1,4}[-/.]\d")


def cleaned(column: pl.Expr) -> pl.Expr:
    """Returns text without surrounding blanks, and null for spellings of a missing value.

    Numbers and dates are parsed from it.
    """
    return without_nulls(column.str.strip_chars(" \t"))


def without_nulls(column: pl.Expr) -> pl.Expr:
    """Returns text unchanged, but null for spellings of a missing value."""
    return pl.when(~column.is_in(NULL_SPELLINGS)).then(column)


def choose(readings: tuple[TypeReading, ...] | None) -> TypeReading:
    """Returns the narrowest reading that every value satisfies; text if no reading or no value exists."""
    return STRING if not readings or is_ambiguous(readings) else readings[0]


def is_ambiguous(readings: tuple[TypeReading, ...] | None) -> bool:
    """Returns whether the values are dates that could have the day or the month first."""
    return readings is not None and set(AMBIGUOUS_DATES) <= set(readings)


def guess_readings(
    sample: pl.DataFrame, among: tuple[TypeReading, ...] = ALL_READINGS, *, decimal_comma: bool = False
) -> dict[str, tuple[TypeReading, ...] | None]:
    """Returns for each column of a sample the readings of `among` that all its values satisfy; see `fitting`."""
    if not sample.width:
        return {}
    firsts = sample.select(cleaned(pl.all()).drop_nulls().first()).row(0, named=True)
    possible = {
        column: tuple(reading for reading in among if reading in _readings_of(first, decimal_comma=decimal_comma))
        for column, first in firsts.items()
    }
    return fitting(sample.lazy(), possible, decimal_comma=decimal_comma, is_sample=True)


def _readings_of(value: str | None, *, decimal_comma: bool) -> tuple[TypeReading, ...]:
    """Returns the readings that one value may allow. It is quick, and leaves out no reading that is possible."""
    if value is None:
        return ()
    if value.lower() in ("true", "false"):
        return (BOOLEAN,)
    dates = DATES if DATE_PATTERN.match(value) else ()
    try:
        float(value.replace(",", ".") if decimal_comma else value)
    except ValueError:
        return dates
    return (*NUMBERS, *dates)


def fitting(
    text: pl.LazyFrame,
    possible: Mapping[str, tuple[TypeReading, ...]],
    *,
    decimal_comma: bool = False,
    is_sample: bool = False,
) -> dict[str, tuple[TypeReading, ...] | None]:
    """Returns for each column its possible readings that every value satisfies; None for a column without values.

    One pass over the text, by the streaming engine unless it is a sample in memory.
    """
    if not possible:
        return {}
    tests = []
    for column, readings in possible.items():
        value = pl.col(column)
        tests.append(value.is_not_null().any().alias(f"{column}\n"))
        tests.extend(
            (reading.parse(value, decimal_comma=decimal_comma).is_null() & value.is_not_null())
            .any()
            .alias(f"{column}\n{position}")
            for position, reading in enumerate(readings)
        )
    values = text.select(cleaned(pl.col(list(possible))))
    facts = values.select(tests).collect(engine="in-memory" if is_sample else "streaming").row(0, named=True)
    return {
        column: tuple(reading for position, reading in enumerate(readings) if not facts[f"{column}\n{position}"])
        if facts[f"{column}\n"]
        else None
        for column, readings in possible.items()
    }
