"""Stores the audit log: one row for each write of an entity, from the records of the table's stream.

Rows live under ``audit#<space>``, with an entry in each list that they are asked for by; the sort key is the id of
the write, so that a repeated record makes no second row. A row is never written again. The rows of a space form a
chain (see ``chain``): ``audit#<space>#chain`` lists them in its order, and ``audit#<space>#head`` is its end. Rows
disappear after the retention by their ``expires_at``; the end stays.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import islice
from typing import Any

from boto3.dynamodb.conditions import Attr
from boto3.dynamodb.conditions import Key as KeyCondition

from shared.audit.chain import Link, problems
from shared.clock import Clock
from shared.dynamodb.repository import cursor_id
from shared.dynamodb.schemas import version_of
from shared.dynamodb.searches import search
from shared.dynamodb.table import Item, Key, Table, Write, put, repeat_on_conflict
from shared.dynamodb.time_ordered_ids import ids_within, made_at
from shared.dynamodb.write_markers import REMOVAL, WRITE_MARKER, read_write_marker, removal_key
from shared.models.audit_log import AuditAction, AuditLog, AuditPage, AuditProblem, AuditVerification
from shared.models.base import Timestamp
from shared.secret_names import without_secrets

# An item before and after a write; None where it is not there.
ItemImages = tuple[Item | None, Item | None]

# Values are kept up to so many characters of JSON.
VALUE_CHARACTERS = 1000
COUNTED_ROWS = 1000
# A transaction has at most 100 writes and 4 MB.
ROWS_AT_ONCE = 40
PROBLEMS_LIMIT = 100
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
# What the lists of rows are made for, the narrowest first. A key belongs to one actor, and an id has few rows.
_LISTS = (("entity_id",), ("api_key_id", "entity"), ("actor", "entity"), ("api_key_id",), ("actor",), ("entity",))


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
        spaces: dict[str, dict[str, Item]] = {}
        for change in changes:
            found = self._row_of(*change, removals)
            if found is not None:
                space_id, row = found
                spaces.setdefault(space_id, {}).setdefault(row["id"], row)
        for space_id, rows in spaces.items():
            waiting = list(rows.values())
            for start in range(0, len(waiting), ROWS_AT_ONCE):
                self._append(space_id, waiting[start : start + ROWS_AT_ONCE])

    def _append(self, space_id: str, rows: Sequence[Item]) -> None:
        """Appends the rows that the chain does not have. Then lists all of them, also after an earlier failure."""

        def step() -> list[Item]:
            keys = {Key(f"audit#{space_id}", row["id"]): row for row in rows}
            found = self._table.get_many([_head_key(space_id), *keys])
            head = found.pop(_head_key(space_id), None)
            links = [_end_of(head)]
            fresh = []
            for key in [each for each in keys if each not in found]:
                fresh.append(links[-1].append(keys[key]))
                links.append(Link.of(fresh[-1]))
            if fresh:
                self._table.transact(_append_writes(space_id, head, fresh, links[-1]))
            return [*found.values(), *fresh]

        recorded = repeat_on_conflict(step, "The audit log of the space is being written by others.")
        self._table.put_all([entry for row in recorded for entry in _entries(space_id, row)])

    def _row_of(self, before: Item | None, after: Item | None, removals: Mapping[Key, Item]) -> tuple[str, Item] | None:
        """Returns the space and the row of a change that is a write of an entity. One of the images is needed."""
        item = after or before or {}
        kind, _, owner = item["PK"].partition("#")
        stamp = _stamp(before, after, removals)
        if stamp is None or owner.endswith("#hidden"):  # a membership of a deleted space, moved as it is
            return None
        actor, api_key_id, write_id = read_write_marker(stamp)
        # A membership is filed under its user, and some things under what they belong to in the space.
        space_id, entity_id = (item["SK"], owner) if kind == "membership" else (owner.partition("#")[0], item["SK"])
        changed = _changed(before or {}, after or {})
        return space_id, {
            "id": write_id,
            "actor": actor,
            "api_key_id": api_key_id,
            "action": _action(before, after),
            "entity": kind,
            "entity_id": entity_id,
            "before": _as_text(before or {}, changed, kind, "before"),
            "after": _as_text(after or {}, changed, kind, "after"),
            "expires_at": int((made_at(write_id) + self._retention).timestamp()),
        }

    def list_after(self, space_id: str, filters: AuditFilters, after: str, limit: int) -> AuditPage:
        """Returns the rows that match, newest first. Raises InvalidCursorError."""
        wanted, last = filters.wanted, cursor_id(after)
        # The narrowest list; the other filters are checked row by row.
        listed = next((names for names in _LISTS if wanted.keys() >= set(names)), ())
        pk = _partition(space_id, listed, wanted) if listed else f"audit#{space_id}"
        others = {name: value for name, value in wanted.items() if name not in listed}
        oldest = self._clock() - self._retention
        period = partial(ids_within, max(filters.start_date or oldest, oldest), filters.end_date)
        read = partial(self._table.query, pk, attributes=("SK", *others))

        def matches(entry: Item) -> bool:
            return all(entry.get(name) == value for name, value in others.items())

        counted = list(read(condition=period(), limit=COUNTED_ROWS + 1))
        found = search(partial(read, condition=period(before=last)), matches, limit)
        return AuditPage(
            count=sum(map(matches, counted[:COUNTED_ROWS])),
            data=[_load(row) for row in self._rows(space_id, [item["SK"] for item in found.items])],
            has_more=found.has_more,
            next_after=found.next_after,
            count_capped=len(counted) > COUNTED_ROWS,
        )

    def _rows(self, space_id: str, ids: Sequence[str]) -> list[Item]:
        """Returns the rows that still exist, in this order."""
        keys = [Key(f"audit#{space_id}", each) for each in ids]
        found = self._table.get_many(keys)
        return [found[key] for key in keys if key in found]

    def chained(self, space_id: str, after: int, limit: int) -> list[Item]:
        """Returns the rows that follow in the chain, oldest first, without those that have expired."""
        entries = self._chain(space_id, after + 1, None, limit)
        return self._rows(space_id, [entry["id"] for entry in entries])

    def verify(self, space_id: str, after: int, known_hash: str | None, limit: int) -> AuditVerification:
        """Checks the rows that follow in the chain: that none was changed, added, moved, or removed before its time.

        ``known_hash`` is the hash that the row ``after`` had at an earlier check.
        """
        head_item = self._table.get(_head_key(space_id))
        head = _end_of(head_item)
        entries = self._chain(space_id, after, head.sequence, limit + 2)
        found = {row["id"]: row for row in self._rows(space_id, [entry["id"] for entry in entries])}
        listed = {int(entry["SK"]): found.get(entry["id"]) for entry in entries}
        before = listed.pop(after, None)
        known = Link.of(before) if before else Link(after, known_hash or "") if known_hash or not after else None
        has_more = len(listed) > limit
        places = list(listed)[:limit]
        rows = [row for place in places if (row := listed[place]) is not None and row.get("sequence") == place]
        right_places = {int(row["sequence"]) for row in rows}
        wrong = [_problem(place, "the row was removed") for place in places if place not in right_places]
        if before and known_hash not in (None, before["hash"]):
            wrong.append(_problem(after, "the row is not the one of the earlier check"))
        now = int(self._clock().timestamp())
        wrong += problems(rows, known, now)
        end = Link.of(rows[-1]) if rows else known
        if not has_more and (after > head.sequence or (head.expires_at > now and end != head)):
            wrong.append(_problem(head.sequence, "the chain does not end with the last row that was recorded"))
        return AuditVerification(
            is_intact=not wrong,
            checked=len(rows),
            first=places[0] if places else None,
            last=places[-1] if places else None,
            hash=end.hash if end and end.sequence else None,
            has_more=has_more,
            problems=wrong[:PROBLEMS_LIMIT],
        )

    def _chain(self, space_id: str, first: int, last: int | None, limit: int) -> list[Item]:
        """Returns the entries of a part of the chain, without those of rows that have expired."""
        places = KeyCondition("SK").between(_place(first), "~" if last is None else _place(last))
        kept = Attr("expires_at").gt(int(self._clock().timestamp()))
        if last is not None and last < first:
            return []
        found = self._table.query(f"audit#{space_id}#chain", condition=places, newest_first=False, filter=kept)
        return list(islice(found, limit))


def _stamp(before: Item | None, after: Item | None, removals: Mapping[Key, Item]) -> str | None:
    """Returns the write marker of a change, or ``None`` if the change is no write of an entity."""
    if after is None:
        found = removals.get(removal_key(before or {}))
        return found[REMOVAL] if found else None
    stamp: str | None = after.get(WRITE_MARKER)
    # A membership returns to its place, with its last write, when its space is restored.
    is_written = before.get(WRITE_MARKER) != stamp if before else after.get("version", 1) == 1
    return stamp if is_written else None


def _append_writes(space_id: str, head: Item | None, rows: Sequence[Item], end: Link) -> list[Write]:
    """Returns the writes of new rows. They fail with TransactionFailedError if another writer was faster."""
    unchanged = Attr("sequence").eq(head["sequence"]) if head else Attr("PK").not_exists()
    absent = Attr("PK").not_exists()
    values = {"sequence": end.sequence, "hash": end.hash, "last_expires_at": end.expires_at}
    writes = [put(_head_key(space_id), values, unchanged)]
    for row in rows:
        place = Key(f"audit#{space_id}#chain", _place(row["sequence"]))
        writes.append(put(Key(f"audit#{space_id}", row["id"]), row, absent))
        writes.append(put(place, {"id": row["id"], "expires_at": row["expires_at"]}, absent))
    return writes


def _entries(space_id: str, row: Item) -> Iterator[Item]:
    """Yields the entries by which a row is found. They hold what lists filter by."""
    known = {name: row[name] for name in (*_ASKED_FOR, "expires_at") if row.get(name)}
    for names in _LISTS:
        if known.keys() >= set(names):
            yield {**Key(_partition(space_id, names, known), row["id"]).values, **known}


def missing_entries(item: Item) -> list[Write]:
    """Returns the writes of the entries that a row of the first version has not."""
    kind, _, space_id = item["PK"].partition("#")
    if kind != "audit" or "#" in space_id or version_of(item) > 1:
        return []
    entries = [entry for entry in _entries(space_id, item) if "+" in entry["PK"].split("#")[2]]
    return [put(Key(entry.pop("PK"), entry.pop("SK")), entry) for entry in entries]


def _head_key(space_id: str) -> Key:
    return Key(f"audit#{space_id}#head", "head")


def _end_of(head: Item | None) -> Link:
    return Link(head["sequence"], head["hash"], head["last_expires_at"]) if head else Link()


def _place(sequence: int) -> str:
    return f"{sequence:012d}"


def _problem(sequence: int, text: str) -> AuditProblem:
    return AuditProblem(sequence=sequence, problem=text)


def _partition(space_id: str, names: Sequence[str], values: Mapping[str, str]) -> str:
    """Returns the list of the rows with these values. Values may hold any character."""
    chosen = [values[name] for name in names]
    value = chosen[0] if len(chosen) == 1 else json.dumps(chosen, ensure_ascii=False)
    return f"audit#{space_id}#{'+'.join(names)}#{value}"


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
