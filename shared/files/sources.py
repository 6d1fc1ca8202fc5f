"""What all readers of files have in common."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl

from shared.files.column_types import SAMPLE_ROWS, col
from shared.files.errors import UnreadableFileError
from shared.files.formats import PlainFile
from shared.files.notes import ReadNotes

POLARS_ERRORS = (pl.exceptions.PolarsError, pl.exceptions.PanicException)
# Cells from which types are guessed.
SAMPLE_CELLS = 2_000_000
# Of a stream, so many are in memory.
WINDOW_ROWS = 100_000
# The column with the place of each record in its file, from 0.
RECORD = "\nrecord"
_BLANK = "\nblank"

Query = Callable[[pl.LazyFrame], pl.LazyFrame]
Expressions = Callable[[pl.Schema], Sequence[pl.Expr]]


class Source(ABC):
    """A file that answers queries over its typed columns."""

    plain: PlainFile
    notes: ReadNotes

    @property
    def smaller_types(self) -> dict[str, pl.DataType]:
        """Returns the columns that a type of less memory holds as exactly as their basic one, with this type."""
        return {}

    @abstractmethod
    def aggregate(
        self, expressions: Expressions, columns: Sequence[str] | None = None
    ) -> tuple[dict[str, Any], pl.Schema]:
        """Returns one row of aggregates over all rows, blank ones too, and the columns' types.

        ``expressions`` makes the aggregates from the types of ``columns``, by default all. They may be made again when
        a guess about the file proves wrong. The notes are complete afterwards.
        """

    @abstractmethod
    def collect(self, query: Query) -> pl.DataFrame:
        """Runs a query over all rows, blank ones too, with polars' streaming engine."""

    @abstractmethod
    def frame(self) -> pl.LazyFrame:
        """Returns the lazy frame, after every guess about the file has been checked."""

    def stream(
        self, columns: Sequence[str], batch: int, *, first: int = 0, records: int | None = None
    ) -> Iterator[pl.DataFrame]:
        """Yields some columns of the records from ``first`` on, about ``batch`` records at a time, in their order.

        ``RECORD`` has the place of each. Rows that ``frame`` leaves out are left out. Raises UnreadableFileError.
        """
        try:
            yield from self._batches(self._records(columns), batch, first, records)
        except POLARS_ERRORS as error:
            raise UnreadableFileError("The file can't be read to its end. Write it again and upload it.") from error

    def _batches(self, rows: pl.LazyFrame, batch: int, first: int, records: int | None) -> Iterator[pl.DataFrame]:
        """Yields batches of some of the rows, with their places."""
        return _windows(rows, batch, first, records)

    def lines_of(self, records: Sequence[int]) -> list[int]:
        """Returns the lines, from 1, on which records begin. Their places rise."""
        return [record + 1 for record in records]

    def _records(self, columns: Sequence[str]) -> pl.LazyFrame:
        """Returns columns of all records; ``_BLANK`` marks those that ``frame`` leaves out, if there are any."""
        return self.frame().select(col(name) for name in columns)

    def batches(self) -> list[list[str] | None]:
        """Returns the columns that can be read in one query within bounded memory, batch after batch.

        None means all.
        """
        return [None]


class TextSource(Source):
    """A file of text, whose types and structure are guessed first and then checked on the whole file."""

    _is_verified: bool

    @abstractmethod
    def _all_typed(self) -> pl.LazyFrame:
        """Returns all columns under the present guesses."""

    def collect(self, query: Query) -> pl.DataFrame:
        """See Source."""
        self._verify()
        return query(self._all_typed()).collect(engine="streaming")

    def frame(self) -> pl.LazyFrame:
        """See Source. Columns without a value are text, and rows without one are left out."""
        frame, names = self._all_rows, list(self._all_rows.collect_schema())
        return frame.filter(~is_blank_row(names)) if self._has_blank_rows else frame

    def _records(self, columns: Sequence[str]) -> pl.LazyFrame:
        frame, names = self._all_rows, list(self._all_rows.collect_schema())
        blank = [is_blank_row(names).alias(_BLANK)] if self._has_blank_rows else []
        return frame.select(*(col(name) for name in columns), *blank)

    def _batches(self, rows: pl.LazyFrame, batch: int, first: int, records: int | None) -> Iterator[pl.DataFrame]:
        # Each window of a text would be searched from the beginning, so the rows are copied once.
        with TemporaryDirectory(dir=self.plain.path.parent, prefix="stream-") as folder:
            copy = Path(folder) / "rows.parquet"
            rows.slice(first, records).sink_parquet(copy, compression="lz4", row_group_size=WINDOW_ROWS)
            yield from _windows(pl.scan_parquet(copy, glob=False), batch, 0, None, first)

    @cached_property
    def _facts(self) -> tuple[dict[str, Any], pl.Schema]:
        return self.aggregate(
            lambda schema: [pl.len(), count_blank_rows(list(schema)), *(col(name).null_count() for name in schema)]
        )

    @property
    def _has_blank_rows(self) -> bool:
        return bool(self._facts[0]["\nblank rows"])

    @property
    def _all_rows(self) -> pl.LazyFrame:
        """Returns all rows. Columns without a value are text."""
        facts, schema = self._facts
        empty = [name for name in schema if facts[name] == facts["len"]]
        return self._all_typed().with_columns(col(name).cast(pl.String) for name in empty)

    def _verify(self) -> None:
        if not self._is_verified:
            # polars parses the columns of a query only.
            self.aggregate(lambda schema: [col(name).null_count() for name in schema])


def _windows(
    rows: pl.LazyFrame, batch: int, first: int, records: int | None, offset: int = 0
) -> Iterator[pl.DataFrame]:
    """Yields batches of rows, of which one window is in memory. ``offset`` is the place of the first row.

    ``collect_batches`` of polars would read ahead without a bound.
    """
    end = None if records is None else first + records
    for start in count(first, WINDOW_ROWS):
        size = WINDOW_ROWS if end is None else min(WINDOW_ROWS, end - start)
        if size <= 0:
            return
        window = rows.slice(start, size).with_row_index(RECORD, offset=offset + start).collect(engine="streaming")
        for some in window.iter_slices(batch):
            yield some.filter(~col(_BLANK)).drop(_BLANK) if _BLANK in some.columns else some
        if window.height < size:
            return


def is_blank_row(names: Sequence[str]) -> pl.Expr:
    """Returns an expression that is true for rows of nulls only."""
    return pl.all_horizontal(col(name).is_null() for name in names)


def count_blank_rows(names: Sequence[str]) -> pl.Expr:
    """Returns how many rows hold nothing but nulls.

    Counting them is cheap; filtering them away makes wide plans slow.
    """
    return is_blank_row(names).sum().alias("\nblank rows")


def sample_rows(columns: int) -> int:
    """Returns how many rows a sample of a table of so many columns has."""
    return max(100, min(SAMPLE_ROWS, SAMPLE_CELLS // max(1, columns)))
