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


def first_line(error: BaseException) -> str:
    """Returns the beginning of an error's text; polars may quote whole fields of the file in it."""
    return str(error)[:1000].strip().split("\n", 1)[0][:200]
