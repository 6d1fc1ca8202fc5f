"""Connectors whose leftovers are still to be removed: files, catalog, access keys.

A connector is deleted in one transaction that also notes it here, so that it is gone for its users at once and as a
whole; what it leaves behind is removed afterwards, by whoever gets to it, as often as it takes. A connector that is
being created is noted too, until it is stored: a crash in between leaves no access keys behind.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from shared.aws.clock import Clock, utc_now
from shared.models.base import parse_timestamp
from shared.store.table import Action, Key, Table, delete, put

PARTITION = "connector#purges"
# A creation that is under way is left alone for so long.
GRACE = timedelta(minutes=15)


@dataclass(frozen=True)
class Purge:
    """One connector to clean up after."""

    space_id: str
    connector_id: str


class Purges:
    """The list of them."""

    def __init__(self, table: Table, clock: Clock = utc_now) -> None:
        self._table = table
        self._clock = clock

    def note(self, space_id: str, connector_id: str) -> Action:
        """The write that puts a connector on the list."""
        values = {"space_id": space_id, "noted_at": self._clock()}
        return put(Key(PARTITION, connector_id), values)

    def done(self, connector_id: str) -> Action:
        """The write that takes it off."""
        return delete(Key(PARTITION, connector_id))

    def write(self, action: Action) -> None:
        """Carry out one of these writes by itself."""
        self._table.write(action)

    def due(self) -> Iterator[Purge]:
        """Those that no request is busy with any more, the oldest first."""
        latest = self._clock() - GRACE
        for item in self._table.query(PARTITION, newest_first=False):
            if parse_timestamp(item["noted_at"]) <= latest:
                yield Purge(item["space_id"], item["SK"])

    def is_gone(self, space_id: str, connector_id: str) -> bool:
        """Whether the connector does not exist (any more)."""
        return self._table.get(Key(f"connector#{space_id}", connector_id)) is None
