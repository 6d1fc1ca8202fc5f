"""Inference logs in a table of their own: rows by time, found again by user, model, tag and correlation id.

Rows live under ``PK = "log#<space>"`` and ``SK = <id>``; indexes hold them by user, model and correlation id, and a
copy for each tag by tag. How many there are, and where a page begins, is read from rollups (``log_rollups``), which
follow the rows by a moment: the last minutes are therefore always read from the rows.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import reduce
from itertools import groupby, islice
from operator import and_
from typing import Any

from boto3.dynamodb.conditions import Attr, ConditionBase
from boto3.dynamodb.conditions import Key as KeyCondition

from shared.aws.clock import Clock
from shared.models.base import Page
from shared.models.inference_log import (
    MAX_NAME_LENGTH,
    MAX_TAGS,
    CallStatus,
    InferenceLog,
    InferenceSummary,
    LogFilters,
)
from shared.store.codec import encode_item
from shared.store.log_rollups import (
    LEVELS,
    MINUTE,
    Cell,
    Level,
    Rollups,
    Slice,
    Stretch,
    Totals,
    cell_of,
    cover,
    id_prefix,
    time_of,
)
from shared.store.table import Action, Item, Key, Table

# Prompts, answers and errors are kept up to this many characters.
TEXT_LIMIT = 2_000
# Rollups are at most this late.
LAG = timedelta(minutes=2)
# Reading so many rows costs no more than looking up a finer level of rollups.
ROWS_AT_ONCE = 300
# One wanted row in so many is few enough to look for each, rather than to read the ones around it.
SPARSE = 20
PARALLEL_READS = 8
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
END_OF_TIME = 2**48 - 1


@dataclass(frozen=True)
class _Question:
    """What is asked for: calls from ``start`` to before ``end``, and the partition to read their rows from."""

    filters: LogFilters
    start: int
    end: int
    selected: Slice
    partition: str
    index: str | None

    def accepts(self, type: str, status: str, model: str) -> bool:
        wanted = self.filters
        return wanted.type in (None, type) and wanted.status in (None, status) and wanted.model in (None, model)

    def accepts_row(self, row: Item) -> bool:
        wanted = self.filters
        return (
            self.accepts(row["type"], row["status"], row["model"])
            and wanted.user in (None, row["user"])
            and (wanted.tag is None or wanted.tag in row["tags"])
        )

    @property
    def condition(self) -> ConditionBase | None:
        """What rows and rollups must say of themselves, where the partition does not tell."""
        wanted = {"type": self.filters.type, "status": self.filters.status, "model": self.filters.model}
        conditions: list[ConditionBase] = [Attr(name).eq(value) for name, value in wanted.items() if value is not None]
        return reduce(and_, conditions) if conditions else None

    def reads(self, model: str) -> bool:
        """Whether rows of the model lie in the partition, wanted or not."""
        return self.index != "by_model" or model == self.filters.model

    @property
    def wants_all(self) -> bool:
        """Whether all rows of the partition are wanted, as far as their time is right."""
        wanted = self.filters
        found_by_model = wanted.model is None or self.index == "by_model"
        return wanted.correlation_id is None and wanted.type is None and wanted.status is None and found_by_model


@dataclass(frozen=True)
class _Part:
    """A part of the period: how many rows of it are wanted, and how many must be read to get them."""

    start: int
    end: int
    wanted: int
    read: int
    finer: Sequence[Level] = ()
    rows: Sequence[Item] | None = None


class InferenceLogs:
    """The calls of all spaces, each kept for ``retention``."""

    def __init__(self, table: Table, clock: Clock, retention: timedelta) -> None:
        self.rollups = Rollups(table, retention)
        self._table = table
        self._clock = clock
        self._retention = retention

    def record(self, space_id: str, log: InferenceLog) -> None:
        """Store a call. Its id, a UUIDv7, says when it was made; ``created_at`` follows from it.

        Long texts and names are cut, and so are tags beyond ``MAX_TAGS``. Repeating it changes nothing.
        """
        self._table.put_all(self.items(space_id, log))

    def actions(self, space_id: str, log: InferenceLog) -> list[Action]:
        """What ``record`` writes, for a transaction with what the call led to, be it in another table."""
        return [
            Action("Put", {"TableName": self._table.name, "Item": encode_item(item)})
            for item in self.items(space_id, log)
        ]

    def items(self, space_id: str, log: InferenceLog) -> list[Item]:
        """What a call is stored as: its row, which is counted, and a copy for each tag."""
        user, model, correlation_id = (text[:MAX_NAME_LENGTH] for text in (log.user, log.model, log.correlation_id))
        tags = list(dict.fromkeys(tag[:MAX_NAME_LENGTH] for tag in log.tags))[:MAX_TAGS]
        expires_at = (time_of(log.id) + self._retention // MILLISECOND) // 1000 + 1
        values = {name: getattr(log, name) for name in InferenceLog.model_fields if name not in ("id", "created_at")}
        values |= {
            "SK": log.id,
            "user": user,
            "model": model,
            "correlation_id": correlation_id,
            "tags": tags,
            "latency_ms": round(log.latency_ms * 1000) / 1000,
            "prompt": log.prompt and log.prompt[:TEXT_LIMIT],
            "answer": log.answer and log.answer[:TEXT_LIMIT],
            "error": log.error and log.error[:TEXT_LIMIT],
            "expires_at": expires_at,
        }
        row = {
            **values,
            **_index_keys(space_id, user, model, None),
            "PK": f"log#{space_id}",
            "by_correlation": _by_correlation(space_id, correlation_id),
        }
        copies = [{**values, **_index_keys(space_id, user, model, tag), "PK": _by_tag(space_id, tag)} for tag in tags]
        return [row, *copies]

    def remove_all(self, space_id: str) -> None:
        """Remove all calls of a space that is gone; safe to repeat.

        Rollups of users and tags whose calls have all expired already do so themselves within a day.
        """
        partition = f"log#{space_id}"
        while rows := list(self._table.query(partition, limit=ROWS_AT_ONCE)):
            copies = {Key(_by_tag(space_id, tag), row["SK"]) for row in rows for tag in row["tags"]}
            rollups = {key for key, _, _ in self.rollups.sums(space_id, rows)}
            self._table.delete_all([*copies, *rollups])
            self._table.delete_all([Key(partition, row["SK"]) for row in rows])
        overall = Slice(space_id).partition("log_rollup")
        self._table.delete_all([Key(overall, item["SK"]) for item in self._table.query(overall, attributes=("SK",))])

    def page(self, space_id: str, filters: LogFilters, page: int, page_size: int) -> Page[InferenceLog]:
        """The ``page``-th ``page_size`` calls, newest first, and how many there are."""
        question = self._question(space_id, filters)
        parts = self._parts(question, self._stretches(question))
        skip = (page - 1) * page_size
        if question.wants_all and skip <= ROWS_AT_ONCE:
            rows = list(self._rows(question, question.start, question.end, limit=skip + page_size + 1))[skip:]
        else:
            with ThreadPoolExecutor(PARALLEL_READS) as pool:
                rows = self._pick(question, parts, skip, page_size + 1, pool.map)
        return Page(
            count=sum(part.wanted for part in parts),
            data=[_load(row) for row in rows[:page_size]],
            has_more=len(rows) > page_size,
        )

    def summary(self, space_id: str, filters: LogFilters) -> InferenceSummary:
        """The calls of a period added up; without dates the period is all that is kept, up to now."""
        now = self._clock()
        end_date = filters.end_date or now
        question = self._question(space_id, replace(filters, end_date=end_date))
        cells = [
            cell
            for stretch in self._stretches(question)
            for cell in self._cells(question, stretch)
            if question.accepts(cell.type, cell.status, cell.model)
        ]
        totals = sum((cell.totals for cell in cells), Totals())
        usage: dict[str, int] = {}
        for cell in cells:
            usage[cell.model] = usage.get(cell.model, 0) + cell.totals.calls
        succeeded = sum(cell.totals.calls for cell in cells if cell.status == CallStatus.SUCCESS)
        oldest = now - self._retention
        return InferenceSummary(
            total_calls=totals.calls,
            success_rate=succeeded / totals.calls if totals.calls else 0.0,
            avg_latency_ms=totals.latency_us / (1000 * totals.calls) if totals.calls else 0.0,
            input_tokens=totals.input_tokens,
            output_tokens=totals.output_tokens,
            total_tokens=totals.total_tokens,
            model_usage=dict(sorted(usage.items())),
            period_start_date=min(max(filters.start_date or oldest, oldest), end_date),
            period_end_date=end_date,
        )

    def _question(self, space_id: str, filters: LogFilters) -> _Question:
        start = _milliseconds(self._clock() - self._retention, up=True)
        if filters.start_date is not None:
            start = max(start, _milliseconds(filters.start_date, up=True))
        end = END_OF_TIME if filters.end_date is None else _milliseconds(filters.end_date) + 1
        user, model, tag = filters.user, filters.model, filters.tag
        index = None
        if filters.correlation_id is not None:
            partition, index = _by_correlation(space_id, filters.correlation_id), "by_correlation"
        elif user is not None:
            partition, index = _by_name("log_user", space_id, user, tag), "by_user"
        elif model is not None:
            partition, index = _by_name("log_model", space_id, model, tag), "by_model"
        else:
            partition = f"log#{space_id}" if tag is None else _by_tag(space_id, tag)
        return _Question(filters, start, max(start, end), Slice(space_id, user, tag), partition, index)

    def _stretches(self, question: _Question) -> list[Stretch]:
        """The period, newest first: rows where rollups may be late yet or don't know the filter, else rollups."""
        start, end = question.start, question.end
        if question.filters.correlation_id is not None:
            return [Stretch(start, end, None)]
        horizon = max(start, MINUTE.floor(_milliseconds(self._clock() - LAG)))
        if end <= horizon:
            return cover(start, end)
        return [Stretch(horizon, end, None), *cover(start, horizon)]

    def _cells(self, question: _Question, stretch: Stretch) -> Iterator[Cell]:
        if stretch.level is not None:
            return self.rollups.cells(question.selected, stretch)
        return (cell_of(row) for row in self._rows(question, stretch.start, stretch.end) if question.accepts_row(row))

    def _rows(
        self,
        question: _Question,
        start: int,
        end: int,
        *,
        limit: int | None = None,
        only: ConditionBase | None = None,
    ) -> Iterator[Item]:
        """The rows of a period in the partition, newest first, wanted or not unless ``only`` says so."""
        within = KeyCondition("SK").between(id_prefix(start), f"{id_prefix(end - 1)}~")
        if start >= end:
            return iter(())
        return self._table.query(question.partition, condition=within, limit=limit, index=question.index, only=only)

    def _parts(self, question: _Question, stretches: Sequence[Stretch], *, sparse: bool = False) -> list[_Part]:
        """The buckets of a period; of a ``sparse`` one only those with wanted rows, to be searched one by one."""
        parts: list[_Part] = []
        for stretch in stretches:
            level = stretch.level
            if level is None:
                read = list(self._rows(question, stretch.start, stretch.end))
                rows = [row for row in read if question.accepts_row(row)]
                parts.append(_Part(stretch.start, stretch.end, len(rows), len(read), rows=rows))
                continue
            finer = LEVELS[LEVELS.index(level) + 1 :]
            found = self.rollups.cells(question.selected, stretch, question.condition if sparse else None)
            cells = (cell for cell in found if question.reads(cell.model))
            for start, group in groupby(cells, key=lambda cell: cell.start):
                read_count = wanted = 0
                for cell in group:
                    read_count += cell.totals.calls
                    wanted += cell.totals.calls if question.accepts(cell.type, cell.status, cell.model) else 0
                if sparse:
                    read_count = max(SPARSE * wanted, ROWS_AT_ONCE) + 1
                parts.append(_Part(start, start + level.width, wanted, read_count, finer))
        return parts

    def _pick(
        self,
        question: _Question,
        parts: Sequence[_Part],
        skip: int,
        need: int,
        each: Callable[..., Any] = map,
    ) -> list[Item]:
        """The ``need`` wanted rows that follow the first ``skip``; parts that hold none of them are not read."""
        picked: list[tuple[_Part, int, int]] = []
        for part in _joined(parts):
            if part.wanted <= skip:
                skip -= part.wanted
            elif need > 0:
                taken = min(part.wanted - skip, need)
                picked.append((part, skip, taken))
                skip, need = 0, need - taken
        found = each(lambda one: self._pick_within(question, *one), picked)
        return [row for rows in found for row in rows]

    def _pick_within(self, question: _Question, part: _Part, skip: int, need: int) -> list[Item]:
        if part.rows is not None:
            return list(part.rows[skip : skip + need])
        all_wanted = part.wanted == part.read
        if part.finer and part.read > ROWS_AT_ONCE and (skip > ROWS_AT_ONCE or not all_wanted):
            sparse = SPARSE * part.wanted < part.read
            finer = self._parts(question, cover(part.start, part.end, part.finer), sparse=sparse)
            return self._pick(question, finer, skip, need)
        rows = self._rows(
            question, part.start, part.end, limit=skip + need if all_wanted else None, only=question.condition
        )
        return list(islice(filter(question.accepts_row, rows), skip, skip + need))


def _joined(parts: Sequence[_Part]) -> list[_Part]:
    """Neighbours of few rows become one, to be read at once."""
    joined: list[_Part] = []
    for part in parts:
        last = joined[-1] if joined else None
        if last and last.rows is None and part.rows is None and last.read + part.read <= ROWS_AT_ONCE:
            joined[-1] = replace(last, start=part.start, wanted=last.wanted + part.wanted, read=last.read + part.read)
        else:
            joined.append(part)
    return joined


def _load(row: Item) -> InferenceLog:
    created_at = EPOCH + time_of(row["SK"]) * MILLISECOND
    return InferenceLog.model_validate({**row, "id": row["SK"], "created_at": created_at})


def _milliseconds(time: datetime, *, up: bool = False) -> int:
    """Whole milliseconds since 1970, rounded down or up."""
    return -((EPOCH - time) // MILLISECOND) if up else (time - EPOCH) // MILLISECOND


def _by_name(kind: str, space_id: str, name: str, tag: str | None) -> str:
    return Slice(space_id, name, tag).partition(kind)


def _by_tag(space_id: str, tag: str) -> str:
    return f"log_tag#{space_id}#{tag}"


def _by_correlation(space_id: str, correlation_id: str) -> str:
    return f"log_correlation#{space_id}#{correlation_id}"


def _index_keys(space_id: str, user: str, model: str, tag: str | None) -> dict[str, str]:
    """Where the indexes hold a row, or its copy for a tag."""
    return {
        "by_user": _by_name("log_user", space_id, user, tag),
        "by_model": _by_name("log_model", space_id, model, tag),
    }
