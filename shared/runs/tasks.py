"""Works on the parts of a task: reads them in batches, has the kind's work done, and keeps the output of each part."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import polars as pl

from shared.connectors.downloads import ClientFactory, Downloads
from shared.errors import JobFailedError
from shared.files.errors import UnreadableFileError
from shared.files.formats import FileFormat
from shared.files.readers import NO_OPTIONS, opened
from shared.files.sources import RECORD, Source
from shared.models.reading import WarningCode
from shared.models.run import PARTS, SHOWN_REFUSED_ROWS, PartResult, RowRefusal, RunPart, RunPlan, RunTask
from shared.observability import logger
from shared.runs.plans import CUSTOMERS, Plans
from shared.runs.store import Runs
from shared.runs.work import Batch, PartWork, Refusal
from shared.scratch import scratch_folder

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# Rows that are in memory at the same time, besides the output of one part.
BATCH_ROWS = 25_000
_LEFT_OUT = "the line can't be read as a row"


@dataclass
class _OpenPart:
    """A part whose batches arrive."""

    part: RunPart
    tables: list[pl.DataFrame] = field(default_factory=list)
    customers: list[pl.DataFrame] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    refused_rows: list[RowRefusal] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    rows_read: int = 0
    started: float = field(default_factory=time.monotonic)

    def refuse(self, row: RowRefusal, rows: int = 1) -> None:
        self.refused[row.reason] += rows
        if len(self.refused_rows) < SHOWN_REFUSED_ROWS:
            self.refused_rows.append(row)


class TaskWorker:
    """Works on tasks of one run: ``run_id``, which may be a restart of the plan's. ``stop`` ends it after a part."""

    def __init__(
        self,
        plan: RunPlan,
        run_id: str,
        runs: Runs[Any],
        plans: Plans,
        s3: "S3Client",
        client: ClientFactory,
        stop: Event | None = None,
    ) -> None:
        self._plan = plan
        self._run_id = run_id
        self._runs = runs
        self._plans = plans
        self._s3 = s3
        self._client = client
        self._stop = stop or Event()

    def work_on(self, task: RunTask, work: PartWork) -> None:
        """Works on the parts of a task that are not finished. Safe to repeat.

        It ends early when the run has ended, or has refused too many rows. Raises JobFailedError for a file that can't
        be read, after noting it as the problem of each part that is left.
        """
        space_id, work_id = self._plan.space_id, self._plan.work_id
        finished = self._runs.finished(space_id, work_id, [part.number for part in task.parts])
        todo = [part for part in task.parts if part.number not in finished]
        if not todo or self._is_over():
            return
        try:
            with scratch_folder() as folder:
                [(_, path)] = Downloads(self._plan.access, self._client).files([task.file], folder)
                self._work_on_file(task, path, todo, work)
        except UnreadableFileError as error:
            self._note(todo, f"The file '{task.file.label}' can't be read: {error}")
            raise JobFailedError(f"The file '{task.file.label}' can't be read: {error}") from error
        except Exception as error:
            self._note(todo, str(error) if isinstance(error, JobFailedError) else type(error).__name__)
            raise

    def _work_on_file(self, task: RunTask, path: Path, todo: Sequence[RunPart], work: PartWork) -> None:
        options = task.file.read_options or NO_OPTIONS
        stated = FileFormat(task.file.format) if task.file.format else None
        with opened(path, stated, name=Path(task.file.key).name, options=options) as source:
            columns = work.columns(list(source.frame().collect_schema()))
            for some in _following_each_other(todo):
                for part in self._parts(source, columns, task, some, work):
                    # What is left of a run that has ended may be removed by now.
                    if self._runs.has_ended(self._plan.space_id, self._run_id):
                        return
                    self._finish(part, work, path.parent)
                    if self._is_over():
                        return

    def _parts(
        self, source: Source, columns: Sequence[str], task: RunTask, some: Sequence[RunPart], work: PartWork
    ) -> Iterator[_OpenPart]:
        """Yields each part when its last batch is worked on."""
        waiting = [_OpenPart(part) for part in some]
        if some[0].first == 0:
            _refuse_left_out(waiting[0], source, task)
        last = some[-1]
        records = None if last.records is None else last.first + last.records - some[0].first
        for rows in source.stream(columns, BATCH_ROWS, first=some[0].first, records=records):
            while rows.height:
                end = None if waiting[0].part.records is None else waiting[0].part.first + waiting[0].part.records
                count = rows.height if end is None else int((rows[RECORD] < end).sum())
                if count:
                    self._add(waiting[0], rows.head(count), source, task, work)
                    rows = rows.slice(count)
                if rows.height:
                    yield waiting.pop(0)
        yield from waiting

    def _add(self, part: _OpenPart, rows: pl.DataFrame, source: Source, task: RunTask, work: PartWork) -> None:
        records, name = rows[RECORD], task.file.label
        batch = Batch(rows.drop(RECORD), records, name, part.part.number)
        outcome = work.work(batch)
        if outcome.table.height + len(outcome.refused) != rows.height:
            raise AssertionError(
                f"{rows.height} rows came to {outcome.table.height} and {len(outcome.refused)} refused"
            )
        part.rows_read += rows.height
        part.tables.append(outcome.table)
        part.counts.update(outcome.counts)
        if outcome.customers is not None:
            part.customers.append(outcome.customers)
        self._refuse(part, batch, outcome.refused, source)

    def _refuse(self, part: _OpenPart, batch: Batch, refused: Sequence[Refusal], source: Source) -> None:
        shown = refused[: SHOWN_REFUSED_ROWS - len(part.refused_rows)]
        lines = source.lines_of([int(batch.records[each.row]) for each in shown])
        for each, line in zip(shown, lines, strict=True):
            part.refuse(RowRefusal(file=batch.file, line=line, column=each.column, reason=each.reason))
        part.refused.update(each.reason for each in refused[len(shown) :])

    def _finish(self, part: _OpenPart, work: PartWork, folder: Path) -> None:
        space_id, work_id, number = self._plan.space_id, self._plan.work_id, part.part.number
        table = pl.concat([work.schema.to_frame(), *part.tables]) if part.tables else work.schema.to_frame()
        if part.customers:
            self._keep(pl.concat(part.customers), number, CUSTOMERS, folder)
        size_bytes = self._keep(table, number, PARTS, folder)
        result = PartResult(
            number=number,
            rows_read=part.rows_read + part.refused[_LEFT_OUT],
            rows_written=table.height,
            seconds=round(time.monotonic() - part.started, 3),
            refused=dict(part.refused),
            refused_rows=part.refused_rows,
            counts=dict(part.counts),
            size_bytes=size_bytes,
        )
        self._runs.record(space_id, work_id, result)
        logger.info("a part is finished", extra={"part": number, "rows": part.rows_read, "seconds": result.seconds})

    def _keep(self, table: pl.DataFrame, number: int, folder: str, scratch: Path) -> int:
        """Stores what a folder has of a part. Returns its size."""
        path = scratch / "output.parquet"
        table.write_parquet(path, compression="zstd", statistics=True)
        size_bytes = path.stat().st_size
        key = self._plans.part_key(self._plan.space_id, self._plan.work_id, number, folder)
        with path.open("rb") as content:
            self._s3.put_object(Bucket=self._plans.bucket, Key=key, Body=content)
        path.unlink()
        return size_bytes

    def _is_over(self) -> bool:
        """Returns whether the parts that are left are of no use."""
        space_id = self._plan.space_id
        refused = self._runs.rows_refused(space_id, self._plan.work_id)
        return (
            self._stop.is_set() or refused > self._plan.max_refused_rows or self._runs.has_ended(space_id, self._run_id)
        )

    def _note(self, parts: Sequence[RunPart], problem: str) -> None:
        space_id, work_id = self._plan.space_id, self._plan.work_id
        numbers = [part.number for part in parts]
        finished = self._runs.finished(space_id, work_id, numbers)
        for number in numbers:
            if number not in finished:
                self._runs.note_problem(space_id, work_id, number, problem)


def _following_each_other(parts: Sequence[RunPart]) -> list[list[RunPart]]:
    """Returns the parts in groups without a gap."""
    groups: list[list[RunPart]] = []
    for part in parts:
        if groups and groups[-1][-1].number + 1 == part.number:
            groups[-1].append(part)
        else:
            groups.append([part])
    return groups


def _refuse_left_out(part: _OpenPart, source: Source, task: RunTask) -> None:
    """Counts the lines of a file that are no rows as refused ones of its first part."""
    left = source.notes.left_out_rows
    lines = [each.line for each in source.notes.warnings if each.code is WarningCode.ROW_LEFT_OUT]
    for line in lines[:left]:
        part.refuse(RowRefusal(file=task.file.label, line=line, reason=_LEFT_OUT))
    part.refused[_LEFT_OUT] += left - len(lines[:left])
    part.refused += Counter()
