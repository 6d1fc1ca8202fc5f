"""Adds up inference logs by day, hour and minute, so that summaries and page numbers do not need to read the logs.

A rollup item has the totals of one bucket of time for one model, type and status. Rollups are in one partition for
the whole space, one for each user, one for each tag, and one for each pair of user and tag. Times are milliseconds
since 1970, as in the ids of logs.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import timedelta
from itertools import product

from boto3.dynamodb.conditions import Attr, ConditionBase
from boto3.dynamodb.conditions import Key as KeyCondition

from shared.dynamodb.table import Item, Key, Table, TransactionFailedError, Write, put, update
from shared.dynamodb.time_ordered_ids import MILLISECOND, time_of

TRANSACTION_LIMIT = 100
# A stream repeats a row for at most a day.
MARKED = timedelta(days=3)


@dataclass(frozen=True)
class Level:
    """A width of buckets, in milliseconds."""

    name: str
    width: int

    def floor(self, time: int) -> int:
        return time - time % self.width

    def ceiling(self, time: int) -> int:
        return -(-time // self.width) * self.width


DAY, HOUR, MINUTE = Level("day", 86_400_000), Level("hour", 3_600_000), Level("minute", 60_000)
LEVELS = (DAY, HOUR, MINUTE)


@dataclass(frozen=True)
class Stretch:
    """The time from ``start`` to before ``end``, in whole buckets of ``level`` or, without a level, in single rows."""

    start: int
    end: int
    level: Level | None


def cover(start: int, end: int, levels: Sequence[Level] = LEVELS) -> list[Stretch]:
    """Returns stretches that cover a period, newest first. Wide buckets come in the middle, narrow ones at the ends."""
    if start >= end:
        return []
    if not levels:
        return [Stretch(start, end, None)]
    level, finer = levels[0], levels[1:]
    first, last = level.ceiling(start), level.floor(end)
    if first >= last:
        return cover(start, end, finer)
    return [*cover(last, end, finer), Stretch(first, last, level), *cover(start, first, finer)]


@dataclass(frozen=True)
class Slice:
    """The calls of a space that share rollups: all calls, or the calls of a user, a tag, or both."""

    space_id: str
    user: str | None = None
    tag: str | None = None

    def partition(self, kind: str) -> str:
        return f"{kind}#{self.space_id}#{json.dumps([self.user, self.tag], ensure_ascii=False)}"


@dataclass(frozen=True, slots=True)
class Totals:
    """The sums of calls. The latency is in whole microseconds, so that sums are exact in any order."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    latency_us: int = 0

    def __add__(self, other: "Totals") -> "Totals":
        return Totals(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))


@dataclass(frozen=True, slots=True)
class Cell:
    """The totals of one bucket, model, type and status, or of a single row."""

    start: int
    model: str
    type: str
    status: str
    totals: Totals


def cell_of(row: Item) -> Cell:
    """Returns the cell of a single row."""
    tokens = row["input_tokens"], row["output_tokens"], row["total_tokens"]
    totals = Totals(1, *tokens, latency_us=round(row["latency_ms"] * 1000))
    return Cell(time_of(row["SK"]), row["model"], row["type"], row["status"], totals)


class Rollups:
    """A store of the rollups of all spaces."""

    def __init__(self, table: Table, retention: timedelta) -> None:
        self._table = table
        self._retention = retention

    def cells(self, selected: Slice, stretch: Stretch, filter: ConditionBase | None = None) -> Iterator[Cell]:
        """Yields the totals of a stretch, newest bucket first. ``filter`` may use the model, type and status."""
        level = stretch.level
        if level is None:
            raise ValueError("a stretch without a level has no rollups")
        within = KeyCondition("SK").between(_bucket(level, stretch.start), _bucket(level, stretch.end))
        for item in self._table.query(selected.partition("log_rollup"), condition=within, filter=filter):
            totals = Totals(*(item[each.name] for each in fields(Totals)))
            yield Cell(int(item["SK"].split("#", 2)[1]), item["model"], item["type"], item["status"], totals)

    def add(self, space_id: str, rows: Sequence[Item]) -> None:
        """Counts each row exactly once, even if it arrives several times in different batches.

        The transaction that adds rows to the rollups also marks them, so that no other transaction counts them.
        """
        for chunk in _chunks(space_id, {row["SK"]: row for row in rows}.values()):
            while chunk:
                try:
                    additions = (update(key, says, add=asdict(more)) for key, says, more in self.sums(space_id, chunk))
                    self._table.transact([*(_mark(space_id, row) for row in chunk), *additions])
                except TransactionFailedError:
                    chunk = self._uncounted(space_id, chunk)
                else:
                    break

    def sums(self, space_id: str, rows: Iterable[Item]) -> Iterator[tuple[Key, Item, Totals]]:
        """Yields the key, the other attributes and the added sums of each rollup item of the rows."""
        totals: dict[Key, Totals] = defaultdict(Totals)
        described: dict[Key, Item] = {}
        for row in rows:
            cell = cell_of(row)
            for key, level in _places(space_id, row):
                totals[key] += cell.totals
                ends = (level.floor(cell.start) + level.width) // 1000
                described[key] = {
                    "model": cell.model,
                    "type": cell.type,
                    "status": cell.status,
                    "expires_at": ends + int(self._retention.total_seconds()),
                }
        for key in totals:
            yield key, described[key], totals[key]

    def _uncounted(self, space_id: str, rows: Sequence[Item]) -> list[Item]:
        marks = self._table.get_many([_mark_key(space_id, row) for row in rows])
        return [row for row in rows if _mark_key(space_id, row) not in marks]


def _bucket(level: Level, start: int) -> str:
    return f"{level.name}#{start:013d}"


def _mark_key(space_id: str, row: Item) -> Key:
    return Key(f"log_counted#{space_id}#{row['SK']}", row["SK"])


def _mark(space_id: str, row: Item) -> Write:
    """Returns the write of a row's mark. It is in its own partition, because the row's partition has many writes."""
    expires_at = (time_of(row["SK"]) + MARKED // MILLISECOND) // 1000
    return put(_mark_key(space_id, row), {"expires_at": expires_at}, Attr("PK").not_exists())


def _places(space_id: str, row: Item) -> Iterator[tuple[Key, Level]]:
    """Yields the keys and levels of a row's rollup items."""
    cell = cell_of(row)
    kind = f"{cell.type}#{cell.status}#{cell.model}"
    for user, tag, level in product((None, row["user"]), (None, *row["tags"]), LEVELS):
        selected = Slice(space_id, user, tag)
        yield Key(selected.partition("log_rollup"), f"{_bucket(level, level.floor(cell.start))}#{kind}"), level


def _chunks(space_id: str, rows: Iterable[Item]) -> Iterator[list[Item]]:
    """Yields chunks of rows that fit into one transaction. Similar rows stay together, because they share rollups."""
    chunk: list[Item] = []
    touched: set[Key] = set()
    for row in sorted(rows, key=lambda row: (row["user"], row["tags"], row["model"], row["SK"])):
        own = {key for key, _ in _places(space_id, row)}
        if chunk and len(chunk) + 1 + len(touched | own) > TRANSACTION_LIMIT:
            yield chunk
            chunk, touched = [], set()
        chunk.append(row)
        touched |= own
    if chunk:
        yield chunk
