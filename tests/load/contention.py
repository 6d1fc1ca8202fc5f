"""Writes in one space at once, where all meet and spread over several keys: the store layer, DynamoDB simulated.

Creates meet at the count of their kind, logged calls in the partition of the newest.

``python -m tests.load contention``. Simulated is what DynamoDB does to writers who meet, and nothing else of it:

- a transaction takes ``TRANSACTION`` and holds its items meanwhile; another that wants one of them is cancelled with
  TransactionConflict, as DynamoDB does (its latency differs, which moves both results alike);
- a partition key, of the table or of an index, takes 1,000 write units a second; a transaction pays two for each
  kilobyte of each item, rounded up, also when it is cancelled, and one in each index, and is cancelled with
  ThrottlingError when they are used up.

Conditions always hold here: ids are new. The clients are ours, with their retries and pauses. One process can't log as
many calls as a space may: they are offered at a tenth, and a key takes a tenth.
"""

import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from types import ModuleType
from typing import Any, cast

from botocore.exceptions import ClientError
from rich.console import Console
from rich.table import Table as RichTable
from shared.aws.clock import new_id, utc_now
from shared.store import inference_logs, repository
from shared.store.inference_logs import InferenceLogs
from shared.store.repository import Repository
from shared.store.table import Table

from shared.errors import UnavailableError
from shared.models.base import Entity
from tests.fixtures.aws import LOG_INDEXES
from tests.fixtures.inference_logs import call
from tests.load.capacity import item_bytes, write_units

TRANSACTION = 0.010
PARTITION_WRITE_UNITS = 1000
# Unused units are kept up to so many only, so that what is measured lasts.
BURST = 100
WRITERS = 96
SECONDS = 4.0
RATES = (50, 200, 400)
CALL_RATES = (40, 100, 160)
CALL_SCALE = 10
BEFORE = 1
SPACE = "01a20000-0000-7000-8000-000000000000"


class Note(Entity):
    text: str


class Partition:
    """The write units of one partition key, so many a second."""

    def __init__(self, units: float) -> None:
        self._rate = units
        self._units = float(BURST)
        self._filled_at = time.monotonic()

    def take(self, units: float) -> bool:
        now = time.monotonic()
        filled = self._units + (now - self._filled_at) * self._rate
        self._units, self._filled_at = min(filled, BURST), now
        if self._units < units:
            return False
        self._units -= units
        return True


class SimulatedDynamoDB:
    """As much of the client as these writes need."""

    def __init__(self, units: float = PARTITION_WRITE_UNITS) -> None:
        self.counted = self.done = 0
        self.cancelled: Counter[str] = Counter()
        self._units = units
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
                item = request.get("Item", request.get("Key"))
                units[pk] += write_units(item_bytes(item), transaction=True)
                for index in LOG_INDEXES:
                    if index in item:
                        units[item[index]["S"]] += write_units(item_bytes(item))
            # All are asked, so that a cancelled transaction has paid too.
            paid = [self._partitions.setdefault(pk, Partition(self._units)).take(n) for pk, n in units.items()]
            if self._held.intersection(keys):
                self._cancel("TransactionConflict")
            if not all(paid):
                self._cancel("ThrottlingError")
            self._held.update(keys)
        time.sleep(TRANSACTION)
        with self._lock:
            self._held.difference_update(keys)
            self.done += 1
            updates = [request for operation, request in writes if operation == "Update"]
            self.counted += sum(int(each["ExpressionAttributeValues"][":a0"]["N"]) for each in updates)

    def _cancel(self, code: str) -> None:
        self.cancelled[code] += 1
        details: Any = {"Error": {"Code": "TransactionCanceledException"}, "CancellationReasons": [{"Code": code}]}
        raise ClientError(details, "TransactWriteItems")


def _key(request: dict[str, Any]) -> tuple[str, str]:
    key: dict[str, Any] = request.get("Key") or request["Item"]
    return key["PK"]["S"], key["SK"]["S"]


@dataclass(frozen=True)
class Outcome:
    """What became of writes that were asked for at a rate."""

    done: float
    refused: int
    cancelled: float
    median_ms: float
    slowest_ms: float


@contextmanager
def spread(module: ModuleType, name: str, number: int) -> Iterator[None]:
    """So many keys, by the setting of a module."""
    usual = getattr(module, name)
    setattr(module, name, number)
    try:
        yield
    finally:
        setattr(module, name, usual)


def creates() -> tuple[SimulatedDynamoDB, Callable[[], object]]:
    """Entities of one kind."""
    store = SimulatedDynamoDB()
    notes = Repository(Table(cast("Any", store), "entities"), Note, kind="note")

    def create() -> None:
        now = utc_now()
        notes.create(SPACE, Note(id=new_id(), created_at=now, updated_at=now, text="A" * 500))

    return store, create


def calls() -> tuple[SimulatedDynamoDB, Callable[[], object]]:
    """Calls of one model with their texts, each of a user of its own, written as chats write them."""
    store = SimulatedDynamoDB(PARTITION_WRITE_UNITS / CALL_SCALE)
    table = Table(cast("Any", store), "logs")
    logs = InferenceLogs(table, utc_now, timedelta(days=90))

    def log() -> None:
        asked, said, user, request = "Q" * 400, "A" * 1600, new_id(), new_id()
        made = call(utc_now(), id=new_id(), user=user, correlation_id=request, prompt=asked, answer=said)
        table.transact(logs.actions(SPACE, made))

    return store, log


def offer(rate: float, seconds: float, store: SimulatedDynamoDB, write: Callable[[], object]) -> Outcome:
    """Ask for ``rate`` writes a second, whether or not those before are done."""
    total = round(rate * seconds)
    times: list[float] = []
    refused: list[str] = []
    began = time.monotonic()

    def one(number: int) -> None:
        due = began + number / rate
        time.sleep(max(0.0, due - time.monotonic()))
        try:
            write()
        except UnavailableError as error:
            refused.append(error.message)
        else:
            times.append((time.monotonic() - due) * 1000)

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(one, range(total)))
    taken = time.monotonic() - began
    if not store.done == len(times) == total - len(refused) or store.counted not in (0, store.done):
        raise SystemExit(f"{store.done} stored, {store.counted} counted, {len(times)} acknowledged")
    quantiles = statistics.quantiles(times, n=100, method="inclusive")
    return Outcome(
        len(times) / taken, len(refused), sum(store.cancelled.values()) / total, quantiles[49], quantiles[98]
    )


@dataclass(frozen=True)
class Case:
    """Writes that meet, and the setting that spreads them."""

    title: str
    prepare: Callable[[], tuple[SimulatedDynamoDB, Callable[[], object]]]
    rates: tuple[int, ...]
    module: ModuleType
    setting: str
    scale: int = 1


CASES = (
    Case("Creates in one space, by the items of their count", creates, RATES, repository, "COUNTER_SHARDS"),
    Case("Logged calls of one space, by the shards", calls, CALL_RATES, inference_logs, "SHARDS", CALL_SCALE),
)


def run(case: Case, seconds: float = SECONDS) -> RichTable:
    shown = RichTable(title=f"{case.title} (DynamoDB simulated)")
    for column in ("offered", "spread over", "done a second", "refused", "cancelled each", "p50 ms", "p99 ms"):
        shown.add_column(column, justify="right")
    after = getattr(case.module, case.setting)
    for rate in case.rates:
        rates = []
        for number in (BEFORE, after):
            with spread(case.module, case.setting, number):
                each = offer(rate, seconds, *case.prepare())
            rates.append(each.done)
            shown.add_row(
                f"{rate * case.scale:,} a second",
                str(number),
                f"{each.done * case.scale:,.0f}",
                str(each.refused * case.scale),
                f"{each.cancelled:.2f}",
                f"{each.median_ms:.0f}",
                f"{each.slowest_ms:.0f}",
            )
        shown.add_row("", "ratio", f"{rates[1] / rates[0]:.1f}x", end_section=True)
    return shown


def main() -> None:
    for case in CASES:
        Console().print(run(case))


if __name__ == "__main__":
    main()
