"""What a kind of run gives the engine: its work on a batch of rows.

The engine does the rest. It cuts the files into parts, reads each part in batches, has the work done on every batch,
writes one Parquet file for each part, and publishes all of them together. A part that failed or was interrupted is
worked on again, so the work must give the same outcome for the same batch.

A kind of run consists of

- a model of its entity, which extends ``shared.models.run.Run``, and a group ``functions/<kind>s`` with its routes;
- a class that implements ``PartWork``;
- steps in ``functions/workflows/<kind>``, which hand the tasks and the ``PartWork`` to
  ``shared.runs.tasks.TaskWorker``, and begin and end the run with
  ``functions.workflows.batch_runs``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import polars as pl


@dataclass(frozen=True)
class Batch:
    """Rows that follow each other in one part. Blank lines are left out.

    ``rows`` are typed as the scan and trainings read them. ``records`` has the place of each row in its file, from 0.
    """

    rows: pl.DataFrame
    records: pl.Series
    file: str
    part: int


@dataclass(frozen=True)
class Refusal:
    """A row that gets no result. ``row`` is its index in the batch; few different reasons make a readable summary."""

    row: int
    reason: str
    column: str | None = None


@dataclass(frozen=True)
class BatchOutcome:
    """The result of a batch.

    ``table`` has the columns of the work's ``schema``, and one row for each row that was not refused, in their order.
    ``counts`` are numbers to add up over all batches of the run, such as offers by action. ``customers`` has
    ``customer``, in a form that can be compared, and ``record`` for each row of the table, if the table lacks them.
    """

    table: pl.DataFrame
    refused: Sequence[Refusal] = ()
    customers: pl.DataFrame | None = None
    counts: Mapping[str, float] = field(default_factory=dict)


class PartWork(Protocol):
    """The work of a kind of run."""

    @property
    def schema(self) -> pl.Schema:
        """Returns the columns of the output. They are the same for all parts, also for one without rows."""

    def columns(self, available: Sequence[str]) -> Sequence[str]:
        """Returns the columns to read, of those that a file has: the fewer, the faster."""

    def work(self, batch: Batch) -> BatchOutcome:
        """Returns the outcome of a batch. Raises JobFailedError for what no repetition mends."""
