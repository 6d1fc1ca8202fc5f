"""Stores the audit log: one row for each write of an entity, from the records of the table's stream.

Rows live under ``audit#<space>``, with a copy for each thing that they are asked for by; the sort key is the id of the
write, so that a repeated record makes the same row again. They disappear after the retention by their
``expires_at``.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial, reduce
from itertools import islice
from operator import and_
from typing import Any

from boto3.dynamodb.conditions import Attr, ConditionBase

from shared.clock import Clock
from shared.dynamodb.repository import cursor_id
from shared.dynamodb.table import Item, Key, Table
from shared.dynamodb.time_ordered_ids import ids_within, made_at
from shared.dynamodb.write_markers import REMOVAL, WRITE_MARKER, read_write_marker, removal_key
from shared.models.audit_log import AuditAction, AuditLog, AuditPage
from shared.models.base import Timestamp
from shared.secret_names import without_secrets

# An item before and after a write; None where it is not there.
ItemImages = tuple[Item | None, Item | None]
AuditRow = tuple[Key, Item]

# Values are kept up to so many characters of JSON.
VALUE_CHARACTERS = 1000
COUNTED_ROWS = 1000
# What every write changes, or what says nothing to a user: the place of an item, its stamp, its counter of versions.
_LEFT_OUT = {
    "PK",
    "SK",
    WRITE_MARKER,
    "id",
    "version",
    "updated_at",
    "updated_by",
    "expires_at",
    "active_uses",
    "pins",
    "pinned_revision",
    "secret_hash",
    "generation",
}
# Fields that hold what customers are and what was written about them. The log shows that they changed, but not their
# values, because it outlives an erasure.
_PERSONAL = {
    "argument": {"argument", "argument_thinking", "claims", "client", "insight_spec", "product", "review"},
    "argument_change": {"changes"},
    "argument_comment": {"text"},
    "insight": {"answer", "client_key", "features", "reaction"},
    "persona": {"birthdate", "data", "name", "notes"},
}
_ASKED_FOR = ("entity_id", "api_key_id", "actor", "entity")


@dataclass(frozen=True)
class AuditFilters:
    """Which rows: all of these must hold, each of the dates inclusive."""

    entity: str | None = None
    entity_id: str | None = None
    actor: str | None = None
    start_date: Timestamp | None = None
    end_date: Timestamp | None = None
    api_key_id: str | None = None

    @property
    def wanted(self) -> dict[str, str]:
        values = {name: getattr(self, name) for name in _ASKED_FOR}
        return {name: value for name, value in values.items() if value is not None}


class AuditLogs:
    def __init__(self, table: Table, clock: Clock, retention: timedelta) -> None:
        self._table = table
        self._clock = clock
        self._retention = retention

    def record(self, changes: Sequence[ItemImages]) -> None:
        """Stores the changes of items that are writes of entities, in their order."""
        removals = self._table.get_many([removal_key(before) for before, after in changes if before and not after])
        rows = {key: row for change in changes for key, row in self._rows_of(*change, removals)}
        self._table.put_all([{**key.values, **row} for key, row in rows.items()])

    def _rows_of(self, before: Item | None, after: Item | None, removals: Mapping[Key, Item]) -> Iterator[AuditRow]:
        """Yields the row of a change, and its copies. One of the images is needed."""
        item = after or before or {}
        kind, _, owner = item["PK"].partition("#")
        stamp = _stamp(before, after, removals)
        if stamp is None or owner.endswith("#hidden"):  # a membership of a deleted space, moved as it is
            return
        actor, api_key_id, write_id = read_write_marker(stamp)
        # A membership is filed under its user, and some things under what they belong to in the space.
        space_id, entity_id = (item["SK"], owner) if kind == "membership" else (owner.partition("#")[0], item["SK"])
        changed = _changed(before or {}, after or {})
        row = {
            "actor": actor,
            "api_key_id": api_key_id,
            "action": _action(before, after),
            "entity": kind,
            "entity_id": entity_id,
            "before": _as_text(before or {}, changed, kind, "before"),
            "after": _as_text(after or {}, changed, kind, "after"),
            "expires_at": int((made_at(write_id) + self._retention).timestamp()),
        }
        copies = (_partition(space_id, name, row[name]) for name in _ASKED_FOR if row[name])
        for partition in (f"audit#{space_id}", *copies):
            yield Key(partition, write_id), row

    def list_after(self, space_id: str, filters: AuditFilters, after: str, limit: int) -> AuditPage:
        """Returns the rows that match, newest first. Raises InvalidCursorError."""
        wanted, last = filters.wanted, cursor_id(after)
        # The narrowest partition; the other filters are checked row by row.
        narrowest = next(iter(wanted), None)
        pk = f"audit#{space_id}" if narrowest is None else _partition(space_id, narrowest, wanted[narrowest])
        others = {name: value for name, value in wanted.items() if name != narrowest}
        oldest = self._clock() - self._retention
        period = partial(ids_within, max(filters.start_date or oldest, oldest), filters.end_date)
        names = ("SK", *others)
        counted = list(self._table.query(pk, condition=period(), limit=COUNTED_ROWS + 1, attributes=names))
        count = sum(all(item.get(name) == value for name, value in others.items()) for item in counted[:COUNTED_ROWS])
        items = list(self._rows(pk, period(before=last), others, limit + 1))
        return AuditPage(
            count=count,
            data=[_load(item) for item in items[:limit]],
            has_more=len(items) > limit,
            count_capped=len(counted) > COUNTED_ROWS,
        )

    def _rows(self, pk: str, period: ConditionBase, others: dict[str, str], limit: int) -> Iterator[Item]:
        if not others:
            return self._table.query(pk, condition=period, limit=limit)
        conditions: list[ConditionBase] = [Attr(name).eq(value) for name, value in others.items()]
        return islice(self._table.query(pk, condition=period, filter=reduce(and_, conditions)), limit)


def _stamp(before: Item | None, after: Item | None, removals: Mapping[Key, Item]) -> str | None:
    """Returns the write marker of a change, or ``None`` if the change is no write of an entity."""
    if after is None:
        found = removals.get(removal_key(before or {}))
        return found[REMOVAL] if found else None
    stamp: str | None = after.get(WRITE_MARKER)
    # A membership returns to its place, with its last write, when its space is restored.
    is_written = before.get(WRITE_MARKER) != stamp if before else after.get("version", 1) == 1
    return stamp if is_written else None


def _partition(space_id: str, name: str, value: str) -> str:
    return f"audit#{space_id}#{name}#{value}"


def _changed(before: Item, after: Item) -> list[str]:
    names = sorted({*before, *after} - _LEFT_OUT)
    return [name for name in names if before.get(name) != after.get(name)]


def _action(before: Item | None, after: Item | None) -> AuditAction:
    """Returns the action of a change. Some entities are deleted by a mark on them."""
    if before is None:
        return AuditAction.DELETED if "deleted_at" in (after or {}) else AuditAction.CREATED
    if after is None:
        return AuditAction.DELETED
    was, is_ = "deleted_at" in before, "deleted_at" in after
    if was == is_:
        return AuditAction.UPDATED
    return AuditAction.DELETED if is_ else AuditAction.RESTORED


def _as_text(item: Item, names: list[str], kind: str, when: str) -> str:
    """Returns the value as JSON text, because numbers and nesting may exceed DynamoDB's limits."""
    personal = _PERSONAL.get(kind, set())
    shown = without_secrets({name: item[name] for name in names if name in item and name not in personal})
    hidden = {name: f"[personal data {when} the change]" for name in names if name in item and name in personal}
    return json.dumps({**{name: _bounded(value) for name, value in shown.items()}, **hidden}, ensure_ascii=False)


def _bounded(value: Any) -> Any:
    text = json.dumps(value, ensure_ascii=False)
    return value if len(text) <= VALUE_CHARACTERS else f"{text[:VALUE_CHARACTERS]}…"


def _load(item: Item) -> AuditLog:
    write_id = item["SK"]
    images = {name: json.loads(item[name]) for name in ("before", "after")}
    return AuditLog.model_validate({**item, **images, "id": write_id, "created_at": made_at(write_id)})
