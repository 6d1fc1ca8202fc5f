"""Stores schema drifts of connectors, ``schema_drift#<space>#<connector>``, and the schemas that they compare.

The columns of each file's last scanned version are under ``catalog#<space>#<connector>#schema``. A drift is recorded
in the transaction that replaces them, so that a scan that is repeated finds them replaced and records nothing. Replaced
columns stay for a week under ``catalog#<space>#<connector>#replaced``, for jobs that have pinned the content. Files
that a drift broke, and nobody has acknowledged since, are under ``catalog#<space>#<connector>#drifted``, each with its
last columns before that. A content that has all these columns again lifts the block.
"""

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta

from boto3.dynamodb.conditions import Attr

from shared.clock import Clock, new_id, utc_now
from shared.connectors.catalog import Catalog
from shared.dynamodb.repository import Repository
from shared.dynamodb.table import (
    ConditionFailedError,
    Item,
    Key,
    Table,
    TransactionFailedError,
    Write,
    check,
    delete,
    put,
)
from shared.models.base import Page
from shared.models.catalog import CatalogEntry, CatalogStatus
from shared.models.connector import Connector
from shared.models.schema_drift import CHANGES_LIMIT, ColumnChange, DriftPolicy, SchemaDrift, column_changes

SHOWN_COLUMNS = 10
# A training waits for its scans for less than a day.
REPLACED_KEPT = timedelta(days=7)
_PROFILE = ("etag", "rows", "format", "scan_id", "version_id", "options_digest")


class SchemaDrifts:
    """The drifts of all connectors."""

    def __init__(self, table: Table, catalog: Catalog, clock: Clock = utc_now) -> None:
        self._catalog = catalog
        self._drifts = Repository(table, SchemaDrift, kind="schema_drift", clock=clock)
        self._table = table
        self._clock = clock

    def observe(self, space_id: str, connector: Connector, entry: CatalogEntry) -> SchemaDrift | None:
        """Compares a scanned file with its last version, and stores the new schema.

        The same content under other read options has a new schema, but has not drifted. Returns the drift, if there is
        one.
        """
        key = _schema_key(space_id, connector.id, entry.file)
        known = self._table.get(key)
        is_same = known is not None and known["etag"] == entry.etag
        if known is not None and is_same and known.get("options_digest") == entry.options_digest:
            return None
        values = {"file": entry.file, **{name: getattr(entry, name) for name in _PROFILE}}
        values |= self._catalog.stored_columns(space_id, connector.id, entry)
        unchanged = Attr("PK").not_exists() if known is None else Attr("etag").eq(known["etag"])
        exists = Attr("PK").exists()
        actions = [put(key, values, unchanged), check(Key(f"connector#{space_id}", connector.id), exists)]
        changes: list[ColumnChange] = []
        if known is not None and not is_same:
            place = _replaced_key(space_id, connector.id, entry.file, known["etag"])
            expiry = int((self._clock() + REPLACED_KEPT).timestamp())
            actions.append(put(place, {**known, **place.values, "file": entry.file, "expires_at": expiry}))
            if connector.drift_policy is not DriftPolicy.IGNORE:
                changes = self._changes(known, entry)
        drift = self._drift(connector, entry, changes)
        if changes:
            actions += self._record(space_id, drift)
        actions += self._block(space_id, drift, entry, known)
        try:
            self._table.transact(actions)
        except TransactionFailedError:  # another scan of it was quicker, or the connector was deleted
            return None
        return drift if changes else None

    def replaced_profiles(
        self, space_id: str, connector_id: str, contents: Mapping[str, str]
    ) -> dict[str, CatalogEntry]:
        """Returns the known profiles of contents that the catalog does not show any more; ``contents`` maps to ETags.

        Those are the last scanned content of a file that has changed since, and contents that a scan replaced within
        the last week.
        """
        last = {_schema_key(space_id, connector_id, file): etag for file, etag in contents.items()}
        found = [item for key, item in self._table.get_many(list(last)).items() if item["etag"] == last[key]]
        known = {item["SK"] for item in found}
        others = {file: etag for file, etag in contents.items() if file not in known}
        keys = [_replaced_key(space_id, connector_id, file, etag) for file, etag in others.items()]
        found += self._table.get_many(keys).values()
        return {entry.file: entry for entry in map(self._profile, found)}

    def list_after(self, space_id: str, connector_id: str, after: str, limit: int) -> Page[SchemaDrift]:
        """Returns the drifts of a connector, newest first. Raises InvalidCursorError."""
        return self._drifts.list_after(_owner(space_id, connector_id), after, limit)

    def acknowledge(self, space_id: str, connector_id: str, drift_id: str, user_id: str) -> SchemaDrift:
        """Acknowledges a drift, so that trainings can use the file again. Raises NotFoundError."""
        owner = _owner(space_id, connector_id)
        drift = self._drifts.get(owner, drift_id)
        if drift.acknowledged_at is None:
            changes = {"acknowledged_at": self._clock(), "acknowledged_by": user_id}
            drift = self._drifts.update(owner, drift_id, changes)
        with suppress(ConditionFailedError):  # a later one broke it again
            self._table.write(delete(_drifted_key(space_id, connector_id, drift.file), Attr("drift_id").eq(drift_id)))
        return drift

    def broken_files(self, space_id: str, connector_id: str) -> dict[str, str]:
        """Returns the files that a drift broke and nobody has acknowledged since, each with what happened to it."""
        items = self._table.query(_drifted_key(space_id, connector_id, "").pk, newest_first=False)
        return {item["SK"]: item["summary"] for item in items}

    def forget(self, space_id: str, connector_id: str) -> None:
        """Removes all data of a deleted connector."""
        self._drifts.remove_all(_owner(space_id, connector_id))
        for name in ("schema", "drifted", "replaced"):
            pk = f"catalog#{space_id}#{connector_id}#{name}"
            for item in self._table.query(pk, attributes=("SK",)):
                self._table.write(delete(Key(pk, item["SK"])))

    def _profile(self, item: Item) -> CatalogEntry:
        return CatalogEntry(
            file=item.get("file", item["SK"]),
            status=CatalogStatus.SCANNED,
            columns=self._catalog.load_columns(item),
            **{name: item.get(name) for name in _PROFILE},
        )

    def _drift(self, connector: Connector, entry: CatalogEntry, changes: list[ColumnChange]) -> SchemaDrift:
        now = self._clock()
        return SchemaDrift(
            id=new_id(),
            created_at=now,
            updated_at=now,
            connector_id=connector.id,
            file=entry.file,
            scan_id=entry.scan_id,
            policy=connector.drift_policy,
            is_breaking=_is_broken(changes),
            changes=changes[:CHANGES_LIMIT],
            more_changes=max(0, len(changes) - CHANGES_LIMIT),
        )

    def _record(self, space_id: str, drift: SchemaDrift) -> list[Write]:
        owner = _owner(space_id, drift.connector_id)
        return [self._drifts.put_write(owner, drift), *self._drifts.count_writes(owner, drift.id, +1)]

    def _block(self, space_id: str, drift: SchemaDrift, entry: CatalogEntry, known: Item | None) -> list[Write]:
        """Returns the write that blocks a broken file, or the one that lifts the block of a file that is whole again.

        A block keeps the columns of the content before the first break.
        """
        place = _drifted_key(space_id, drift.connector_id, drift.file)
        mark = self._table.get(place)
        before = mark if mark is not None and "rows" in mark else None
        if before is not None and not _is_broken(self._changes(before, entry)):
            return [delete(place, Attr("PK").not_exists() | Attr("drift_id").eq(before["drift_id"]))]
        if known is None or not drift.is_breaking:
            return []
        columns = {name: (before or known).get(name) for name in ("rows", "columns", "columns_key")}
        return [put(place, {**columns, "drift_id": drift.id, "summary": summary(drift)})]

    def _changes(self, before: Item, entry: CatalogEntry) -> list[ColumnChange]:
        columns = self._catalog.load_columns(before)
        return column_changes(columns, int(before["rows"]), entry.columns, entry.rows or 0)


def summary(drift: SchemaDrift) -> str:
    """Returns the changes that break something, in a sentence's part."""
    broken = [change for change in drift.changes if change.is_breaking]
    parts = [
        f"'{change.column}' {'vanished' if change.after is None else f'went from {change.before} to {change.after}'}"
        for change in broken[:SHOWN_COLUMNS]
    ]
    more = f" and {len(broken) - SHOWN_COLUMNS} more" if len(broken) > SHOWN_COLUMNS else ""
    return ", ".join(parts) + more


def _is_broken(changes: Sequence[ColumnChange]) -> bool:
    return any(change.is_breaking for change in changes)


def _owner(space_id: str, connector_id: str) -> str:
    return f"{space_id}#{connector_id}"


def _schema_key(space_id: str, connector_id: str, file: str) -> Key:
    return Key(f"catalog#{space_id}#{connector_id}#schema", file)


def _replaced_key(space_id: str, connector_id: str, file: str, etag: str) -> Key:
    digest = hashlib.sha256(f"{file}\n{etag}".encode()).hexdigest()
    return Key(f"catalog#{space_id}#{connector_id}#replaced", digest)


def _drifted_key(space_id: str, connector_id: str, file: str) -> Key:
    return Key(f"catalog#{space_id}#{connector_id}#drifted", file)
