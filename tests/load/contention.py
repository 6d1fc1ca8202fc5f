"""Sends concurrent writes in one space to a simulated DynamoDB, with and without spreading their items or keys.

All creates of a kind write to its count, and all logged calls write to the partition of the newest calls. Only these
limits are simulated:

- A transaction takes ``TRANSACTION`` and locks its items. Another transaction with one of these items is cancelled with
  TransactionConflict. DynamoDB's latency differs, which affects both results alike.
- A partition key, of the table or of an index, takes 1,000 write units a second. A transaction pays two for each
  started kilobyte of each item, and one for each started kilobyte in each index. A cancelled transaction pays too. A
  transaction is cancelled with ThrottlingError when all units are used.

Conditions are always true, because ids are new. The clients, their retries and their pauses are the app's own. One
process cannot log as many calls as a space may, so it sends a tenth of them, and a key accepts a tenth of the units.
"""

import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from types import ModuleType
from typing import Any, cast
from unittest.mock import patch

from botocore.exceptions import ClientError

from shared.clock import new_id, utc_now
from shared.dynamodb import repository
from shared.dynamodb.repository import Repository
from shared.dynamodb.table import Table
from shared.errors import UnavailableError
from shared.inference_logs import store as inference_logs
from shared.inference_logs.store import InferenceLogs
from shared.models.base import Entity
from tests.fixtures.aws import LOG_INDEXES
from tests.fixtures.inference_logs import call
from tests.load.capacity import item_bytes, write_units
from tests.load.harness import options, percentile, show

TRANSACTION = 0.010
PARTITION_WRITE_UNITS = 1000
# Unused units that a partition saves. A high number would hide the limit.
BURST = 100
WRITERS = 96
CALL_SCALE = 10
SPACE = "01a20000-0000-7000-8000-000000000000"


class Text(Entity):
    text: str


class Partition:
    """The write units of one partition key, refilled every second."""

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
    """The part of DynamoDB's client that these writes need."""

    def __init__(self, units: float = PARTITION_WRITE_UNITS) -> None:
        self.counted = self.done = 0
        self.cancelled: Counter[str] = Counter()
        self._units = units
        self._partitions: dict[str, Partition] = {}
        self._locked: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    def transact_write_items(
        self,
        TransactItems: list[dict[str, Any]],  # noqa: N803 - as boto3 spells it
        ClientRequestToken: str,  # noqa: N803
    ) -> None:
        writes = [next(iter(write.items())) for write in TransactItems]
        keys = [_key(request) for _, request in writes]
        with self._lock:
            units: Counter[str] = Counter()
            for (pk, _), (_, request) in zip(keys, writes, strict=True):
                item = request.get("Item", request.get("Key"))
                units[pk] += write_units(item_bytes(item), transaction=True)
                for index in LOG_INDEXES:
                    if index in item:
                        units[item[index]["S"]] += write_units(item_bytes(item))
            # Every partition is charged first, because a cancelled transaction pays too.
            paid = [self._partitions.setdefault(pk, Partition(self._units)).take(n) for pk, n in units.items()]
            if self._locked.intersection(keys):
                self._cancel("TransactionConflict")
            if not all(paid):
                self._cancel("ThrottlingError")
            self._locked.update(keys)
        time.sleep(TRANSACTION)
        with self._lock:
            self._locked.difference_update(keys)
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
class WriteTimes:
    """The result of writes that were sent at a rate."""

    done_per_second: float
    refused: int
    cancelled_each: float
    milliseconds: list[float]


def entity_writer() -> tuple[SimulatedDynamoDB, Callable[[], object]]:
    """Returns a store and a function that creates an entity of one kind in it."""
    store = SimulatedDynamoDB()
    entities = Repository(Table(cast("Any", store), "entities"), Text, kind="note")

    def create() -> None:
        now = utc_now()
        entities.create(SPACE, Text(id=new_id(), created_at=now, updated_at=now, text="A" * 500))

    return store, create


def call_writer() -> tuple[SimulatedDynamoDB, Callable[[], object]]:
    """Returns a store and a function that logs a call of one model by a new user, with its texts, as chats do."""
    store = SimulatedDynamoDB(PARTITION_WRITE_UNITS / CALL_SCALE)
    table = Table(cast("Any", store), "logs")
    logs = InferenceLogs(table, utc_now, timedelta(days=90))

    def log() -> None:
        prompt, completion, user, request = "Q" * 400, "A" * 1600, new_id(), new_id()
        made = call(utc_now(), id=new_id(), user=user, correlation_id=request, prompt=prompt, answer=completion)
        table.transact(logs.actions(SPACE, made))

    return store, log


def send(rate: float, seconds: float, store: SimulatedDynamoDB, write: Callable[[], object]) -> WriteTimes:
    """Sends ``rate`` writes a second, whether or not earlier ones have ended."""
    total = round(rate * seconds)
    times: list[float] = []
    refused: list[str] = []
    began = time.monotonic()

    def send_one(number: int) -> None:
        due = began + number / rate
        time.sleep(max(0.0, due - time.monotonic()))
        try:
            write()
        except UnavailableError as error:
            refused.append(error.message)
        else:
            times.append((time.monotonic() - due) * 1000)

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(send_one, range(total)))
    taken = time.monotonic() - began
    if not store.done == len(times) == total - len(refused) or store.counted not in (0, store.done):
        raise SystemExit(f"{store.done} stored, {store.counted} counted, {len(times)} acknowledged")
    return WriteTimes(len(times) / taken, len(refused), sum(store.cancelled.values()) / total, times)


@dataclass(frozen=True)
class Case:
    """Writes to one item or key, and the setting of a module that spreads them."""

    title: str
    prepare: Callable[[], tuple[SimulatedDynamoDB, Callable[[], object]]]
    rates: tuple[int, ...]
    module: ModuleType
    setting: str
    scale: int = 1


CREATE_RATES, CALL_RATES = (50, 200, 400), (40, 100, 160)
CASES = (
    Case("Creates in one space, by items of the count", entity_writer, CREATE_RATES, repository, "COUNTER_SHARDS"),
    Case("Logged calls of one space, by shards", call_writer, CALL_RATES, inference_logs, "SHARDS", CALL_SCALE),
)


def run(case: Case, seconds: float) -> None:
    rows = []
    for rate in case.rates:
        done = []
        for number in (1, getattr(case.module, case.setting)):
            with patch.object(case.module, case.setting, number):
                result = send(rate, seconds, *case.prepare())
            done.append(result.done_per_second)
            rows.append(
                (
                    f"{rate * case.scale:,} a second",
                    str(number),
                    f"{result.done_per_second * case.scale:,.0f}",
                    f"{done[-1] / done[0]:.1f}x",
                    str(result.refused * case.scale),
                    f"{result.cancelled_each:.2f}",
                    f"{statistics.median(result.milliseconds):.0f}",
                    f"{percentile(result.milliseconds, 99):.0f}",
                )
            )
    columns = ("sent", "spread over", "done a second", "ratio", "refused", "cancelled each", "p50 ms", "p99 ms")
    show(f"{case.title} (DynamoDB simulated)", columns, rows)


def main() -> None:
    seconds = options(__doc__, seconds=4).seconds
    for case in CASES:
        run(case, seconds)


if __name__ == "__main__":
    main()
