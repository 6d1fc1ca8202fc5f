"""Stores inference logs in their own table, and finds them by time, user, model, tag and correlation id.

Rows have the keys ``PK = "log#<space>#<shard>"`` and ``SK = <id>``. Indexes list them by user, model and correlation
id, and each tag has a copy. Rows are spread over ``SHARDS`` partitions, because one partition cannot take all writes
of a space; lists merge the shards. Each prompt with its completion is an item of its own. Counts and the beginnings of
pages come from ``rollups``. Rollups are updated later than rows, so the last minutes always come from the rows.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
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
from shared.dynamodb.table import Item, Key, Table, TransactionFailedError, Write, put
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
    CallType,
    InferenceLog,
    InferenceSummary,
    LogFilters,
)
from shared.space_binding import BoundThreads

# One partition takes only 1,000 write units a second, but every page must read all shards.
SHARDS = 4
# The most characters of a prompt, completion or error that are stored.
TEXT_LIMIT = 2_000
# The longest time after which a row is in the rollups.
LAG = timedelta(minutes=2)
# Reading this number of rows costs no more than reading a finer level of rollups.
ROWS_AT_ONCE = 300
# If fewer than one row in this number is wanted, looking for each wanted row is faster than reading all rows.
SPARSE = 20
PARALLEL_READS = 8
END_OF_TIME = 2**48 - 1
_TEXTS = ("prompt", "answer")
# The attributes that summaries need. They read only these, because the last minutes may have many rows.
_ADDED_UP = (
    *("SK", "user", "tags", "model", "type", "status"),
    *("input_tokens", "output_tokens", "total_tokens", "latency_ms"),
)
_NOT_IN_ROWS = {"id", "created_at", *_TEXTS}


@dataclass(frozen=True)
class _LogQuery:
    """A query for calls from ``start`` to before ``end``, with the partitions of their rows."""

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
        """Returns the condition on rows and rollups for filters that the partition does not apply."""
        wanted = {"type": self.filters.type, "status": self.filters.status, "model": self.filters.model}
        conditions: list[ConditionBase] = [Attr(name).eq(value) for name, value in wanted.items() if value is not None]
        return reduce(and_, conditions) if conditions else None

    def reads(self, model: str) -> bool:
        """Returns whether the partitions contain rows of the model."""
        return self.index != "by_model" or model == self.filters.model

    @property
    def wants_all(self) -> bool:
        """Returns whether the query wants all rows of the partitions in the period."""
        wanted = self.filters
        found_by_model = wanted.model is None or self.index == "by_model"
        return wanted.correlation_id is None and wanted.type is None and wanted.status is None and found_by_model


@dataclass(frozen=True)
class _Part:
    """A part of the period, with the number of wanted rows and the number of rows to read for them."""

    start: int
    end: int
    wanted: int
    read: int
    finer: Sequence[Level] = ()
    rows: Sequence[Item] | None = None


@dataclass(frozen=True)
class _Newest:
    """The newest rows of a period. They are complete from ``since`` on."""

    rows: Sequence[Item] = ()
    since: int = END_OF_TIME

    def within(self, stretch: Stretch) -> list[Item] | None:
        """Returns the rows of a stretch, or ``None`` if rows may be missing."""
        if stretch.start < self.since:
            return None
        return [row for row in self.rows if stretch.start <= time_of(row["SK"]) < stretch.end]


class InferenceLogs:
    """A store of the inference logs of all spaces. It keeps each log for ``retention``."""

    def __init__(self, table: Table, clock: Clock, retention: timedelta) -> None:
        self.rollups = Rollups(table, retention)
        self._table = table
        self._clock = clock
        self._retention = retention
        self._readers = BoundThreads(PARALLEL_READS)

    def record(self, space_id: str, log: InferenceLog) -> None:
        """Stores a call. The time of the call comes from its id, which is a UUIDv7.

        Long texts, long names and tags beyond ``MAX_TAGS`` are cut. The method can be repeated with the same log.
        """
        self._table.put_all(self.items(space_id, log))

    def record_unless_stored(self, space_id: str, log: InferenceLog) -> None:
        """Stores a call, unless it is stored: its sums may have been added already, so its row must not change."""
        row, *others = self.items(space_id, log)
        with suppress(TransactionFailedError):
            is_new = Attr("PK").not_exists()
            self._table.transact([put(_key(row), row, is_new), *(put(_key(item), item) for item in others)])

    def actions(self, space_id: str, log: InferenceLog) -> list[Write]:
        """Returns the writes of ``record``, for a transaction with other writes or another table."""
        return [
            Write("Put", {"TableName": self._table.name, "Item": encode_item(item)})
            for item in self.items(space_id, log)
        ]

    def items(self, space_id: str, log: InferenceLog) -> list[Item]:
        """Returns the items of a call: its row, a copy for each tag, and its texts."""
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
        """Removes all calls of a deleted space. The method can be repeated.

        Rollups without remaining calls expire within a day, so they are not removed here.
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

    def forget_texts(self, space_id: str, correlation_id: str, types: Collection[CallType]) -> int:
        """Removes the texts of the calls of a request, and returns their number. The rows and their numbers stay."""
        rows = self._table.query(_by_correlation(space_id, correlation_id), index="by_correlation")
        keys = [_texts_key(space_id, row["SK"]) for row in rows if row.get("has_texts") and row["type"] in types]
        if keys:
            self._table.delete_all(keys)
        return len(keys)

    def page(self, space_id: str, filters: LogFilters, page: int, page_size: int) -> Page[InferenceLog]:
        """Returns a page of calls, newest first, with the number of all calls."""
        query = self._log_query(space_id, filters)
        skip = (page - 1) * page_size
        if query.wants_all and skip <= ROWS_AT_ONCE:
            newest = self._newest(query, skip + page_size + 1)
            parts = self._parts(query, self._stretches(query), newest=newest)
            rows = list(newest.rows[skip:])
        else:
            parts = self._parts(query, self._stretches(query))
            # Not in ``_readers``, because each of these tasks waits for tasks in ``_readers``.
            with BoundThreads(PARALLEL_READS) as pool:
                rows = self._pick(query, parts, skip, page_size + 1, pool.map)
        return Page(
            count=sum(part.wanted for part in parts),
            data=self._load(space_id, rows[:page_size]),
            has_more=len(rows) > page_size,
        )

    def summary(self, space_id: str, filters: LogFilters) -> InferenceSummary:
        """Returns the sums of a period's calls. Without dates, the period is the whole retention time."""
        now = self._clock()
        end_date = filters.end_date or now
        cells = list(self.cells(space_id, replace(filters, end_date=end_date)))
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

    def cells(self, space_id: str, filters: LogFilters) -> Iterator[Cell]:
        """Yields the sums of the matching calls by time, model, type and status, the newest first."""
        query = self._log_query(space_id, filters)
        for stretch in self._stretches(query):
            for cell in self._cells(query, stretch):
                if query.accepts(cell.type, cell.status, cell.model):
                    yield cell

    def _log_query(self, space_id: str, filters: LogFilters) -> _LogQuery:
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
        return _LogQuery(filters, start, max(start, end), Slice(space_id, user, tag), partitions, index)

    def _stretches(self, query: _LogQuery) -> list[Stretch]:
        """Returns the stretches of the period, newest first.

        A stretch has no level if its rollups may be late or do not support the filter.
        """
        start, end = query.start, query.end
        if query.filters.correlation_id is not None:
            return [Stretch(start, end, None)]
        horizon = max(start, MINUTE.floor(milliseconds(self._clock() - LAG)))
        if end <= horizon:
            return cover(start, end)
        return [Stretch(horizon, end, None), *cover(start, horizon)]

    def _cells(self, query: _LogQuery, stretch: Stretch) -> Iterator[Cell]:
        if stretch.level is not None:
            return self.rollups.cells(query.selected, stretch)
        rows = self._rows(query, stretch.start, stretch.end, attributes=_ADDED_UP)
        return (cell_of(row) for row in rows if query.accepts_row(row))

    def _rows(
        self,
        query: _LogQuery,
        start: int,
        end: int,
        *,
        limit: int | None = None,
        filter: ConditionBase | None = None,
        attributes: Sequence[str] = (),
    ) -> Iterator[Item]:
        """Returns the rows of a period in the query's partitions, newest first. Only ``filter`` restricts them."""
        if start >= end:
            return iter(())
        first, *others = query.partitions
        page_size = limit if limit is None or not others else _share(limit)

        def read(partition: str) -> Iterator[Item]:
            rows = self._table.query(
                partition,
                condition=_within(start, end),
                index=query.index,
                filter=filter,
                page_size=page_size,
                attributes=attributes,
            )
            return chain(list(islice(rows, 1)), rows)

        begun = [self._readers.submit(read, each) for each in others]
        shards = [read(first), *(each.result() for each in begun)]
        return islice(merge(*shards, key=itemgetter("SK"), reverse=True), limit)

    def _newest(self, query: _LogQuery, limit: int) -> _Newest:
        rows = list(self._rows(query, query.start, query.end, limit=limit))
        return _Newest(rows, query.start if len(rows) < limit else time_of(rows[-1]["SK"]) + 1)

    def _parts(
        self,
        query: _LogQuery,
        stretches: Sequence[Stretch],
        *,
        sparse: bool = False,
        newest: _Newest = _Newest(),
    ) -> list[_Part]:
        """Returns the parts of the stretches. For a ``sparse`` query, it returns only buckets with wanted rows."""
        parts: list[_Part] = []
        for stretch in stretches:
            level = stretch.level
            if level is None:
                parts.append(self._part_of_rows(query, stretch, newest))
                continue
            finer = LEVELS[LEVELS.index(level) + 1 :]
            found = self.rollups.cells(query.selected, stretch, query.condition if sparse else None)
            cells = (cell for cell in found if query.reads(cell.model))
            for start, group in groupby(cells, key=lambda cell: cell.start):
                read_count = wanted = 0
                for cell in group:
                    read_count += cell.totals.calls
                    wanted += cell.totals.calls if query.accepts(cell.type, cell.status, cell.model) else 0
                if sparse:
                    read_count = max(SPARSE * wanted, ROWS_AT_ONCE) + 1
                parts.append(_Part(start, start + level.width, wanted, read_count, finer))
        return parts

    def _part_of_rows(self, query: _LogQuery, stretch: Stretch, newest: _Newest) -> _Part:
        """Returns the part of a stretch without rollups: with its rows if they are few, or else only their number."""
        most = None if query.filters.correlation_id else ROWS_AT_ONCE
        read = newest.within(stretch)
        if read is None and not newest.rows:
            read = list(self._rows(query, stretch.start, stretch.end, limit=most))
        if read is None or len(read) == most:
            return self._counted(query, stretch)
        rows = [row for row in read if query.accepts_row(row)]
        return _Part(stretch.start, stretch.end, len(rows), len(read), rows=rows)

    def _counted(self, query: _LogQuery, stretch: Stretch) -> _Part:
        count = partial(
            self._table.count,
            condition=_within(stretch.start, stretch.end),
            index=query.index,
            filter=query.condition,
        )
        counts = list(self._readers.map(count, query.partitions))
        return _Part(stretch.start, stretch.end, sum(found for found, _ in counts), sum(read for _, read in counts))

    def _pick(
        self,
        query: _LogQuery,
        parts: Sequence[_Part],
        skip: int,
        need: int,
        each: Callable[..., Any] = map,
    ) -> list[Item]:
        """Returns ``need`` wanted rows after the first ``skip`` wanted rows. It reads only parts with such rows."""
        picked: list[tuple[_Part, int, int]] = []
        for part in _joined(parts):
            if part.wanted <= skip:
                skip -= part.wanted
            elif need > 0:
                taken = min(part.wanted - skip, need)
                picked.append((part, skip, taken))
                skip, need = 0, need - taken
        found = each(lambda one: self._pick_within(query, *one), picked)
        return [row for rows in found for row in rows]

    def _pick_within(self, query: _LogQuery, part: _Part, skip: int, need: int) -> list[Item]:
        if part.rows is not None:
            return list(part.rows[skip : skip + need])
        all_wanted = part.wanted == part.read
        if part.finer and part.read > ROWS_AT_ONCE and (skip > ROWS_AT_ONCE or not all_wanted):
            sparse = SPARSE * part.wanted < part.read
            finer = self._parts(query, cover(part.start, part.end, part.finer), sparse=sparse)
            return self._pick(query, finer, skip, need)
        rows = self._rows(
            query, part.start, part.end, limit=skip + need if all_wanted else None, filter=query.condition
        )
        return list(islice(filter(query.accepts_row, rows), skip, skip + need))

    def _load(self, space_id: str, rows: Sequence[Item]) -> list[InferenceLog]:
        found = self._table.get_many([_texts_key(space_id, row["SK"]) for row in rows if row.get("has_texts")])
        texts = {key.sk: {name: item.get(name) for name in _TEXTS} for key, item in found.items()}
        return [
            InferenceLog.model_validate(
                {**row, **texts.get(row["SK"], {}), "id": row["SK"], "created_at": made_at(row["SK"])}
            )
            for row in rows
        ]


def _key(item: Item) -> Key:
    return Key(item["PK"], item["SK"])


def _joined(parts: Sequence[_Part]) -> list[_Part]:
    """Joins adjacent parts with few rows, so that one request reads them."""
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
    """Returns the number of rows to read from each shard for the newest ``limit`` rows.

    It is the mean plus 2.3 standard deviations, so one read per shard is almost always enough.
    """
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
