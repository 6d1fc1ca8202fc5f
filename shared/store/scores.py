"""What checkpoints achieved on benchmarks, indexed so that a leaderboard reads one metric and nothing else.

``score#<space>#result``, ``<checkpoint>#<benchmark>``: all metrics of the newest result.
``score#<space>#<benchmark>#<metric>``, ``<revision>#<value>#<checkpoint>``: one light entry for each of its metrics, in
the order of the values. Entries without a value are kept too, behind the others, so that each metric's entries are all
the checkpoints measured at that revision of the benchmark.
``score#<space>#benchmarks``, ``<benchmark>``: the benchmarks there are results of.
"""

import math
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from boto3.dynamodb.conditions import Attr
from boto3.dynamodb.conditions import Key as KeyCondition

from shared.models.checkpoint import Checkpoint
from shared.models.job import MetricName
from shared.store.repository import is_identifier
from shared.store.table import Action, Item, Key, Table, delete, put

Metrics = Mapping[MetricName, float | None]

# Sorts behind every hexadecimal digit.
WITHOUT_VALUE = "~"
_SIGN = 1 << 63
_ALL = (1 << 64) - 1
_CHECKPOINT_FIELDS = ("name", "training_id", "architecture", "created_at")


def encode_value(value: float | None) -> str:
    """Text that sorts as the number does: 16 hexadecimal digits, or ``WITHOUT_VALUE`` for None and NaN."""
    if value is None or math.isnan(value):
        return WITHOUT_VALUE
    bits: int = struct.unpack(">Q", struct.pack(">d", value + 0.0))[0]
    # Negative numbers grow downwards in their bits, positive ones upwards.
    return f"{bits ^ (_ALL if bits & _SIGN else _SIGN):016x}"


def decode_value(text: str) -> float | None:
    """The number that ``encode_value`` made the text of."""
    if text == WITHOUT_VALUE:
        return None
    bits = int(text, 16)
    value: float = struct.unpack(">d", struct.pack(">Q", bits ^ (_SIGN if bits & _SIGN else _ALL)))[0]
    return value


def finite(metrics: Metrics) -> dict[MetricName, float | None]:
    """The metrics, those that are NaN or infinite without a value."""
    return {metric: value if value is not None and math.isfinite(value) else None for metric, value in metrics.items()}


class Entry(NamedTuple):
    """A checkpoint's value of one metric on one benchmark; the rest is empty unless it was asked for."""

    checkpoint_id: str
    value: float | None
    name: str = ""
    training_id: str = ""
    architecture: str = ""
    created_at: str = ""


@dataclass(frozen=True)
class Score:
    """The newest result of a checkpoint on a benchmark."""

    checkpoint_id: str
    benchmark_id: str
    revision: int
    evaluation_id: str
    metrics: Metrics
    name: str
    training_id: str
    architecture: str
    created_at: str
    version: int = 0


class Scores:
    def __init__(self, table: Table) -> None:
        self._table = table

    @staticmethod
    def key(space_id: str, checkpoint_id: str, benchmark_id: str) -> Key:
        """Where the newest result of a checkpoint on a benchmark stands."""
        return Key(f"score#{space_id}#result", f"{checkpoint_id}#{benchmark_id}")

    def record(
        self,
        space_id: str,
        checkpoint: Checkpoint,
        benchmark_id: str,
        revision: int,
        evaluation_id: str,
        metrics: Metrics,
    ) -> list[Action]:
        """The writes that make this the checkpoint's score on the benchmark, in place of the one before.

        They go into the transaction that ends the evaluation, which fails with TransactionFailedError when the score
        was replaced meanwhile. There are none when the score stands for a newer revision already.
        """
        key = self.key(space_id, checkpoint.id, benchmark_id)
        found = self._table.get(key)
        before = _score(found) if found else None
        if before and before.revision > revision:
            return []
        checkpoint_values = {name: getattr(checkpoint, name) for name in _CHECKPOINT_FIELDS}
        values: Item = {
            **checkpoint_values,
            "revision": revision,
            "evaluation_id": evaluation_id,
            "metrics": finite(metrics),
            "version": before.version + 1 if before else 1,
        }
        unchanged = Attr("version").eq(before.version) if before else Attr("PK").not_exists()
        entries = _entry_keys(space_id, checkpoint.id, benchmark_id, revision, values["metrics"])
        outdated = (
            _entry_keys(space_id, checkpoint.id, benchmark_id, before.revision, before.metrics) if before else set()
        )
        return [
            put(key, values, unchanged),
            put(Key(f"score#{space_id}#benchmarks", benchmark_id), {}),
            *(put(entry, checkpoint_values) for entry in sorted(entries, key=str)),
            *(delete(entry) for entry in sorted(outdated - entries, key=str)),
        ]

    def benchmark_ids(self, space_id: str, limit: int) -> list[str]:
        """The newest benchmarks that there are results of."""
        items = self._table.query(f"score#{space_id}#benchmarks", limit=limit, attributes=["SK"])
        return [item["SK"] for item in items]

    def entries(
        self, space_id: str, benchmark_id: str, revision: int, metric: MetricName, *, describe: bool = False
    ) -> list[Entry]:
        """Every checkpoint measured at this revision of the benchmark, by falling value.

        ``describe`` also reads what checkpoints are filtered by.
        """
        items = self._table.query(
            f"score#{space_id}#{benchmark_id}#{metric}",
            condition=KeyCondition("SK").begins_with(f"{revision:010d}#"),
            attributes=("SK", *_CHECKPOINT_FIELDS) if describe else ("SK",),
        )
        return [_entry(item) for item in items]

    def get_many(self, space_id: str, pairs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Score]:
        """Scores by checkpoint and benchmark, those that exist."""
        keys = [self.key(space_id, checkpoint_id, benchmark_id) for checkpoint_id, benchmark_id in pairs]
        found = map(_score, self._table.get_many(keys).values())
        return {(score.checkpoint_id, score.benchmark_id): score for score in found}

    def of_checkpoint(self, space_id: str, checkpoint_id: str, limit: int | None = None) -> list[Score]:
        """A checkpoint's scores on all benchmarks, whatever their revision."""
        if not is_identifier(checkpoint_id):
            return []
        condition = KeyCondition("SK").begins_with(f"{checkpoint_id}#")
        return [
            _score(item) for item in self._table.query(f"score#{space_id}#result", condition=condition, limit=limit)
        ]


def _entry_keys(space_id: str, checkpoint_id: str, benchmark_id: str, revision: int, metrics: Metrics) -> set[Key]:
    return {
        Key(
            f"score#{space_id}#{benchmark_id}#{metric}",
            f"{revision:010d}#{encode_value(metrics.get(metric))}#{checkpoint_id}",
        )
        for metric in MetricName
    }


def _entry(item: Item) -> Entry:
    _, value, checkpoint_id = item["SK"].split("#")
    described = {name: item[name] for name in _CHECKPOINT_FIELDS if name in item}
    return Entry(checkpoint_id, decode_value(value), **described)


def _score(item: Item) -> Score:
    checkpoint_id, benchmark_id = item["SK"].split("#")
    metrics = {MetricName(name): None if value is None else float(value) for name, value in item["metrics"].items()}
    return Score(
        checkpoint_id,
        benchmark_id,
        item["revision"],
        item["evaluation_id"],
        metrics,
        version=item["version"],
        **{name: item[name] for name in _CHECKPOINT_FIELDS},
    )
