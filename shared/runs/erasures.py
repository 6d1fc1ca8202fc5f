"""Remembers which customers were erased while runs had their rows, so that these leave them out.

``run_erasure#<space>`` has an item for each erasure with the keys of the customer's ledgers. It is written only while
the space has parts of runs, and expires when no run can have them any more.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from shared.clock import Clock, new_id, utc_now
from shared.dynamodb.table import Key, Table, put
from shared.models.base import parse_timestamp
from shared.models.job_reference import JobKind
from shared.runs.plans import KEPT

# A run may be restarted for this time, and then takes as long as its workflow may.
REMEMBERED = KEPT + JobKind.DECISION_RUN.longest + timedelta(days=1)
_CLOCKS_DIFFER = timedelta(minutes=1)


class Erasures:
    """A store of the erasures that runs have to heed."""

    def __init__(self, table: Table, clock: Clock = utc_now) -> None:
        self._table = table
        self._clock = clock

    def record(self, space_id: str, client_keys: Iterable[str]) -> datetime:
        """Stores that a customer is erased. Returns until when that is remembered."""
        now = self._clock()
        until = now + REMEMBERED
        values = {"client_keys": list(client_keys), "erased_at": now, "expires_at": int(until.timestamp())}
        self._table.write(put(Key(_partition(space_id), new_id()), values))
        return until

    def since(self, space_id: str, moment: datetime) -> frozenset[str]:
        """Returns the client keys of the customers who were erased since a moment, or just before it."""
        first = moment - _CLOCKS_DIFFER
        found = self._table.query(_partition(space_id))
        return frozenset(
            key for item in found if parse_timestamp(item["erased_at"]) >= first for key in item["client_keys"]
        )


def _partition(space_id: str) -> str:
    return f"run_erasure#{space_id}"
