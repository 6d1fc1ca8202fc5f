"""Reads Parquet files as columns of the basic types."""

from collections.abc import Sequence
from typing import Any

import polars as pl

from shared.files.column_names import unique_names
from shared.files.column_types import LARGEST_NUMBER, col, without_nulls
from shared.files.errors import UnreadableFileError
from shared.files.formats import PlainFile
from shared.files.limits import ReadLimits
from shared.files.notes import ReadNotes
from shared.files.parquet_footer import row_groups
from shared.files.sources import POLARS_ERRORS, Expressions, Query, Source, first_line
from shared.models.reading import ReadOptions, WarningCode

# Of a decoded value in memory: a number takes 8 bytes, a text's view 16.
VALUE_BYTES = 16
# pandas writes the rows' names under such names.
ROW_NUMBERS = ("__index_level_0__", "Unnamed: 0")


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
            raise self._unreadable(error) from error
        limits.check_columns(len(schema))
        self._columns = {
            name: (column, dtype)
            for (column, dtype), name in zip(schema.items(), unique_names(list(schema), limits), strict=True)
        }
        self._batch_width = max(1, limits.batch_bytes // max(1, rows * VALUE_BYTES + size // max(1, len(schema))))
        self._texts: set[str] = set()
        self._options = options
        self._inspect()

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
            raise self._unreadable(error) from error

    def collect(self, query: Query) -> pl.DataFrame:
        """See Source."""
        try:
            return query(self.frame()).collect(engine="streaming")
        except POLARS_ERRORS as error:
            raise self._unreadable(error) from error

    def frame(self) -> pl.LazyFrame:
        """See Source."""
        return pl.scan_parquet(self.plain.path, glob=False).select(
            self._value(name, column, dtype).alias(name) for name, (column, dtype) in self._columns.items()
        )

    def _inspect(self) -> None:
        """Finds numbers that are identifiers, binary columns that are text, and columns that number the rows."""
        numbers = {name: column for name, (column, dtype) in self._columns.items() if _may_be_long(dtype)}
        binary = {name: column for name, (column, dtype) in self._columns.items() if isinstance(dtype, pl.Binary)}
        raw = pl.scan_parquet(self.plain.path, glob=False)
        for name in ROW_NUMBERS:
            if name in self._columns and self._columns[name][1].is_integer():
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

    def _collected(self, frame: pl.LazyFrame) -> dict[str, Any]:
        try:
            return frame.collect(engine="streaming").row(0, named=True)
        except POLARS_ERRORS as error:
            raise self._unreadable(error) from error

    def _value(self, name: str, column: str, dtype: pl.DataType) -> pl.Expr:
        if name in self._texts:
            return col(column).cast(pl.String)
        value = as_basic(col(column), dtype)
        return without_nulls(value, self._options.nulls) if basic_type(dtype) == pl.String else value

    def _unreadable(self, error: BaseException) -> UnreadableFileError:
        return UnreadableFileError(
            f"The Parquet file is damaged or cut off ({first_line(error)}); write it again and upload it."
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
    return dtype in (pl.Int64, pl.UInt64, pl.Int128, pl.UInt128) or _is_whole(dtype)
