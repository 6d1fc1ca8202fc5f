"""Inference logs in a table of their own: rows by time, found again by user, model, tag and correlation id.

Rows live under ``PK = "log#<space>#<shard>"`` and ``SK = <id>``; indexes hold them by user, model and correlation id,
and a copy for each tag by tag. Calls of one time would all meet in one partition, so their ids spread them over
``SHARDS`` of them, and lists merge what each shard holds. Prompts and answers lie apart, each call's under a key of its
own. How many there are, and where a page begins, is read from rollups (``log_rollups``), which follow the rows by a
moment: the last minutes are therefore always read from the rows.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial, reduce
from heapq import merge
from itertools import chain, groupby, islice
from math import isqrt
from operator import and_, itemgetter
from typing import Any

from boto3.dynamodb.conditions import Attr, ConditionBase
from boto3.dynamodb.conditions import Key as KeyCondition

from shared.clock import Clock
from shared.dynamodb.codec import encode_item
from shared.dynamodb.table import Item, Key, Table, Write
from shared.dynamodb.time_ordered_ids import MILLISECOND, id_prefix, made_at, milliseconds, time_of
from shared.inference_logs.rollups import (
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
)
from shared.models.base import Page
from shared.models.inference_log import (
    MAX_NAME_LENGTH,
    MAX_TAGS,
    CallStatus,
    InferenceLog,
    InferenceSummary,
    LogFilters,
)

# One partition takes 1,000 write units a second; each page asks them all.
SHARDS = 4
# Prompts, answers and errors are kept up to this many characters.
TEXT_LIMIT = 2_000
# Rollups are at most this late.
LAG = timedelta(minutes=2)
# Reading this many rows costs no more than reading a finer level of rollups.
ROWS_AT_ONCE = 300
# One wanted row in so many is few enough to look for each, rather than to read the ones around it.
SPARSE = 20
PARALLEL_READS = 8
END_OF_TIME = 2**48 - 1
_TEXTS = ("prompt", "answer")
# What summaries look at: a busy space's last minutes are many rows.
_ADDED_UP = (
    *("SK", "user", "tags", "model", "type", "status"),
    *("input_tokens", "output_tokens", "total_tokens", "latency_ms"),
)
_NOT_IN_ROWS = {"id", "created_at", *_TEXTS}


@dataclass(frozen=True)
class _Question:
    """What is asked for: calls from ``start`` to before ``end``, and the partitions to read their rows from."""

    filters: LogFilters
    start: int
    end: int
    selected: Slice
    partitions: Sequence[str]
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
        """Returns conditions on rows and rollups that the partition does not ensure."""
        wanted = {"type": self.filters.type, "status": self.filters.status, "model": self.filters.model}
        conditions: list[ConditionBase] = [Attr(name).eq(value) for name, value in wanted.items() if value is not None]
        return reduce(and_, conditions) if conditions else None

    def reads(self, model: str) -> bool:
        """Returns whether rows of the model lie in the partitions, wanted or not."""
        return self.index != "by_model" or model == self.filters.model

    @property
    def wants_all(self) -> bool:
        """Returns whether all rows of the partitions in the period are wanted."""
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


@dataclass(frozen=True)
class _Newest:
    """The newest rows of a period; all of those from ``since`` on."""

    rows: Sequence[Item] = ()
    since: int = END_OF_TIME

    def within(self, stretch: Stretch) -> list[Item] | None:
        """Returns the rows of a stretch, or None where some may be missing."""
        if stretch.start < self.since:
            return None
        return [row for row in self.rows if stretch.start <= time_of(row["SK"]) < stretch.end]


class InferenceLogs:
    """The calls of all spaces, each kept for ``retention``."""

    def __init__(self, table: Table, clock: Clock, retention: timedelta) -> None:
        self.rollups = Rollups(table, retention)
        self._table = table
        self._clock = clock
        self._retention = retention
        self._readers = ThreadPoolExecutor(PARALLEL_READS)

    def record(self, space_id: str, log: InferenceLog) -> None:
        """Stores a call. Its id, a UUIDv7, says when it was made; ``created_at`` follows from it.

        Long texts and names are cut, and so are tags beyond ``MAX_TAGS``. Repeating it changes nothing.
        """
        self._table.put_all(self.items(space_id, log))

    def actions(self, space_id: str, log: InferenceLog) -> list[Write]:
        """Returns the writes of ``record``, for a transaction with other writes, also in another table."""
        return [
            Write("Put", {"TableName": self._table.name, "Item": encode_item(item)})
            for item in self.items(space_id, log)
        ]

    def items(self, space_id: str, log: InferenceLog) -> list[Item]:
        """Returns the items of a call: its row, which is counted, a copy for each tag, and its texts."""
        user, model, correlation_id = (text[:MAX_NAME_LENGTH] for text in (log.user, log.model, log.correlation_id))
        tags = list(dict.fromkeys(tag[:MAX_NAME_LENGTH] for tag in log.tags))[:MAX_TAGS]
        expires_at = (time_of(log.id) + self._retention // MILLISECOND) // 1000 + 1
        texts = {name: text[:TEXT_LIMIT] for name in _TEXTS if (text := getattr(log, name)) is not None}
        values = {name: getattr(log, name) for name in InferenceLog.model_fields if name not in _NOT_IN_ROWS}
        values |= {
            "SK": log.id,
            "user": user,
            "model": model,
            "correlation_id": correlation_id,
            "tags": tags,
            "latency_ms": round(log.latency_ms * 1000) / 1000,
            "error": log.error and log.error[:TEXT_LIMIT],
            "has_texts": bool(texts) or None,
            "expires_at": expires_at,
        }

        def found_by(tag: str | None) -> Item:
            partitions = {
                "PK": _by_time(space_id) if tag is None else _by_tag(space_id, tag),
                "by_user": _by_name("log_user", space_id, user, tag),
                "by_model": _by_name("log_model", space_id, model, tag),
            }
            return {name: _sharded(partition, log.id) for name, partition in partitions.items()}

        row = {**values, **found_by(None), "by_correlation": _by_correlation(space_id, correlation_id)}
        copies = [{**values, **found_by(tag)} for tag in tags]
        beside = [{**_texts_key(space_id, log.id).values, **texts, "expires_at": expires_at}] if texts else []
        return [row, *copies, *beside]

    def remove_all(self, space_id: str) -> None:
        """Removes all calls of a space that is gone; safe to repeat.

        Rollups of users and tags whose calls have all expired already do so themselves within a day.
        """
        for partition in _shards(_by_time(space_id)):
            while rows := list(self._table.query(partition, limit=ROWS_AT_ONCE)):
                copies = {
                    Key(_sharded(_by_tag(space_id, tag), row["SK"]), row["SK"]) for row in rows for tag in row["tags"]
                }
                texts = {_texts_key(space_id, row["SK"]) for row in rows if row.get("has_texts")}
                rollups = {key for key, _, _ in self.rollups.sums(space_id, rows)}
                self._table.delete_all([*copies, *texts, *rollups])
                self._table.delete_all([Key(partition, row["SK"]) for row in rows])
        overall = Slice(space_id).partition("log_rollup")
        self._table.delete_all([Key(overall, item["SK"]) for item in self._table.query(overall, attributes=("SK",))])

    def page(self, space_id: str, filters: LogFilters, page: int, page_size: int) -> Page[InferenceLog]:
        """Returns the ``page``-th ``page_size`` calls, newest first, and how many there are."""
        question = self._question(space_id, filters)
        skip = (page - 1) * page_size
        if question.wants_all and skip <= ROWS_AT_ONCE:
            newest = self._newest(question, skip + page_size + 1)
            parts = self._parts(question, self._stretches(question), newest=newest)
            rows = list(newest.rows[skip:])
        else:
            parts = self._parts(question, self._stretches(question))
            # Not by the readers: each of these waits for some of them.
            with ThreadPoolExecutor(PARALLEL_READS) as pool:
                rows = self._pick(question, parts, skip, page_size + 1, pool.map)
        return Page(
            count=sum(part.wanted for part in parts),
            data=self._load(space_id, rows[:page_size]),
            has_more=len(rows) > page_size,
        )

    def summary(self, space_id: str, filters: LogFilters) -> InferenceSummary:
        """Returns the sums of a period's calls. Without dates the period is the whole retention."""
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
        start = milliseconds(self._clock() - self._retention, up=True)
        if filters.start_date is not None:
            start = max(start, milliseconds(filters.start_date, up=True))
        end = END_OF_TIME if filters.end_date is None else milliseconds(filters.end_date) + 1
        user, model, tag = filters.user, filters.model, filters.tag
        index = None
        if filters.correlation_id is not None:
            partitions, index = [_by_correlation(space_id, filters.correlation_id)], "by_correlation"
        elif user is not None:
            partitions, index = _shards(_by_name("log_user", space_id, user, tag)), "by_user"
        elif model is not None:
            partitions, index = _shards(_by_name("log_model", space_id, model, tag)), "by_model"
        else:
            partitions = _shards(_by_time(space_id) if tag is None else _by_tag(space_id, tag))
        return _Question(filters, start, max(start, end), Slice(space_id, user, tag), partitions, index)

    def _stretches(self, question: _Question) -> list[Stretch]:
        """Returns the period, newest first: rows where rollups may be late or lack the filter, else rollups."""
        start, end = question.start, question.end
        if question.filters.correlation_id is not None:
            return [Stretch(start, end, None)]
        horizon = max(start, MINUTE.floor(milliseconds(self._clock() - LAG)))
        if end <= horizon:
            return cover(start, end)
        return [Stretch(horizon, end, None), *cover(start, horizon)]

    def _cells(self, question: _Question, stretch: Stretch) -> Iterator[Cell]:
        if stretch.level is not None:
            return self.rollups.cells(question.selected, stretch)
        rows = self._rows(question, stretch.start, stretch.end, attributes=_ADDED_UP)
        return (cell_of(row) for row in rows if question.accepts_row(row))

    def _rows(
        self,
        question: _Question,
        start: int,
        end: int,
        *,
        limit: int | None = None,
        filter: ConditionBase | None = None,
        attributes: Sequence[str] = (),
    ) -> Iterator[Item]:
        """Returns the rows of a period in the partitions, newest first, wanted or not unless ``filter`` says so."""
        if start >= end:
            return iter(())
        first, *others = question.partitions
        page_size = limit if limit is None or not others else _share(limit)

        def read(partition: str) -> Iterator[Item]:
            rows = self._table.query(
                partition,
                condition=_within(start, end),
                index=question.index,
                filter=filter,
                page_size=page_size,
                attributes=attributes,
            )
            return chain(list(islice(rows, 1)), rows)

        begun = [self._readers.submit(read, each) for each in others]
        shards = [read(first), *(each.result() for each in begun)]
        return islice(merge(*shards, key=itemgetter("SK"), reverse=True), limit)

    def _newest(self, question: _Question, limit: int) -> _Newest:
        rows = list(self._rows(question, question.start, question.end, limit=limit))
        return _Newest(rows, question.start if len(rows) < limit else time_of(rows[-1]["SK"]) + 1)

    def _parts(
        self,
        question: _Question,
        stretches: Sequence[Stretch],
        *,
        sparse: bool = False,
        newest: _Newest = _Newest(),
    ) -> list[_Part]:
        """Returns the buckets of a period.

        Of a ``sparse`` one only those with wanted rows, to be searched one by one.
        """
        parts: list[_Part] = []
        for stretch in stretches:
            level = stretch.level
            if level is None:
                parts.append(self._part_of_rows(question, stretch, newest))
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

    def _part_of_rows(self, question: _Question, stretch: Stretch, newest: _Newest) -> _Part:
        """Rows without a rollup: read if they are few, else only counted."""
        most = None if question.filters.correlation_id else ROWS_AT_ONCE
        read = newest.within(stretch)
        if read is None and not newest.rows:
            read = list(self._rows(question, stretch.start, stretch.end, limit=most))
        if read is None or len(read) == most:
            return self._counted(question, stretch)
        rows = [row for row in read if question.accepts_row(row)]
        return _Part(stretch.start, stretch.end, len(rows), len(read), rows=rows)

    def _counted(self, question: _Question, stretch: Stretch) -> _Part:
        count = partial(
            self._table.count,
            condition=_within(stretch.start, stretch.end),
            index=question.index,
            filter=question.condition,
        )
        counts = list(self._readers.map(count, question.partitions))
        return _Part(stretch.start, stretch.end, sum(found for found, _ in counts), sum(read for _, read in counts))

    def _pick(
        self,
        question: _Question,
        parts: Sequence[_Part],
        skip: int,
        need: int,
        each: Callable[..., Any] = map,
    ) -> list[Item]:
        """Returns the ``need`` wanted rows that follow the first ``skip``.

        Parts that hold none of them are not read.
        """
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
            question, part.start, part.end, limit=skip + need if all_wanted else None, filter=question.condition
        )
        return list(islice(filter(question.accepts_row, rows), skip, skip + need))

    def _load(self, space_id: str, rows: Sequence[Item]) -> list[InferenceLog]:
        found = self._table.get_many([_texts_key(space_id, row["SK"]) for row in rows if row.get("has_texts")])
        texts = {key.sk: {name: item.get(name) for name in _TEXTS} for key, item in found.items()}
        return [
            InferenceLog.model_validate(
                {**row, **texts.get(row["SK"], {}), "id": row["SK"], "created_at": made_at(row["SK"])}
            )
            for row in rows
        ]


def _joined(parts: Sequence[_Part]) -> list[_Part]:
    """Joins neighbours with few rows, so that one request reads them."""
    joined: list[_Part] = []
    for part in parts:
        last = joined[-1] if joined else None
        if last and last.rows is None and part.rows is None and last.read + part.read <= ROWS_AT_ONCE:
            joined[-1] = replace(last, start=part.start, wanted=last.wanted + part.wanted, read=last.read + part.read)
        else:
            joined.append(part)
    return joined


def _within(start: int, end: int) -> ConditionBase:
    condition: ConditionBase = KeyCondition("SK").between(id_prefix(start), f"{id_prefix(end - 1)}~")
    return condition


def _share(limit: int) -> int:
    """Returns how many rows of each shard nearly always contain the newest ``limit``: the mean and 2.3 deviations."""
    return limit // SHARDS + isqrt(limit) + 1


def _shards(partition: str) -> list[str]:
    return [f"{partition}#{shard}" for shard in range(SHARDS)]


def _sharded(partition: str, log_id: str) -> str:
    return _shards(partition)[int(log_id[-1], 16) % SHARDS]


def _texts_key(space_id: str, log_id: str) -> Key:
    return Key(f"log_text#{space_id}#{log_id}", log_id)


def _by_time(space_id: str) -> str:
    return f"log#{space_id}"


def _by_name(kind: str, space_id: str, name: str, tag: str | None) -> str:
    return Slice(space_id, name, tag).partition(kind)


def _by_tag(space_id: str, tag: str) -> str:
    return f"log_tag#{space_id}#{tag}"


def _by_correlation(space_id: str, correlation_id: str) -> str:
    return f"log_correlation#{space_id}#{correlation_id}"
