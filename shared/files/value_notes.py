"""Notes about single values of a file: which decided about a column, and which do not fit it."""

from collections.abc import Callable, Collection, Mapping, Sequence

import polars as pl

from shared.files.column_types import (
    STRING,
    Choice,
    TypeReading,
    cleaned,
    col,
    currencies,
    first_values,
)
from shared.files.notes import ReadNotes
from shared.models.reading import WarningCode

EARLIEST_YEAR = 1000
LATEST_YEAR = 9999
_EARLY = (
    "{count} dates of the column '{name}' are before the year 1000, first in {place}: {value}. "
    "Correct them if the years are wrong."
)
_PIVOT = "years 00 to 69 were read as 2000 to 2069, years 70 to 99 as 1970 to 1999"


class ValueNotes:
    """Makes warnings from the text of a file's columns. ``line_of`` returns the line of a row, if rows have lines."""

    def __init__(
        self,
        notes: ReadNotes,
        text: Callable[[Sequence[str]], pl.LazyFrame],
        nulls: Sequence[str] | None,
        line_of: Callable[[int], int] | None = None,
    ) -> None:
        self._notes = notes
        self._text = text
        self._nulls = nulls
        self._line_of = line_of

    def note_formats(self, choices: Mapping[str, Choice]) -> None:
        """Keeps the formats of columns, and notes with an example each column whose values leave them open."""
        names = [name for name, choice in choices.items() if choice.open]
        examples = first_values(self._text(names), names, self._nulls) if names else {}
        for name, choice in choices.items():
            self._note_format(name, choice, examples.get(name))

    def _note_format(self, name: str, choice: Choice, example: str | None) -> None:
        readings = choice.open or ((choice.reading,) if choice.reading.format else ())
        formats = [reading.format or "1234.5" for reading in readings]
        if formats:
            self._notes.formats[name] = formats
        if any("%y" in form for form in formats):
            message = f"The dates of the column '{name}' have two-digit years: {_PIVOT}."
            self._notes.warn(WarningCode.DATE_FORMAT, message, column=name)
        if not choice.open:
            return
        if choice.open[0].is_date:
            message = (
                f"The dates of the column '{name}' (such as '{example}') can be read as {' or as '.join(formats)}, so "
                "the column was read as text. State its format in `date_formats`."
            )
            self._notes.warn(WarningCode.DATE_FORMAT, message, column=name)
        else:
            done = "numbers with a decimal point" if choice.reading is not STRING else "text"
            message = (
                f"The numbers of the column '{name}' (such as '{example}') can have a decimal mark or one between "
                f"thousands; the column was read as {done}. State `decimal` if that is wrong."
            )
            self._notes.warn(WarningCode.NUMBER_FORMAT, message, column=name)

    def note_marks(self, marks: Mapping[str, str | None], stated: Collection[str]) -> None:
        """Notes columns whose decimal mark is another than that of most: `3,5` may be two numbers and not one."""
        found = {mark: [name for name, each in marks.items() if each == mark] for mark in ".,"}
        if not all(found.values()):
            return
        rare, usual = (".", ",") if len(found["."]) < len(found[","]) else (",", ".")
        for name in found[rare]:
            if name not in stated:
                message = (
                    f"The column '{name}' was read as numbers with the decimal mark '{rare}', but other columns, such "
                    f"as '{found[usual][0]}', have '{usual}'. State its type in `types` if its values are no numbers."
                )
                self._notes.warn(WarningCode.NUMBER_FORMAT, message, column=name)

    def note_mixture(self, name: str, reading: TypeReading) -> None:
        """Notes the values of a column of text that are no numbers or dates like most of them."""
        text = cleaned(col(name), self._nulls)
        kind = "dates" if reading.is_date else "numbers"
        self._note_first(
            name,
            text.is_not_null() & reading.parse(text).is_null(),
            WarningCode.MIXED_TYPES,
            "The column '{name}' was read as text, because {count} of its values are no "
            f"{kind} like the others, "
            "first in {place}: {value}. Correct them, or name their spelling in `nulls`.",
        )

    def note_currencies(self, name: str) -> None:
        """Notes amounts in another currency than the first one."""
        found = currencies(col(name))
        first = self._text([name]).select(found.drop_nulls().first().alias("first"))
        usual = first.collect(engine="streaming").item()
        if usual:
            self._note_first(
                name,
                found.is_not_null() & (found != usual),
                WarningCode.NUMBER_FORMAT,
                "{count} amounts of the column '{name}' are in another currency than the first ones, first in "
                "{place}: {value}. The column was read as numbers without a currency.",
            )

    def note_misfits(self, name: str, reading: TypeReading) -> None:
        """Notes the values that are not of the stated type."""
        text = cleaned(col(name), self._nulls)
        if reading is not STRING:
            self._note_first(
                name,
                text.is_not_null() & reading.parse(text).is_null(),
                WarningCode.VALUE,
                "{count} values of the column '{name}' are not of its stated type and were read as missing, first in "
                "{place}: {value}.",
            )

    def note_years(self, name: str) -> None:
        """Notes typed dates of years that are hardly meant. Those of years that have no four digits are missing."""
        year = col(name).dt.year()
        self._note_first(
            name,
            ~year.is_between(1, LATEST_YEAR),
            WarningCode.VALUE,
            "{count} dates of the column '{name}' are before the year 1 or after 9999 and were read as missing, first "
            "in {place}: {value}.",
        )
        self._note_first(name, year.is_between(1, EARLIEST_YEAR - 1), WarningCode.VALUE, _EARLY)

    def note_early(self, name: str, reading: TypeReading) -> None:
        """Notes dates of years that are hardly meant."""
        self._note_first(
            name,
            reading.parse(cleaned(col(name))).dt.year() < EARLIEST_YEAR,
            WarningCode.VALUE,
            _EARLY,
        )

    def _note_first(self, name: str, is_odd: pl.Expr, code: WarningCode, message: str) -> None:
        values = self._text([name]).select(col(name).cast(pl.String).alias("value"), is_odd.alias("odd"))
        odd = values.with_row_index("row").filter("odd")
        facts = odd.select(pl.len(), pl.col("row").first(), pl.col("value").first()).collect(engine="streaming")
        count, row, value = facts.row(0)
        if count:
            line = self._line_of(row) if self._line_of else None
            place = f"row {row + 1:,}" if line is None else f"line {line:,}"
            shown = f"'{str(value)[:60]}'"
            text = message.format(count=f"{count:,}", name=name, place=place, value=shown)
            self._notes.warn(code, text, line=line, column=name)
