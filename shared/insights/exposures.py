"""Counts the customers of an experiment's arms and those who accepted, each customer once.

- ``~arm#<experiment>`` in the ledger of a customer: the arm of the first decision, and the accepted insights since.
- ``count#<experiment>#<arm>#<shard>`` in ``insight_experiment#<space>``: the sums, which change in the transactions of
  the insights and the reactions.
"""

import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

from boto3.dynamodb.conditions import Attr
from boto3.dynamodb.conditions import Key as KeyCondition

from shared.dynamodb.table import Key, Table, TransactionFailedError, Write, put, repeat_on_conflict, update
from shared.errors import ContendedError
from shared.insights.ledger import ledger_partition
from shared.models.base import Model
from shared.space_binding import BoundThreads

# Decisions about different customers change different items most of the time.
_SHARDS = 16
# Customers of one transaction, which has a hundred writes at most with the sums of their arms, and threads.
_TOGETHER, _WRITERS = 75, 8
_BUSY = "Too many decisions count in the experiment now."


class ExposedMeanwhileError(ContendedError):
    """Error raised when another request made the customer's first decision in an experiment."""


class Exposure(Model):
    """An arm of an experiment."""

    experiment_id: str
    arm: str


@dataclass
class ArmCounts:
    customers: int = 0
    conversions: int = 0


class Exposures:
    def __init__(self, table: Table) -> None:
        self._table = table

    def first(self, space_id: str, client_key: str, exposure: Exposure) -> list[Write]:
        """Returns the writes that count the customer in the arm, or none if the customer has been counted."""
        key = _customer(space_id, client_key, exposure)
        if self._table.get(key) is not None:
            return []
        busy = ExposedMeanwhileError("Too many decisions about the same customer now.", headers={"Retry-After": "1"})
        return [
            replace(_first(key, exposure), error=busy),
            update(_sum(space_id, client_key, exposure), {}, add={"customers": 1}),
        ]

    def count(self, space_id: str, experiment_id: str, arms: Mapping[str, str]) -> None:
        """Counts many customers in their arms, each once however often this is repeated. Raises ContendedError."""
        shards: dict[int, list[str]] = {}
        for client_key in arms:
            shards.setdefault(_shard(client_key), []).append(client_key)

        def count_shard(client_keys: list[str]) -> None:
            for start in range(0, len(client_keys), _TOGETHER):
                some = client_keys[start : start + _TOGETHER]
                exposures = {each: Exposure(experiment_id=experiment_id, arm=arms[each]) for each in some}
                repeat_on_conflict(partial(self._count, space_id, exposures), _BUSY, (TransactionFailedError,))

        # Each thread has sums of its own.
        with BoundThreads(_WRITERS) as pool:
            list(pool.map(count_shard, shards.values()))

    def _count(self, space_id: str, exposures: Mapping[str, Exposure]) -> None:
        """Counts those customers of one shard who have not been counted."""
        keys = {_customer(space_id, client_key, each): client_key for client_key, each in exposures.items()}
        known = self._table.get_many(list(keys))
        new = {key: client_key for key, client_key in keys.items() if key not in known}
        sums = Counter(_sum(space_id, client_key, exposures[client_key]) for client_key in new.values())
        writes = [
            *(_first(key, exposures[client_key]) for key, client_key in new.items()),
            *(update(key, {}, add={"customers": customers}) for key, customers in sums.items()),
        ]
        if writes:
            self._table.transact(writes)

    def accepted(self, space_id: str, client_key: str, exposure: Exposure, change: int) -> list[Write]:
        """Returns the writes for so many more, or fewer, accepted insights of the customer."""
        key = _customer(space_id, client_key, exposure)
        item = self._table.get(key) if change else None
        if item is None:
            return []
        before, after = int(item["accepted"]), int(item["accepted"]) + change
        writes = [update(key, {"accepted": after}, condition=Attr("accepted").eq(before))]
        if moved := int(after > 0) - int(before > 0):
            counted = Exposure(experiment_id=exposure.experiment_id, arm=item["arm"])
            writes.append(update(_sum(space_id, client_key, counted), {}, add={"conversions": moved}))
        return writes

    def counts(self, space_id: str, experiment_id: str) -> dict[str, ArmCounts]:
        """Returns the counts of each arm that has a customer."""
        begin = f"count#{experiment_id}#"
        found = self._table.query(_partition(space_id), condition=KeyCondition("SK").begins_with(begin))
        sums: Counter[tuple[str, str]] = Counter()
        for item in found:
            arm = item["SK"].removeprefix(begin).rpartition("#")[0]
            sums.update({(arm, name): int(item.get(name, 0)) for name in ("customers", "conversions")})
        return {arm: ArmCounts(sums[arm, "customers"], sums[arm, "conversions"]) for arm, _ in sums}


def experiments_key(space_id: str) -> Key:
    return Key(_partition(space_id), "experiments")


def _partition(space_id: str) -> str:
    return f"insight_experiment#{space_id}"


def _customer(space_id: str, client_key: str, exposure: Exposure) -> Key:
    return Key(ledger_partition(space_id, client_key), f"~arm#{exposure.experiment_id}")


def _first(key: Key, exposure: Exposure) -> Write:
    return put(key, {"arm": exposure.arm, "accepted": 0}, Attr("PK").not_exists())


def _sum(space_id: str, client_key: str, exposure: Exposure) -> Key:
    return Key(_partition(space_id), f"count#{exposure.experiment_id}#{exposure.arm}#{_shard(client_key):02}")


def _shard(client_key: str) -> int:
    return zlib.crc32(client_key.encode()) % _SHARDS
