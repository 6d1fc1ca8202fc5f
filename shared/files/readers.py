"""One data file as a typed, lazy polars frame: CSV, Parquet or JSON Lines, read in streaming."""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

import polars as pl

from shared.files.column_types import (
    ALL_READINGS,
    BOOLEAN,
    DATES,
    STRING,
    ColumnType,
    TypeReading,
    choose,
    cleaned,
    fitting,
    guess_readings,
    is_ambiguous,
    without_nulls,
)
from shared.files.delimited import Dialect, detect_dialect, has_regular_records, rewrite, unique_names
from shared.files.errors import UnreadableFileError
from shared.files.formats import FileFormat, PlainFile, to_plain_file
from shared.files.limits import DEFAULT_LIMITS, ReadLimits
from shared.files.notes import ReadNotes
from shared.files.parquet_footer import row_groups
from shared.models.reading import ReadOptions

NO_OPTIONS = ReadOptions()
SAMPLE_ROWS = 10_000
SAMPLE_CELLS = 2_000_000
# Of a decoded value in memory: a number takes 8 bytes, a text's view 16.
VALUE_BYTES = 16
POLARS_ERRORS = (pl.exceptions.PolarsError, pl.exceptions.PanicException)
NATIVE_TYPES: dict[ColumnType, pl.DataType] = {
    ColumnType.INTEGER: pl.Int64(),
    ColumnType.FLOAT: pl.Float64(),
    ColumnType.BOOLEAN: pl.Boolean(),
}

# Only a hint: if polars uses other words, all columns are checked.
NAMED_COLUMN = re.compile(r"(?:at|in) column '(.+?)'")

Query = Callable[[pl.LazyFrame], pl.LazyFrame]


def scan_frame(
    path: str | Path,
    format: FileFormat | None = None,
    *,
    name: str | None = None,
    scratch: str | Path | None = None,
    limits: ReadLimits = DEFAULT_LIMITS,
    options: ReadOptions = NO_OPTIONS,
) -> pl.LazyFrame:
    """Returns one file as a lazy frame of Int64, Float64, Boolean, Date, Datetime (UTC, microseconds) and String
    columns.

    Types hold over the whole file, never only a sample: `1` and `1.5` make a float column, values that share no type
    make a string column. Spellings such as NA, null and NaN are nulls, and rows of a text file in which nothing
    but nulls are left out. Without `format`, the content and `name` decide.
    A file that is compressed or not UTF-8 is decoded into `scratch` (by default beside it), which must outlive the
    frame and is the caller's to remove. Raises UnreadableFileError, whose message is meant for the file's owner.
    """
    path = Path(path)
    source = open_source(
        path, format, name=name, scratch=Path(scratch) if scratch else path.parent, limits=limits, options=options
    )
    return source.frame()


@contextmanager
def opened(
    path: Path,
    format: FileFormat | None = None,
    *,
    name: str | None = None,
    limits: ReadLimits = DEFAULT_LIMITS,
    options: ReadOptions = NO_OPTIONS,
) -> Iterator["Source"]:
    """Yields a source, and removes its decoded copies at the end."""
    with TemporaryDirectory(prefix="scan-", dir=path.parent) as scratch:
        yield open_source(path, format, name=name, scratch=Path(scratch), limits=limits, options=options)


def open_source(
    path: Path,
    format: FileFormat | None,
    *,
    name: str | None,
    scratch: Path,
    limits: ReadLimits,
    options: ReadOptions = NO_OPTIONS,
) -> "Source":
    """Returns the reader for the file's format, which its beginning shows."""
    plain = to_plain_file(path, scratch, name=name, format=format, limits=limits, encoding=options.encoding)
    match plain.format:
        case FileFormat.CSV:
            return CsvSource(plain, scratch, limits, options)
        case FileFormat.JSON_LINES:
            return JsonLinesSource(plain, scratch, limits, options)
        case FileFormat.PARQUET:
            return ParquetSource(plain, limits, options)


class Source(ABC):
    """A file that answers queries over its typed columns."""

    plain: PlainFile
    notes: ReadNotes

    @abstractmethod
    def collect(self, query: Query) -> pl.DataFrame:
        """Runs a query over all rows, blank ones too, with polars' streaming engine.

        It may be run again when a guess about the file proves wrong.
        """

    def batches(self) -> list[list[str] | None]:
        """Returns the columns that can be read in one query within bounded memory, batch after batch.

        None means all.
        """
        return [None]

    @abstractmethod
    def frame(self) -> pl.LazyFrame:
        """Returns the lazy frame, after every guess about the file has been checked."""


class TextSource(Source):
    """Text with types guessed from a sample. Where the guess fails, the whole file decides the types."""

    # The columns whose types are still guesses.
    _guessed: set[str]

    def __init__(self, plain: PlainFile, scratch: Path, limits: ReadLimits, options: ReadOptions) -> None:
        self.plain = plain
        self.notes = ReadNotes()
        self._options = options
        self._scratch = scratch
        self._limits = limits
        self._is_rewritten = False
        self._examine()

    def collect(self, query: Query) -> pl.DataFrame:
        """See Source. Remedies are tried in the order types, structure, until none is left."""
        while True:
            try:
                return query(self._typed()).collect(engine="streaming")
            except POLARS_ERRORS as error:
                self._remedy(error)

    def frame(self) -> pl.LazyFrame:
        """See Source."""
        facts = self.collect(lambda frame: frame.select(pl.len(), count_blank_rows(), pl.all().null_count())).row(0)
        rows, blank_rows, *nulls = facts
        frame = self._typed()
        empty = [name for name, count in zip(frame.collect_schema(), nulls, strict=True) if count == rows]
        frame = frame.with_columns(pl.col(empty).cast(pl.String))
        return frame.filter(~is_blank_row()) if blank_rows else frame

    def _remedy(self, error: BaseException) -> None:
        """Corrects the guess that made a query fail. Raises UnreadableFileError if no guess is left."""
        if self._guessed:
            self._fix_types(error)
        else:
            self._repair(error)

    @abstractmethod
    def _examine(self) -> None:
        """Guesses structure and types from the beginning."""

    @abstractmethod
    def _fix_types(self, error: BaseException | None) -> None:
        """Fixes the type of the column that an error names, or else of all, by a pass over the whole file."""

    @abstractmethod
    def _repair(self, error: BaseException) -> None:
        """Repairs the structure. Raises UnreadableFileError if it can't."""

    @abstractmethod
    def _typed(self) -> pl.LazyFrame:
        """Returns the frame under the present guesses."""


def is_blank_row() -> pl.Expr:
    """Returns an expression that is true for rows of nulls only."""
    return pl.all_horizontal(pl.all().is_null())


def count_blank_rows() -> pl.Expr:
    """Returns how many rows hold nothing but nulls.

    Counting them is cheap; filtering them away makes wide plans slow.
    """
    return is_blank_row().sum().alias("\nblank rows")


class CsvSource(TextSource):
    """Delimited text. Plain numbers and booleans are parsed by polars' CSV reader, everything else from text."""

    _dialect: Dialect
    _readings: dict[str, TypeReading]
    # Columns whose numbers, booleans or dates have no blanks and no spelt-out nulls in the sample.
    _plain_columns: set[str]
    _possible: dict[str, tuple[TypeReading, ...]]

    def _examine(self) -> None:
        self._dialect = detect_dialect(self.plain, self._limits)
        is_regular = has_regular_records(self.plain.path, self._limits)
        if self._dialect.needs_rewrite or not is_regular:
            self._rewrite()
        try:
            self._guess_types()
        except POLARS_ERRORS as error:
            self._repair(error)

    def _guess_types(self) -> None:
        columns = self._dialect.columns
        count = max(100, min(SAMPLE_ROWS, SAMPLE_CELLS // len(columns)))
        # One row more than requested shows whether the sample is the whole file.
        sample = self._text(count + 1).collect()
        self._guessed = set(columns) if sample.height > count else set()
        found = guess_readings(sample, decimal_comma=self._dialect.decimal_comma)
        self._possible = {column: ALL_READINGS if readings is None else readings for column, readings in found.items()}
        # No value yet: as boolean, the pass over the file fails at the first value that is not one.
        self._readings = {
            column: BOOLEAN if readings is None and self._guessed else choose(readings)
            for column, readings in found.items()
        }
        plain = sample.select(is_plain(pl.all())).row(0, named=True)
        self._plain_columns = {
            column for column, reading in self._readings.items() if plain[column] and reading is not STRING
        }
        self._guessed -= {column for column, readings in found.items() if readings == ()}
        for column in list(self._guessed):
            is_boolean = self._readings[column].type is ColumnType.BOOLEAN
            if is_ambiguous(found[column]) or (is_boolean and column not in self._plain_columns):
                self._fix_columns([column])

    def _fix_types(self, error: BaseException | None) -> None:
        named = named_column(error) if error else None
        self._fix_columns([named] if named in self._guessed else list(self._guessed))

    def _fix_columns(self, columns: list[str]) -> None:
        possible = {column: self._possible[column] for column in columns}
        try:
            found = fitting(self._text(), possible, decimal_comma=self._dialect.decimal_comma)
        except POLARS_ERRORS as error:
            self._repair(error)
            return
        self._readings |= {column: choose(readings) for column, readings in found.items()}
        self._plain_columns -= set(columns)
        self._guessed -= set(columns)

    def _repair(self, error: BaseException) -> None:
        if self._is_rewritten:
            raise UnreadableFileError(f"The file cannot be read as CSV: {first_line(error)}") from error
        self._rewrite()
        self._guess_types()

    def _rewrite(self) -> None:
        self.plain = rewrite(self.plain, self._dialect, self._scratch, self._limits)
        self._is_rewritten = True

    def _text(self, rows: int | None = None) -> pl.LazyFrame:
        return self._scan(dict.fromkeys(self._dialect.columns, pl.String()), rows)

    def _typed(self) -> pl.LazyFrame:
        native = {
            column: NATIVE_TYPES[self._readings[column].type]
            for column in self._plain_columns
            if self._readings[column].type in NATIVE_TYPES
        }
        schema = {column: native.get(column, pl.String()) for column in self._readings}
        values = [
            pl.col(column).fill_nan(None) if column in native else self._value(column, reading)
            for column, reading in self._readings.items()
            if column not in native or reading.type is ColumnType.FLOAT
        ]
        return self._scan(schema).with_columns(values)

    def _value(self, column: str, reading: TypeReading) -> pl.Expr:
        """Returns the values of a column that polars' CSV reader leaves to us; a wrong guess makes the query fail."""
        text = pl.col(column)
        if reading is STRING:
            return without_nulls(text)
        return reading.parse(
            text if column in self._plain_columns else cleaned(text),
            strict=column in self._guessed,
            decimal_comma=self._dialect.decimal_comma,
        )

    def _scan(self, schema: dict[str, pl.DataType], rows: int | None = None) -> pl.LazyFrame:
        return pl.scan_csv(
            self.plain.path,
            has_header=False,
            skip_rows=1 if self._dialect.has_header else 0,
            schema=schema,
            separator=self._dialect.delimiter,
            decimal_comma=self._dialect.decimal_comma,
            n_rows=rows,
            glob=False,
        )


JSON_TYPES: dict[frozenset[type], pl.DataType] = {
    frozenset({int}): pl.Int64(),
    frozenset({float}): pl.Float64(),
    frozenset({int, float}): pl.Float64(),
    frozenset({bool}): pl.Boolean(),
}


def _is_big(value: object) -> bool:
    return isinstance(value, int) and not -(2**63) <= value < 2**63


class JsonLinesSource(TextSource):
    """One JSON object on each line. Columns are the union of all keys; nested values are kept as JSON text."""

    _names: dict[str, str]
    _schema: dict[str, pl.DataType]
    _readings: dict[str, TypeReading]
    _possible: dict[str, tuple[TypeReading, ...]]

    def _examine(self) -> None:
        if not has_regular_records(self.plain.path, self._limits):
            self._report(None)
        found: Mapping[str, pl.DataType]
        try:
            found = pl.scan_ndjson(self.plain.path, infer_schema_length=None).collect_schema()
        except POLARS_ERRORS:
            found = self._types_line_by_line()
        if not found:
            raise UnreadableFileError("The file has no rows with fields; upload one JSON object on each line.")
        if len(found) > self._limits.columns:
            raise UnreadableFileError(
                f"The file has {len(found):,} columns; at most {self._limits.columns:,} can be read."
            )
        self._schema = {column: basic_type(dtype) for column, dtype in found.items()}
        self._names = dict(zip(found, unique_names(list(found), self._limits), strict=True))
        self._guess_dates()

    def _guess_dates(self) -> None:
        texts = [column for column, dtype in self._schema.items() if dtype == pl.String]
        count = max(100, min(SAMPLE_ROWS, SAMPLE_CELLS // len(self._schema)))
        try:
            sample = self._scan(count + 1).select(texts).collect()
        except POLARS_ERRORS as error:
            self._report(error)
        self._guessed = set(texts) if sample.height > count else set()
        found = guess_readings(sample, DATES)
        self._possible = {column: DATES if readings is None else readings for column, readings in found.items()}
        self._readings = {column: choose(readings) for column, readings in found.items()}
        self._guessed -= {column for column, readings in found.items() if readings == ()}
        if any(found[column] is None or is_ambiguous(found[column]) for column in self._guessed):
            self._fix_types(None)

    def _fix_types(self, error: BaseException | None) -> None:  # noqa: ARG002 - one pass fixes them all
        try:
            found = fitting(self._scan(), {column: self._possible[column] for column in self._guessed})
        except POLARS_ERRORS as failure:
            self._repair(failure)
            return
        self._readings |= {column: choose(readings) for column, readings in found.items()}
        self._guessed = set()

    def _repair(self, error: BaseException) -> None:
        self._report(error)

    def _report(self, error: BaseException | None) -> NoReturn:
        """Raises the error that names the first bad line, or the one that polars gave."""
        self._types_line_by_line()
        reason = first_line(error) if error else "its quotes are not balanced"
        raise UnreadableFileError(f"The file cannot be read as JSON Lines: {reason}") from error

    def _types_line_by_line(self) -> dict[str, pl.DataType]:
        """Returns columns and types by Python's parser, for values that polars cannot infer: keys whose values share no
        type.

        Raises UnreadableFileError naming the first line that is not a JSON object.
        """
        kinds: dict[str, set[type]] = {}
        with self.plain.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    row = json.loads(line) if line.strip() else {}
                except (ValueError, RecursionError):
                    row = None
                if not isinstance(row, dict):
                    raise UnreadableFileError(
                        f"Line {number:,} is not a JSON object; write one object on each line and upload it again."
                    )
                for key, value in row.items():
                    kinds.setdefault(key, set()).add(float if _is_big(value) else type(value))
        return {key: JSON_TYPES.get(frozenset(found - {type(None)}), pl.String()) for key, found in kinds.items()}

    def _typed(self) -> pl.LazyFrame:
        values = [self._value(column) if column in self._readings else pl.col(column) for column in self._schema]
        return self._scan().select(
            value.alias(self._names[column]) for value, column in zip(values, self._schema, strict=True)
        )

    def _value(self, column: str) -> pl.Expr:
        reading = self._readings[column]
        if reading is STRING:
            return without_nulls(pl.col(column))
        return reading.parse(cleaned(pl.col(column)), strict=column in self._guessed)

    def _scan(self, rows: int | None = None) -> pl.LazyFrame:
        return pl.scan_ndjson(self.plain.path, schema=self._schema, n_rows=rows)


class ParquetSource(Source):
    """A Parquet file, its declared types mapped to the basic ones."""

    def __init__(self, plain: PlainFile, limits: ReadLimits, options: ReadOptions) -> None:
        self.plain = plain
        self.notes = ReadNotes()
        self._options = options
        self._limits = limits
        groups = row_groups(plain.path)
        rows = max((group.rows for group in groups), default=0)
        size = max((group.size_bytes for group in groups), default=0)
        if rows * VALUE_BYTES > limits.batch_bytes:
            raise UnreadableFileError(
                f"The Parquet file has a row group of {rows:,} rows; write it with smaller row groups, "
                f"of at most {limits.batch_bytes // VALUE_BYTES:,} rows."
            )
        try:
            self._schema = pl.scan_parquet(plain.path, glob=False).collect_schema()
        except POLARS_ERRORS as error:
            raise self._unreadable(error) from error
        if len(self._schema) > limits.columns:
            raise UnreadableFileError(
                f"The file has {len(self._schema):,} columns; at most {limits.columns:,} can be read."
            )

        columns = max(1, len(self._schema))
        self._batch_width = max(1, limits.batch_bytes // max(1, rows * VALUE_BYTES + size // columns))

    def batches(self) -> list[list[str] | None]:
        """See Source."""
        names = unique_names(list(self._schema), self._limits)
        starts = range(0, len(names), self._batch_width)
        return [list(names[start : start + self._batch_width]) for start in starts] if len(starts) > 1 else [None]

    def collect(self, query: Query) -> pl.DataFrame:
        """See Source."""
        try:
            return query(self.frame()).collect(engine="streaming")
        except POLARS_ERRORS as error:
            raise self._unreadable(error) from error

    def frame(self) -> pl.LazyFrame:
        """See Source."""
        names = unique_names(list(self._schema), self._limits)
        return pl.scan_parquet(self.plain.path, glob=False).select(
            as_basic(pl.col(column), dtype).alias(name)
            for (column, dtype), name in zip(self._schema.items(), names, strict=True)
        )

    def _unreadable(self, error: BaseException) -> UnreadableFileError:
        return UnreadableFileError(
            f"The Parquet file is damaged or cut off ({first_line(error)}); write it again and upload it."
        )


def as_basic(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Returns a column of any polars type as one of the basic types."""
    target = basic_type(dtype)
    if dtype.is_nested():
        return pl.when(column.is_not_null()).then(pl.struct(column).struct.json_encode())
    if isinstance(dtype, pl.Binary):
        return column.bin.encode("hex")
    if isinstance(dtype, pl.Datetime):
        utc = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if dtype.time_zone else column
        return utc.cast(target)
    value = column if dtype == target else column.cast(target)
    return value.fill_nan(None) if target == pl.Float64 else value


def basic_type(dtype: pl.DataType) -> pl.DataType:
    """Returns the basic type that holds a polars type's values."""
    if (dtype.is_integer() and dtype not in (pl.UInt64, pl.Int128, pl.UInt128)) or isinstance(dtype, pl.Duration):
        return pl.Int64()
    if dtype.is_numeric():
        return pl.Float64()
    if isinstance(dtype, pl.Datetime):
        return pl.Datetime("us")
    if isinstance(dtype, pl.Boolean | pl.Date):
        return dtype
    return pl.String()


def first_line(error: BaseException) -> str:
    """Returns the beginning of an error's text; polars may quote whole fields of the file in it."""
    return str(error)[:1000].strip().split("\n", 1)[0][:200]


def named_column(error: BaseException) -> str | None:
    """Returns the column that polars' error about a value is about, if it says so."""
    found = NAMED_COLUMN.search(str(error)[:10_000])
    return found[1] if found else None


def is_plain(text: pl.Expr) -> pl.Expr:
    """Returns whether polars' CSV reader can parse the values itself: no spelt-out nulls, no blanks after a value."""
    return ((text == "") | (cleaned(text).is_not_null() & (text.str.strip_chars_end(" \t") == text))).all()
