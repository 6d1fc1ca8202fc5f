"""Finds the rows of a run that are about a customer of an earlier row. The first row counts.

Rows of all parts are compared, on the disk: memory holds one part, a share of the customers, and a bit for each row.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from shared.models.run import DuplicateCustomer, PartResult, RunTask
from shared.scratch import scratch_folder

# Shares of the customers, each of which is compared on its own.
SHARES = 64
# A customer as two hashes: 128 bits differ between two customers for sure enough.
_ENTRY = np.dtype([("one", np.uint64), ("two", np.uint64), ("row", np.int64)])
Entries = npt.NDArray[Any]


@dataclass(frozen=True)
class Repeats:
    """Which of all rows are the first ones of their customers, and some of the others."""

    is_first: npt.NDArray[np.bool_]
    shown: list[DuplicateCustomer]

    @property
    def rows(self) -> int:
        return int((~self.is_first).sum())


def find_repeats(
    parts: Sequence[PartResult], tasks: Sequence[RunTask], read: Callable[[int], pl.DataFrame], shown: int
) -> Repeats:
    """Returns the repeats among the rows of parts in their order.

    ``read`` returns the ``customer`` and the ``record`` of each row of a part. A row without a customer repeats nobody.
    """
    starts = np.cumsum([0, *(part.rows_written for part in parts)])
    is_first = np.ones(int(starts[-1]), dtype=np.bool_)
    pairs: list[tuple[int, int]] = []
    with scratch_folder() as folder:
        _share_out((read(part.number)["customer"] for part in parts), folder)
        for share in range(SHARES):
            rows, firsts = _repeated(np.fromfile(folder / str(share), _ENTRY))
            is_first[rows] = False
            few = np.argsort(rows)[:shown]
            pairs = sorted([*pairs, *zip(rows[few].tolist(), firsts[few].tolist(), strict=True)])[:shown]
    files = {part.number: task.file.label for task in tasks for part in task.parts}
    records = cache(lambda number: read(number)["record"])

    def place(row: int) -> tuple[str, int]:
        at = int(np.searchsorted(starts, row, side="right")) - 1
        number = parts[at].number
        return files[number], int(records(number)[row - int(starts[at])]) + 1

    places = [(*place(row), *place(first)) for row, first in pairs]
    return Repeats(
        is_first,
        [DuplicateCustomer(file=file, row=row, first_file=first, first_row=at) for file, row, first, at in places],
    )


def _share_out(customers: Iterator[pl.Series], folder: Path) -> None:
    """Writes the customers of all rows to the files of their shares."""
    with ExitStack() as stack:
        files = [stack.enter_context((folder / str(share)).open("wb")) for share in range(SHARES)]
        row = 0
        for each in customers:
            entries = np.empty(len(each), _ENTRY)
            entries["one"], entries["two"] = each.hash(seed=1).to_numpy(), each.hash(seed=2).to_numpy()
            entries["row"] = np.arange(row, row + len(each))
            row += len(each)
            entries = entries[each.is_not_null().to_numpy()]
            shares = entries["one"] % SHARES
            order = np.argsort(shares, kind="stable")
            ends = np.searchsorted(shares[order], np.arange(SHARES + 1))
            for file, start, end in zip(files, ends[:-1], ends[1:], strict=True):
                entries[order[start:end]].tofile(file)


def _repeated(entries: Entries) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Returns the rows that are not the first ones of their customers, and the first one of each."""
    found = entries[np.lexsort((entries["row"], entries["two"], entries["one"]))]
    is_same = (found["one"][1:] == found["one"][:-1]) & (found["two"][1:] == found["two"][:-1])
    others = np.flatnonzero(is_same) + 1
    begin = np.arange(len(found))
    begin[others] = 0
    begin = np.maximum.accumulate(begin)
    return found["row"][others], found["row"][begin[others]]
