"""Creates in one space at once, the count in one item and spread over several: the store layer, DynamoDB simulated.

``python -m tests.load contention``. Simulated is what DynamoDB does to writers who meet, and nothing else of it:

- a transaction takes ``TRANSACTION`` and holds its items meanwhile; another that wants one of them is cancelled with
  TransactionConflict, as DynamoDB does (its latency differs, which moves both results alike);
- a partition key takes 1,000 write units a second; a transaction pays two for each kilobyte of each item, rounded up,
  also when it is cancelled, and is cancelled with ThrottlingError when they are used up.

Conditions always hold here: ids are new. The clients are ours, with their retries and pauses.
"""

import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

from botocore.exceptions import ClientError
from rich.console import Console
from rich.table import Table as RichTable

from shared.aws.clock import new_id, utc_now
from shared.errors import UnavailableError
from shared.models.base import Entity
from shared.store import repository
from shared.store.repository import Repository
from shared.store.table import Table
from tests.load.capacity import item_bytes, write_units

TRANSACTION = 0.010
PARTITION_WRITE_UNITS = 1000
# Unused capacity is kept for so long only, so that what is measured lasts.
BURST = 0.1
WRITERS = 96
SECONDS = 4.0
RATES = (50, 200, 400)
BEFORE = 1
SPACE = "01a20000-0000-7000-8000-000000000000"


class Note(Entity):
    text: str


class Partition:
    """The write units of one partition key."""

    def __init__(self) -> None:
        self._units = 0.0
        self._filled_at = time.monotonic()

    def take(self, units: float) -> bool:
        now = time.monotonic()
        filled = self._units + (now - self._filled_at) * PARTITION_WRITE_UNITS
        self._units, self._filled_at = min(filled, PARTITION_WRITE_UNITS * BURST), now
        if self._units < units:
            return False
        self._units -= units
        return True


class SimulatedDynamoDB:
    """As much of the client as creates need."""

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self.cancelled: Counter[str] = Counter()
        self.stored = 0
        self._partitions: dict[str, Partition] = {}
        self._held: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    def transact_write_items(
        self,
        TransactItems: list[dict[str, Any]],  # noqa: N803 - as boto3 spells it
        ClientRequestToken: str,  # noqa: N803
    ) -> None:
        writes = [next(iter(action.items())) for action in TransactItems]
        keys = [_key(request) for _, request in writes]
        with self._lock:
            units: Counter[str] = Counter()
            for (pk, _), (_, request) in zip(keys, writes, strict=True):
                units[pk] += write_units(item_bytes(request.get("Item", request.get("Key"))), transaction=True)
            # All are asked, so that a cancelled transaction has paid too.
            paid = [self._partitions.setdefault(pk, Partition()).take(each) for pk, each in units.items()]
            if self._held.intersection(keys):
                self._cancel("TransactionConflict")
            if not all(paid):
                self._cancel("ThrottlingError")
            self._held.update(keys)
        time.sleep(TRANSACTION)
        with self._lock:
            self._held.difference_update(keys)
            for (_, sk), (operation, request) in zip(keys, writes, strict=True):
                if operation == "Update":
                    self.counters[sk] += int(request["ExpressionAttributeValues"][":a0"]["N"])
                else:
                    self.stored += 1

    def _cancel(self, code: str) -> None:
        self.cancelled[code] += 1
        details: Any = {"Error": {"Code": "TransactionCanceledException"}, "CancellationReasons": [{"Code": code}]}
        raise ClientError(details, "TransactWriteItems")


def _key(request: dict[str, Any]) -> tuple[str, str]:
    key: dict[str, Any] = request.get("Key") or request["Item"]
    return key["PK"]["S"], key["SK"]["S"]


@dataclass(frozen=True)
class Outcome:
    """What became of creates that were asked for at a rate."""

    created: float
    refused: int
    cancelled: float
    median_ms: float
    slowest_ms: float


@contextmanager
def shards(number: int) -> Iterator[None]:
    """Counters of so many items."""
    usual = repository.COUNTER_SHARDS
    repository.COUNTER_SHARDS = number
    try:
        yield
    finally:
        repository.COUNTER_SHARDS = usual


def offer(rate: int, seconds: float) -> Outcome:
    """Ask for ``rate`` creates a second, whether or not those before are done."""
    store = SimulatedDynamoDB()
    notes = Repository(Table(cast("Any", store), "entities"), Note, kind="note")
    total = round(rate * seconds)
    times: list[float] = []
    refused: list[str] = []
    began = time.monotonic()

    def create(number: int) -> None:
        due = began + number / rate
        time.sleep(max(0.0, due - time.monotonic()))
        now = utc_now()
        try:
            notes.create(SPACE, Note(id=new_id(), created_at=now, updated_at=now, text="A" * 500))
        except UnavailableError as error:
            refused.append(error.message)
        else:
            times.append((time.monotonic() - due) * 1000)

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(create, range(total)))
    taken = time.monotonic() - began
    if not store.stored == sum(store.counters.values()) == len(times) == total - len(refused):
        raise SystemExit(f"{store.stored} stored, {sum(store.counters.values())} counted, {len(times)} acknowledged")
    quantiles = statistics.quantiles(times, n=100, method="inclusive")
    return Outcome(
        len(times) / taken, len(refused), sum(store.cancelled.values()) / total, quantiles[49], quantiles[98]
    )


def run(seconds: float = SECONDS) -> RichTable:
    after = repository.COUNTER_SHARDS
    shown = RichTable(title="Creates in one space, the count in one item against several (DynamoDB simulated)")
    for column in ("offered", "items", "created a second", "refused", "cancelled each", "p50 ms", "p99 ms"):
        shown.add_column(column, justify="right")
    for rate in RATES:
        rates = []
        for number in (BEFORE, after):
            with shards(number):
                each = offer(rate, seconds)
            rates.append(each.created)
            shown.add_row(
                f"{rate} a second",
                str(number),
                f"{each.created:.0f}",
                str(each.refused),
                f"{each.cancelled:.2f}",
                f"{each.median_ms:.0f}",
                f"{each.slowest_ms:.0f}",
            )
        shown.add_row("", "ratio", f"{rates[1] / rates[0]:.1f}x", end_section=True)
    return shown


def main() -> None:
    Console().print(run())


if __name__ == "__main__":
    main()
