"""Deleted entities of a kind whose leftovers are still to be removed: files, catalogs, turns, comments, secrets.

An entity is deleted in one transaction that also notes it here, so that it disappears for its users as a
whole. Its remaining data is removed afterwards, repeatedly until it succeeds. An item with a secret is
noted before it is stored: a crash in between leaves none behind.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from boto3.dynamodb.conditions import Attr

from shared.clock import Clock, new_id, utc_now
from shared.dynamodb.table import ConditionFailedError, Item, Key, Table, Write, delete, put
from shared.models.base import parse_timestamp

# How long a request may still be at work on an entry.
GRACE = timedelta(minutes=15)


@dataclass(frozen=True)
class CleanupEntry:
    """One entity to clean up after."""

    space_id: str
    entity_id: str


class CleanupList:
    """The list of them, ``<kind>#purges``."""

    def __init__(self, table: Table, kind: str, clock: Clock = utc_now) -> None:
        self._table = table
        self._kind = kind
        self._clock = clock

    def note(self, space_id: str, entity_id: str, **more: Any) -> Write:
        """Returns the write that puts an entity on the list."""
        values = {"space_id": space_id, "noted_at": self._clock(), "note": new_id(), **more}
        return put(self._key(entity_id), values)

    def done(self, entity_id: str) -> Write:
        """Returns the write that takes it off."""
        return delete(self._key(entity_id))

    def write(self, action: Write) -> None:
        """Carries out one of these writes alone."""
        self._table.write(action)

    @contextmanager
    def settling(self, entity_id: str) -> Iterator[Item | None]:
        """Yields the entity's item of the list, if there is one, and removes it at the end of the block.

        The item stays if somebody has noted the entity again within the block.
        """
        noted = self._table.get(self._key(entity_id))
        yield noted
        if noted is not None:
            with suppress(ConditionFailedError):
                self._table.write(delete(self._key(entity_id), Attr("note").eq(noted["note"])))

    def due(self) -> Iterator[CleanupEntry]:
        """Yields those that no request is busy with any more, the oldest first."""
        latest = self._clock() - GRACE
        for item in self._table.query(self._key("").pk, newest_first=False):
            if parse_timestamp(item["noted_at"]) <= latest:
                yield CleanupEntry(item["space_id"], item["SK"])

    def is_gone(self, space_id: str, entity_id: str) -> bool:
        """Returns whether the entity does not exist (any more)."""
        return self._table.get(Key(f"{self._kind}#{space_id}", entity_id)) is None

    def _key(self, entity_id: str) -> Key:
        return Key(f"{self._kind}#purges", entity_id)
