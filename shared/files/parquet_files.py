"""Reads Parquet files as columns of the basic types."""

from collections.abc import Sequence
from typing import Any

import polars as pl

from shared.files.basic_types import type_of
from shared.files.column_names import NAMES_OF_ROW_NUMBERS, unique_names
from shared.files.column_types import LARGEST_NUMBER, ColumnType, TypeReading, cleaned, col, examine, without_nulls
from shared.files.errors import UnreadableFileError
from shared.files.formats import PlainFile
from shared.files.limits import ReadLimits
from shared.files.notes import ReadNotes
from shared.files.parquet_footer import row_groups
from shared.files.sources import POLARS_ERRORS, Expressions, Query, Source
from shared.files.stated_types import StatedTypes
from shared.files.value_notes import EARLIEST_YEAR, LATEST_YEAR, ValueNotes
from shared.models.reading import ReadOptions, WarningCode

# Of a decoded value in memory: a number takes 8 bytes, a text's view 16.
VALUE_BYTES = 16
_SMALLER = (pl.Int8, pl.Int16, pl.Int32, pl.UInt8, pl.UInt16, pl.UInt32, pl.Float32)


class ParquetSource(Source):
    """A Parquet file, its declared types mapped to the basic ones. Whole numbers of 16 digits and more become text."""

    def __init__(self, plain: PlainFile, limits: ReadLimits, options: ReadOptions) -> None:
        """Raises UnreadableFileError."""
        self.plain = plain
        self.notes = ReadNotes()
        groups = row_groups(plain.path)
        rows = max((group.rows for group in groups), default=0)
        size = max((group.size_bytes for group in groups), default=0)
        if rows * VALUE_BYTES > limits.batch_bytes:
            raise UnreadableFileError(
                f"The Parquet file has a row group of {rows:,} rows; write it with smaller row groups, "
                f"of at most {limits.batch_bytes // VALUE_BYTES:,} rows."
            )
        try:
            schema = pl.scan_parquet(plain.path, glob=False).collect_schema()
        except POLARS_ERRORS as error:
            raise _unreadable() from error
        limits.check_columns(len(schema))
        self._columns = {
            name: (column, dtype)
            for (column, dtype), name in zip(schema.items(), unique_names(list(schema), limits), strict=True)
        }
        self.notes.nested = {name for name, (_, dtype) in self._columns.items() if dtype.is_nested()}
        self._batch_width = max(1, limits.batch_bytes // max(1, rows * VALUE_BYTES + size // max(1, len(schema))))
        self._texts: set[str] = set()
        self._options = options
        self._stated = StatedTypes(options)
        # Of columns that are read from their text.
        self._readings: dict[str, TypeReading] = {}
        # Columns with years that no date has elsewhere.
        self._far: set[str] = set()
        self._inspect()
        self._inspect_years()
        self._state_types()

    @property
    def smaller_types(self) -> dict[str, pl.DataType]:
        """See Source."""
        return {
            name: dtype
            for name, (_, dtype) in self._columns.items()
            if dtype in _SMALLER and name not in self._texts and name not in self._readings
        }

    def batches(self) -> list[list[str] | None]:
        """See Source."""
        names = list(self._columns)
        starts = range(0, len(names), self._batch_width)
        return [names[start : start + self._batch_width] for start in starts] if len(starts) > 1 else [None]

    def aggregate(
        self, expressions: Expressions, columns: Sequence[str] | None = None
    ) -> tuple[dict[str, Any], pl.Schema]:
        """See Source."""
        try:
            frame = self.frame() if columns is None else self.frame().select(col(name) for name in columns)
            schema = frame.collect_schema()
            return frame.select(*expressions(schema)).collect(engine="streaming").row(0, named=True), schema
        except POLARS_ERRORS as error:
            raise _unreadable() from error

    def collect(self, query: Query) -> pl.DataFrame:
        """See Source."""
        try:
            return query(self.frame()).collect(engine="streaming")
        except POLARS_ERRORS as error:
            raise _unreadable() from error

    def frame(self) -> pl.LazyFrame:
        """See Source."""
        return pl.scan_parquet(self.plain.path, glob=False).select(
            self._value(name).alias(name) for name in self._columns
        )

    def _inspect(self) -> None:
        """Finds numbers that are identifiers, binary columns that are text, and columns that number the rows."""
        numbers = {name: column for name, (column, dtype) in self._columns.items() if _may_be_long(dtype)}
        binary = {name: column for name, (column, dtype) in self._columns.items() if isinstance(dtype, pl.Binary)}
        raw = pl.scan_parquet(self.plain.path, glob=False)
        for name in list(self._columns):
            if name.lower() in NAMES_OF_ROW_NUMBERS and self._columns[name][1].is_integer():
                del self._columns[name]
                numbers.pop(name, None)
                self.notes.warn(
                    WarningCode.COLUMN_LEFT_OUT,
                    f"The column '{name}' only numbers the rows, so it was left out.",
                    column=name,
                )
        names = list(numbers)
        for start in range(0, len(names), self._batch_width):
            some = names[start : start + self._batch_width]
            bounds = [
                bound(col(numbers[name])).alias(f"{name}\n{place}")
                for name in some
                for place, bound in enumerate((pl.Expr.min, pl.Expr.max))
            ]
            facts = self._collected(raw.select(bounds))
            self._texts |= {
                name
                for name in some
                if any(abs(facts[f"{name}\n{place}"] or 0) >= LARGEST_NUMBER for place in range(2))
            }
        for name, column in binary.items():
            try:
                raw.select(col(column).cast(pl.String).null_count()).collect(engine="streaming")
            except POLARS_ERRORS:
                continue
            self._texts.add(name)

    def _inspect_years(self) -> None:
        """Finds dates whose years are hardly meant, and those that only Parquet can hold."""
        years = {
            name: col(column).dt.year()
            for name, (column, dtype) in self._columns.items()
            if isinstance(dtype, pl.Date | pl.Datetime)
        }
        values = ValueNotes(self.notes, self._raw, self._options.nulls)
        names = list(years)
        for start in range(0, len(names), self._batch_width):
            some = names[start : start + self._batch_width]
            is_odd = [(~years[name].is_between(EARLIEST_YEAR, LATEST_YEAR)).any().alias(name) for name in some]
            facts = self._collected(pl.scan_parquet(self.plain.path, glob=False).select(is_odd))
            for name in some:
                if facts[name]:
                    self._far.add(name)
                    values.note_years(name)

    def _state_types(self) -> None:
        """Reads columns from their text whose type the owner states otherwise than the file does."""
        names = [
            name
            for name, (_, dtype) in self._columns.items()
            if self._stated.of(name)
            not in (None, ColumnType.STRING if name in self._texts else type_of(basic_type(dtype)))
        ]
        values = ValueNotes(self.notes, self._text, self._options.nulls)
        for start in range(0, len(names), self._batch_width):
            some = names[start : start + self._batch_width]
            possible = self._stated.possible(some, {})
            try:
                facts = examine(self._text(some), possible, self._options.nulls, stated=self._stated.names)
            except POLARS_ERRORS as error:
                raise _unreadable() from error
            choices = {name: self._stated.choose(name, facts[name]) for name in some}
            values.note_formats(choices)
            for name, choice in choices.items():
                self._readings[name] = choice.reading
                values.note_misfits(name, choice.reading)
        self._stated.note_unknown(self._columns, self.notes)

    def _raw(self, names: Sequence[str]) -> pl.LazyFrame:
        columns = [col(self._columns[name][0]).alias(name) for name in names]
        return pl.scan_parquet(self.plain.path, glob=False).select(columns)

    def _text(self, names: Sequence[str]) -> pl.LazyFrame:
        raw = pl.scan_parquet(self.plain.path, glob=False)
        return raw.select(self._typed(name).cast(pl.String).alias(name) for name in names)

    def _collected(self, frame: pl.LazyFrame) -> dict[str, Any]:
        try:
            return frame.collect(engine="streaming").row(0, named=True)
        except POLARS_ERRORS as error:
            raise _unreadable() from error

    def _value(self, name: str) -> pl.Expr:
        value = self._typed(name)
        if name in self._readings:
            return self._readings[name].parse(cleaned(value.cast(pl.String), self._options.nulls))
        is_text = basic_type(self._columns[name][1]) == pl.String and name not in self._texts
        return without_nulls(value, self._options.nulls) if is_text else value

    def _typed(self, name: str) -> pl.Expr:
        column, dtype = self._columns[name]
        if name in self._texts:
            return col(column).cast(pl.String)
        value = as_basic(col(column), dtype)
        return pl.when(value.dt.year().is_between(1, LATEST_YEAR)).then(value) if name in self._far else value


def _unreadable() -> UnreadableFileError:
    return UnreadableFileError(
        "The Parquet file is damaged, cut off, or written in an unknown way; write it again and upload it."
    )


def as_basic(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Returns a column of any polars type as one of the basic types."""
    target = basic_type(dtype)
    if dtype.is_nested():
        # Only structs can be encoded. So the value is one's only field, and its text is cut out.
        text = pl.struct(column.alias("value")).struct.json_encode()
        return pl.when(column.is_not_null()).then(text.str.strip_prefix('{"value":').str.strip_suffix("}"))
    if isinstance(dtype, pl.Binary):
        return column.bin.encode("hex")
    if isinstance(dtype, pl.Datetime):
        utc = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if dtype.time_zone else column
        return utc.cast(target)
    value = column if dtype == target else column.cast(target)
    return value.fill_nan(None) if target == pl.Float64 else value


def basic_type(dtype: pl.DataType) -> pl.DataType:
    """Returns the basic type that holds a polars type's values."""
    if dtype.is_integer() or isinstance(dtype, pl.Duration) or _is_whole(dtype):
        return pl.Int64()
    if dtype.is_numeric():
        return pl.Float64()
    if isinstance(dtype, pl.Datetime):
        return pl.Datetime("us")
    if isinstance(dtype, pl.Boolean | pl.Date):
        return dtype
    return pl.String()


def _is_whole(dtype: pl.DataType) -> bool:
    return isinstance(dtype, pl.Decimal) and not dtype.scale


def _may_be_long(dtype: pl.DataType) -> bool:
    return dtype in (pl.Int64, pl.UInt64, pl.Int128, pl.UInt128) or isinstance(dtype, pl.Decimal)
