"""Reads delimited text as typed columns. Its lines are checked first, and its types hold over the whole file."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from shared.files.column_types import (
    ALL_READINGS,
    INTEGER,
    NUMBER_DIGITS,
    STRING,
    WRITTEN_NUMBERS,
    Choice,
    ColumnFacts,
    ColumnType,
    TypeReading,
    cleaned,
    col,
    dominant,
    examine,
    first_values,
    look_like_values,
    narrow,
    without_nulls,
)
from shared.files.dialects import detect_dialect
from shared.files.errors import UnreadableFileError
from shared.files.formats import PlainFile
from shared.files.limits import ReadLimits
from shared.files.notes import notes_of
from shared.files.records import split
from shared.files.sources import (
    POLARS_ERRORS,
    Expressions,
    TextSource,
    sample_rows,
)
from shared.files.stated_types import StatedTypes
from shared.files.structure import (
    Structure,
    check_lengths,
    check_structure,
    has_stray_marks,
    note_end,
    with_line_feeds,
)
from shared.files.value_notes import EARLIEST_YEAR, ValueNotes
from shared.models.reading import ReadOptions, WarningCode

# Only a hint: if polars uses other words, all columns are checked.
NAMED_COLUMN = re.compile(r"(?:at|in) column '(.+?)'")
EXPLAINED_COLUMNS = 50
_RAW = "\nraw "


class CsvSource(TextSource):
    """Delimited text. Plain numbers and booleans are parsed by polars' CSV reader, everything else from text."""

    def __init__(self, plain: PlainFile, scratch: Path, limits: ReadLimits, options: ReadOptions) -> None:
        """Raises UnreadableFileError."""
        self.notes = notes_of(plain)
        self._scratch = scratch
        self._limits = limits
        self._options = options
        self._stated = StatedTypes(options)
        self.plain = with_line_feeds(plain, scratch)
        check_lengths(self.plain.path, limits)
        self._dialect = detect_dialect(self.plain.path, plain.name, self.notes, options, limits)
        self.notes.dialect = self._dialect.description
        self._structure: Structure | None = None
        self._is_verified = False
        # Unnamed columns are left out as long as they have no value.
        self._left_out = set(self._dialect.row_numbers)
        self._readings: dict[str, TypeReading] = {}
        self._choices: dict[str, Choice] = {}
        # Columns whose types are still guesses, and those without blanks and spelt-out nulls in the sample.
        self._guessed: set[str] = set()
        self._plain_columns: set[str] = set()
        # Columns with blanks around values in the sample.
        self._padded: set[str] = set()
        # Columns of text in which most values are numbers or dates, and the reading that most values satisfy.
        self._mixed: dict[str, TypeReading] = {}
        # Columns with a year before 1000.
        self._early: list[str] = []
        note_end(self.plain.path, self._dialect.marks, len(self._dialect.columns), self.notes)
        if has_stray_marks(self.plain.path, self._dialect):
            self._check_structure()
        try:
            self._guess_types()
        except POLARS_ERRORS as error:
            self._repair(error)

    def aggregate(
        self, expressions: Expressions, columns: Sequence[str] | None = None
    ) -> tuple[dict[str, Any], pl.Schema]:
        """See Source."""
        if columns is not None:
            self._verify()
        while True:
            names = self._names if columns is None else [name for name in columns if name in self._names]
            checks = [] if self._is_verified else self._checks()
            typed = self._typed(names, with_raw=bool(checks))
            found = typed.collect_schema()
            schema = pl.Schema({name: found[name] for name in names})
            try:
                facts = typed.select(*expressions(schema), *checks).collect(engine="streaming").row(0, named=True)
            except POLARS_ERRORS as error:
                self._remedy(error)
                continue
            if checks and not self._passes(facts):
                continue
            if not self._is_verified:
                self._is_verified = True
                self._note_values()
            return facts, schema

    def lines_of(self, records: Sequence[int]) -> list[int]:
        """See Source."""
        return [self._line_of(record) for record in records]

    def _all_typed(self) -> pl.LazyFrame:
        return self._typed(self._names)

    @property
    def _names(self) -> list[str]:
        return [name for name in self._dialect.columns if name not in self._left_out]

    # Structure

    def _check_structure(self) -> Structure:
        share = self._options.max_affected_share
        self._structure = check_structure(
            self.plain.path, self._dialect, self.notes, self._scratch, self._limits, share
        )
        return self._structure

    def _repair(self, error: BaseException) -> None:
        """Checks the structure, and guesses the types again. Raises UnreadableFileError if that was done before."""
        if self._structure is not None:
            raise UnreadableFileError(
                "The file cannot be read as CSV; write it again, with quotes around fields that hold the delimiter, "
                "quotes or line ends."
            ) from error
        self._check_structure()
        try:
            self._guess_types()
        except POLARS_ERRORS as again:
            self._repair(again)

    def _remedy(self, error: BaseException) -> None:
        """Corrects the guess that made a query fail. Raises UnreadableFileError if no guess is left."""
        named = NAMED_COLUMN.search(str(error)[:10_000])
        # An error about a value names its column; one about the structure does not.
        if self._structure is None and named is None:
            self._repair(error)
        elif self._guessed:
            self._fix_columns([named[1]] if named and named[1] in self._guessed else list(self._guessed))
        else:
            self._repair(error)

    # Types

    def _guess_types(self) -> None:
        names = self._dialect.columns
        count = sample_rows(len(names))
        # One row more than requested shows whether the sample is the whole file.
        sample = self._text(count + 1).collect()
        is_whole = sample.height <= count
        unnamed = [name for name in self._dialect.unnamed if sample[name].null_count() == sample.height]
        if len(unnamed) == len(names):
            raise UnreadableFileError("The file has no names and no values; upload a file with a header and rows.")
        self._left_out = {*self._dialect.row_numbers, *unnamed}
        possible = self._possible(sample.lazy(), self._names)
        stated = self._stated.names
        facts = examine(sample.lazy(), possible, self._options.nulls, is_sample=True, stated=stated)
        self._guessed = set() if is_whole else set(self._names)
        self._decide(facts)
        plain = sample.select(is_plain(col(name)).alias(name) for name in self._names).row(0, named=True)
        padded = sample.select(col(name).str.contains(r"^\s|\s$").any().alias(name) for name in self._names)
        self._padded = {name for name, is_padded in padded.row(0, named=True).items() if is_padded}
        self._plain_columns = {
            name
            for name in self._names
            if plain[name] and self._readings[name] is not STRING and not (name in stated and facts[name].misfits)
        }
        if self._options.nulls is not None or self._dialect.marks.skips_spaces:
            self._plain_columns = set()
        self._mixed = {}
        self._note_mixed(sample, [name for name in self._names if self._is_text(name)])
        # Text is right for any further value. Columns without a value and open ones need the whole file.
        self._guessed -= {name for name in self._names if self._is_surely_text(facts[name], self._choices[name])}
        if unclear := [name for name in self._guessed if self._is_unclear(name, facts[name])]:
            self._fix_columns(unclear)

    def _is_surely_text(self, facts: ColumnFacts, choice: Choice) -> bool:
        return facts.has_values and choice.reading is STRING and not choice.open

    def _is_unclear(self, name: str, facts: ColumnFacts) -> bool:
        reading = self._readings[name]
        is_open = not facts.has_values or not facts.readings or bool(self._choices[name].open)
        # These have no strict form.
        is_lenient = reading.type is ColumnType.BOOLEAN or reading.is_written
        return is_open or (is_lenient and not (reading.is_native and name in self._plain_columns))

    def _possible(self, text: pl.LazyFrame, names: Iterable[str]) -> dict[str, tuple[TypeReading, ...]]:
        names = list(names)
        guessed = [name for name in names if name not in self._stated.names]
        return self._stated.possible(names, narrow(first_values(text, guessed, self._options.nulls), ALL_READINGS))

    def _decide(self, facts: dict[str, ColumnFacts]) -> None:
        """Chooses the readings of columns. The decimal mark of clear columns decides about open ones."""
        choices = {name: self._stated.choose(name, found) for name, found in facts.items()}
        clear = [choice.reading for choice in {**self._choices, **choices}.values() if not choice.open]
        marks = {_decimal_of(reading) for reading in clear} - {None}
        if self._stated.decimal is None and len(marks) == 1:
            [decimal] = marks
            for name, choice in choices.items():
                if choice.open and choice.open[0].type is ColumnType.FLOAT:
                    choices[name] = self._stated.choose(name, facts[name], decimal)
        self._choices |= choices
        self._readings |= {name: choice.reading for name, choice in choices.items()}

    def _fix_columns(self, columns: list[str]) -> None:
        """Decides about columns by a pass over the whole file."""
        try:
            possible = self._possible(self._text(), columns)
            facts = examine(self._text(), possible, self._options.nulls, stated=self._stated.names)
        except POLARS_ERRORS as error:
            self._repair(error)
            return
        self._decide(facts)
        texts = [name for name in columns if self._is_text(name)]
        self._note_mixed(self._text(sample_rows(len(self._dialect.columns))).collect() if texts else None, texts)
        self._plain_columns -= set(columns)
        self._guessed -= set(columns)

    def _is_text(self, name: str) -> bool:
        return self._choices[name] == Choice(STRING) and name not in self._stated.names

    def _note_mixed(self, sample: pl.DataFrame | None, names: Sequence[str]) -> None:
        """Notes the columns of text in which most values of a sample are numbers or dates."""
        if sample is None:
            return
        texts = sample.select(cleaned(col(name), self._options.nulls).alias(name) for name in names)
        # Only so many are explained, and finding a reading takes long.
        for name in look_like_values(texts)[: max(0, EXPLAINED_COLUMNS - len(self._mixed))]:
            if reading := dominant(texts[name].drop_nulls()):
                self._mixed[name] = reading

    def _checks(self) -> list[pl.Expr]:
        """Returns aggregates of the text that show whether the guesses hold."""
        checks = []
        for name in self._names:
            raw = pl.col(_RAW + name)
            if name in self._guessed and self._readings[name] is INTEGER:
                size = raw.str.len_bytes()
                is_long = (size > NUMBER_DIGITS) | (raw.str.starts_with("0") & (size > 1)) | raw.str.starts_with("-0")
                checks.append((is_long | raw.str.starts_with("+")).any().alias(f"{name}\ni"))
        if self._structure is None:
            checks.append(pl.col(_RAW + self._dialect.columns[-1]).null_count().alias("\nlast"))
            checks.extend(self._check_of_headers())
        unnamed = [name for name in self._dialect.unnamed if name in self._left_out]
        checks.extend(pl.col(_RAW + name).is_not_null().any().alias(f"{name}\nu") for name in unnamed)
        checks.extend(
            (col(name).dt.year() < EARLIEST_YEAR).any().alias(f"{name}\ny")
            for name in self._names
            if self._readings[name].is_date
        )
        return checks

    def _check_of_headers(self) -> list[pl.Expr]:
        """Returns an aggregate that shows whether a row may repeat the header, as in files that were joined.

        In such a file no column is left that polars parses as numbers, because their names are none.
        """
        header, columns = self._dialect.header_text, self._dialect.columns
        if header is None or any(self._readings[name].is_native for name in self._plain_columns):
            return []
        names = split(header, self._dialect.marks, is_lenient=True).fields
        ends = ((columns[0], names[0]), (columns[-1], names[-1]))
        return [pl.all_horizontal(pl.col(_RAW + column) == name for column, name in ends).any().alias("\nheader")]

    def _passes(self, facts: dict[str, Any]) -> bool:
        """Returns whether the guesses hold, and corrects those that do not."""
        # A short row has nulls at its end. Only the lines distinguish it from a row with empty fields.
        if (facts.get("\nlast") or facts.get("\nheader")) and self._check_structure().path != self.plain.path:
            self._guess_types()
            return False
        early = [name for name in self._names if facts.get(f"{name}\ny")]
        # A guessed year may lack digits.
        wrong = [name for name in self._names if facts.get(f"{name}\ni") or (name in early and name in self._guessed)]
        if wrong:
            self._fix_columns(wrong)
        filled = {name for name in self._left_out if facts.get(f"{name}\nu")}
        if filled:
            self._left_out -= filled
            self._readings |= dict.fromkeys(filled, STRING)
            self._choices |= dict.fromkeys(filled, Choice(STRING))
            self._fix_columns(list(filled))
        self._early = early
        return not wrong and not filled

    # Frames

    def _text(self, rows: int | None = None) -> pl.LazyFrame:
        return self._scan(dict.fromkeys(self._dialect.columns, pl.String()), rows)

    def _typed(self, names: Sequence[str], *, with_raw: bool = False) -> pl.LazyFrame:
        native: dict[str, pl.DataType] = {
            name: pl.Boolean() if self._readings[name].type is ColumnType.BOOLEAN else pl.Float64()
            for name in self._plain_columns
            if self._readings[name].is_native
        }
        schema = {name: native.get(name, pl.String()) for name in self._dialect.columns}
        values = [
            (col(name).fill_nan(None) if native[name] == pl.Float64 else col(name))
            if name in native
            else self._value(name, self._readings[name])
            for name in names
        ]
        values = [value.alias(name) for value, name in zip(values, names, strict=True)]
        raw = [col(name).alias(_RAW + name) for name in self._dialect.columns] if with_raw else []
        return self._scan(schema).select(*values, *raw)

    def _value(self, name: str, reading: TypeReading) -> pl.Expr:
        """Returns the values of a column that polars' CSV reader leaves to us; a wrong guess makes the query fail."""
        text = col(name)
        if reading is STRING:
            text = text.str.strip_chars(" ") if self._dialect.marks.skips_spaces else text
            return without_nulls(text, self._options.nulls, is_padded=name in self._padded)
        return reading.parse(
            text if name in self._plain_columns else cleaned(text, self._options.nulls), strict=name in self._guessed
        )

    def _scan(self, schema: dict[str, pl.DataType], rows: int | None = None) -> pl.LazyFrame:
        structure = self._structure
        marks = self._dialect.marks
        return pl.scan_csv(
            structure.path if structure else self.plain.path,
            has_header=False,
            skip_lines=structure.skip_lines if structure else self._dialect.data_line - 1,
            schema=schema,
            separator=marks.delimiter,
            quote_char=marks.quote,
            n_rows=rows,
            glob=False,
        )

    # Notes

    def _note_values(self) -> None:
        """Notes which values decided about types, and what they leave open."""
        for name in self._dialect.row_numbers:
            message = f"The column '{name}' only numbers the rows, so it was left out."
            if self._dialect.is_shifted:
                message = (
                    f"Line {self._dialect.header_line} has one name less than the rows have fields, so the first "
                    "fields were taken for the names of the rows, as R writes them, and left out."
                )
            self.notes.warn(WarningCode.COLUMN_LEFT_OUT, message, column=name)
        for name in self._dialect.unnamed:
            if name in self._left_out:
                message = f"The column '{name}' has neither a name nor a value, so it was left out."
                self.notes.warn(WarningCode.COLUMN_LEFT_OUT, message, column=name)
        values = ValueNotes(self.notes, self._columns_of_text, self._options.nulls, self._line_of)
        values.note_formats({name: self._choices[name] for name in self._names})
        clear = {name: self._readings[name] for name in self._names if not self._choices[name].open}
        stated = self._stated.names if self._stated.decimal is None else clear.keys()
        values.note_marks({name: _decimal_of(reading) for name, reading in clear.items()}, stated)
        for name in [name for name in self._mixed if self._is_text(name)][:EXPLAINED_COLUMNS]:
            values.note_mixture(name, self._mixed[name])
        for name in [name for name in self._names if self._readings[name] in WRITTEN_NUMBERS][:EXPLAINED_COLUMNS]:
            values.note_currencies(name)
        for name in self._names:
            if name in self._stated.names:
                values.note_misfits(name, self._readings[name])
        for name in self._early[:EXPLAINED_COLUMNS]:
            values.note_early(name, self._readings[name])
        for name in self._early[EXPLAINED_COLUMNS:]:
            message = f"Dates of the column '{name}' are before the year 1000. Correct them if the years are wrong."
            self.notes.warn(WarningCode.VALUE, message, column=name)
        self._stated.note_unknown(self._dialect.columns, self.notes)

    def _columns_of_text(self, names: Sequence[str]) -> pl.LazyFrame:
        return self._text().select(col(name) for name in names)

    def _line_of(self, row: int) -> int:
        return self._structure.lines.line_of(row) if self._structure else self._dialect.data_line + row


def _decimal_of(reading: TypeReading) -> str | None:
    """Returns the decimal mark of a column of numbers."""
    if reading.type is not ColumnType.FLOAT:
        return None
    return "," if reading.format and reading.format[-2] == "," else "."


def is_plain(text: pl.Expr) -> pl.Expr:
    """Returns whether polars can parse the values themselves: no spelt-out nulls, no blanks around a value."""
    return ((text == "") | (cleaned(text) == text).fill_null(value=False)).all()
