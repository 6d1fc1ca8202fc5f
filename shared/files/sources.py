"""What all readers of files have in common."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import polars as pl

from shared.files.column_types import SAMPLE_ROWS, col
from shared.files.formats import PlainFile
from shared.files.notes import ReadNotes

POLARS_ERRORS = (pl.exceptions.PolarsError, pl.exceptions.PanicException)
# Cells from which types are guessed.
SAMPLE_CELLS = 2_000_000

Query = Callable[[pl.LazyFrame], pl.LazyFrame]
Expressions = Callable[[pl.Schema], Sequence[pl.Expr]]


class Source(ABC):
    """A file that answers queries over its typed columns."""

    plain: PlainFile
    notes: ReadNotes

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
        facts, schema = self.aggregate(
            lambda schema: [pl.len(), count_blank_rows(list(schema)), *(col(name).null_count() for name in schema)]
        )
        empty = [name for name in schema if facts[name] == facts["len"]]
        frame = self._all_typed().with_columns(col(name).cast(pl.String) for name in empty)
        return frame.filter(~is_blank_row(list(schema))) if facts["\nblank rows"] else frame

    def _verify(self) -> None:
        if not self._is_verified:
            # polars parses the columns of a query only.
            self.aggregate(lambda schema: [col(name).null_count() for name in schema])


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
