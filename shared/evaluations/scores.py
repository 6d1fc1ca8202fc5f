"""Stores the scores of checkpoints on benchmarks, with an index for leaderboards of one metric.

``score#<space>#result``, ``<checkpoint>#<benchmark>``: all metrics of the newest result.
``score#<space>#<benchmark>#<metric>``, ``<revision>#<value>#<checkpoint>``: one small entry for each metric, in the
order of the values. Entries without a value come last, so that the index lists all measured checkpoints.
``score#<space>#<benchmark>#<metric>#count``, ``<revision>#<digits>#<value>``: the number of entries with values that
begin with these digits. A rank needs only a few of these counters, also on a large leaderboard.
``score#<space>#benchmarks``, ``<benchmark>``: the benchmarks with results.
``boards`` describes where lists find the results that no index orders.
"""

import math
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from boto3.dynamodb.conditions import Attr, ConditionBase
from boto3.dynamodb.conditions import Key as KeyCondition

from shared.dynamodb.repository import is_identifier
from shared.dynamodb.table import Item, Key, Table, Write, delete, put, update
from shared.models.checkpoint import Checkpoint
from shared.models.job import Interval, JobModel, MetricName, Resample

ModelT = TypeVar("ModelT", bound=JobModel)
MetricValues = Mapping[MetricName, float | None]

# Both sort after all hexadecimal digits; "g" sorts directly after them.
WITHOUT_VALUE = "~"
_BEHIND_VALUES = "g"
# The lengths of the counted beginnings. Sixteen digits are one value; fewer digits cover a range of values.
COUNTED_DIGITS = (4, 6, 8, 16)
# The evaluation has all of them.
LISTED_WARNINGS = 10
_SIGN = 1 << 63
_ALL = (1 << 64) - 1
CHECKPOINT_FIELDS = ("name", "training_id", "architecture", "created_at")


def recent_partition(space_id: str, benchmark_id: str) -> str:
    """Returns the partition of the results that the benchmark's board has not yet (see ``boards``)."""
    return f"score#{space_id}#{benchmark_id}#recent"


def encode_value(value: float | None) -> str:
    """Returns a text that sorts like the number: 16 hexadecimal digits, or ``WITHOUT_VALUE`` for None and NaN."""
    if value is None or math.isnan(value):
        return WITHOUT_VALUE
    bits: int = struct.unpack(">Q", struct.pack(">d", value + 0.0))[0]
    # The bits of negative numbers sort in the opposite order, so all of them are inverted.
    return f"{bits ^ (_ALL if bits & _SIGN else _SIGN):016x}"


def decode_value(text: str) -> float | None:
    """Returns the number of a text from ``encode_value``."""
    if text == WITHOUT_VALUE:
        return None
    bits = int(text, 16)
    value: float = struct.unpack(">d", struct.pack(">Q", bits ^ (_SIGN if bits & _SIGN else _ALL)))[0]
    return value


def finite(metrics: MetricValues) -> dict[MetricName, float | None]:
    """Returns the metrics, with ``None`` for NaN and infinity."""
    return {metric: value if value is not None and math.isfinite(value) else None for metric, value in metrics.items()}


class Uncertainty(NamedTuple):
    """How exactly the metrics of a result are known, and what a comparison with another one needs."""

    intervals: Mapping[MetricName, Interval]
    resamples: Mapping[MetricName, Resample]


UNKNOWN = Uncertainty({}, {})


class ScoreEntry(NamedTuple):
    """A checkpoint's value of one metric on one benchmark. Entries of a page have no other fields."""

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
    metrics: MetricValues
    name: str
    training_id: str
    architecture: str
    created_at: str
    version: int = 0
    warnings: Sequence[str] = ()
    uncertainty: Uncertainty = UNKNOWN


@dataclass(frozen=True)
class Ranking:
    """The entries of one metric at one revision of a benchmark."""

    space_id: str
    benchmark_id: str
    revision: int
    metric: MetricName

    @property
    def partition(self) -> str:
        return f"score#{self.space_id}#{self.benchmark_id}#{self.metric}"

    def entry_key(self, checkpoint_id: str, value: float | None) -> Key:
        return Key(self.partition, self.sort_key(encode_value(value), checkpoint_id))

    def counter_keys(self, value: float | None) -> list[Key]:
        """Returns the keys of the counters that include this value."""
        text = encode_value(value)
        levels = COUNTED_DIGITS[:1] if text == WITHOUT_VALUE else COUNTED_DIGITS
        return [self.counter_key(digits, text[:digits]) for digits in levels]

    def counter_key(self, digits: int, prefix: str) -> Key:
        return Key(f"{self.partition}#count", self.sort_key(f"{digits:02d}", prefix))

    def sort_key(self, *parts: str) -> str:
        return "#".join((f"{self.revision:010d}", *parts))


class Scores:
    def __init__(self, table: Table) -> None:
        self._table = table

    @staticmethod
    def key(space_id: str, checkpoint_id: str, benchmark_id: str) -> Key:
        """Returns the key of the newest result of a checkpoint on a benchmark."""
        return Key(f"score#{space_id}#result", f"{checkpoint_id}#{benchmark_id}")

    def record(
        self,
        space_id: str,
        checkpoint: Checkpoint,
        benchmark_id: str,
        revision: int,
        evaluation_id: str,
        metrics: MetricValues,
        warnings: Sequence[str] = (),
        uncertainty: Uncertainty = UNKNOWN,
    ) -> list[Write]:
        """Returns the writes that replace the checkpoint's score on the benchmark.

        Their transaction fails with TransactionFailedError if another request has replaced the score since it was
        read. The list is empty if the current score has a newer revision.
        """
        key = self.key(space_id, checkpoint.id, benchmark_id)
        found = self._table.get(key)
        before = _score(found) if found else None
        if before and before.revision > revision:
            return []
        checkpoint_values = {name: getattr(checkpoint, name) for name in CHECKPOINT_FIELDS}
        values: Item = {
            **checkpoint_values,
            "revision": revision,
            "evaluation_id": evaluation_id,
            "metrics": finite(metrics),
            "warnings": list(warnings[:LISTED_WARNINGS]),
            **uncertainty._asdict(),
            "version": before.version + 1 if before else 1,
        }
        unchanged = Attr("version").eq(before.version) if before else Attr("PK").not_exists()
        entries = _entries(space_id, checkpoint.id, benchmark_id, revision, values["metrics"])
        outdated = _entries(space_id, checkpoint.id, benchmark_id, before.revision, before.metrics) if before else {}
        counted = Counter(counter for key in entries.keys() - outdated.keys() for counter in entries[key])
        counted.subtract(counter for key in outdated.keys() - entries.keys() for counter in outdated[key])
        return [
            put(key, values, unchanged),
            put(Key(f"score#{space_id}#benchmarks", benchmark_id), {}),
            put(
                Key(recent_partition(space_id, benchmark_id), checkpoint.id),
                {name: values[name] for name in (*CHECKPOINT_FIELDS, "revision", "metrics", "version")},
            ),
            *(put(entry, checkpoint_values) for entry in sorted(entries, key=str)),
            *(delete(entry) for entry in sorted(outdated.keys() - entries.keys(), key=str)),
            *(
                update(counter, {}, add={"items": amount})
                for counter, amount in sorted(counted.items(), key=str)
                if amount
            ),
        ]

    def benchmark_ids(self, space_id: str, limit: int) -> list[str]:
        """Returns the newest benchmarks with results."""
        items = self._table.query(f"score#{space_id}#benchmarks", limit=limit, attributes=["SK"])
        return [item["SK"] for item in items]

    def entries(self, space_id: str, benchmark_id: str, revision: int, metric: MetricName) -> list[ScoreEntry]:
        """Returns the entries of all checkpoints that were measured at this revision, highest value first."""
        ranking = Ranking(space_id, benchmark_id, revision, metric)
        condition = KeyCondition("SK").begins_with(ranking.sort_key(""))
        return [_entry(item) for item in self._table.query(ranking.partition, condition=condition)]

    def all_entries(self, space_id: str, benchmark_id: str, metric: MetricName) -> Iterator[tuple[int, ScoreEntry]]:
        """Yields the entries of all checkpoints, with the revision at which each was measured."""
        for item in self._table.query(Ranking(space_id, benchmark_id, 0, metric).partition):
            yield int(item["SK"].partition("#")[0]), _entry(item)

    def page(
        self, ranking: Ranking, limit: int, *, descending: bool, after: tuple[float | None, str] | None = None
    ) -> list[ScoreEntry]:
        """Returns the first entries, or the entries after a value and checkpoint, in the order of values and ids.

        Entries without a value always come last.
        """
        start = ranking.sort_key("") if after is None else f"{ranking.entry_key(after[1], after[0]).sk} "
        if not descending:
            return self._between(ranking, start, ranking.sort_key("~~"), limit)
        found: list[ScoreEntry] = []
        top = ranking.sort_key(_BEHIND_VALUES)
        if after is not None:
            top = ranking.sort_key(encode_value(after[0]))
            found = self._between(ranking, start, f"{top}#~", limit)
            if after[0] is None:
                return found
        if wanted := limit - len(found):
            found += self._falling(ranking, top, wanted)
        if wanted := limit - len(found):
            found += self._between(ranking, ranking.sort_key(WITHOUT_VALUE), ranking.sort_key("~~"), wanted)
        return found

    def _falling(self, ranking: Ranking, top: str, limit: int) -> list[ScoreEntry]:
        """Returns the entries before ``top`` in the order of falling values, and of the ids of equal ones."""
        falling = self._between(ranking, ranking.sort_key(""), top, limit, newest_first=True)
        if len(falling) == limit and (last := falling[-1].value) is not None:
            # Equal values are read with descending ids, and the list may not have all of them. So the last group of
            # equal values is read again with ascending ids.
            falling = [entry for entry in falling if entry.value != last]
            falling += self.equal(ranking, last, limit - len(falling))
        return sorted(falling, key=lambda entry: (-(entry.value or 0.0), entry.checkpoint_id))

    def _between(
        self, ranking: Ranking, first: str, last: str, limit: int, *, newest_first: bool = False
    ) -> list[ScoreEntry]:
        condition = KeyCondition("SK").between(first, last)
        items = self._table.query(
            ranking.partition, condition=condition, limit=limit, newest_first=newest_first, attributes=("SK",)
        )
        return [_entry(item) for item in items]

    def equal(self, ranking: Ranking, value: float, limit: int) -> list[ScoreEntry]:
        """Returns the entries with this value, in the order of their checkpoints."""
        group = ranking.sort_key(encode_value(value), "")
        return self._between(ranking, group, f"{group}~", limit)

    def better(self, ranking: Ranking, value: float, limit: int, *, higher: bool) -> list[ScoreEntry]:
        """Returns the entries with the next higher, or lower, values than this one, the nearest first.

        Of equal values, those with the first ids are returned.
        """
        own = ranking.sort_key(encode_value(value))
        if higher:
            # "$" sorts directly after "#".
            return self._between(ranking, f"{own}$", ranking.sort_key(_BEHIND_VALUES), limit)
        return self._falling(ranking, own, limit)

    def count(self, ranking: Ranking) -> int:
        """Returns the number of measured checkpoints, with or without a value."""
        first = ranking.counter_key(COUNTED_DIGITS[0], "")
        return self._sum(first.pk, KeyCondition("SK").begins_with(first.sk))

    def count_beyond(self, ranking: Ranking, value: float, *, higher: bool) -> int:
        """Returns the number of values that are higher, or lower, than this value."""
        text, count, parent = encode_value(value), 0, ""
        for digits in COUNTED_DIGITS:
            first, own, last = (
                ranking.counter_key(digits, prefix) for prefix in (parent, text[:digits], f"{parent}{_BEHIND_VALUES}")
            )
            condition = KeyCondition("SK").between(*((own.sk, last.sk) if higher else (first.sk, own.sk)))
            count += self._sum(own.pk, condition, leave_out=own.sk)
            parent = text[:digits]
        return count

    def count_equal(self, ranking: Ranking, values: Iterable[float]) -> dict[float, int]:
        """Returns the number of entries with each value."""
        keys = {value: ranking.counter_keys(value)[-1] for value in values}
        found = self._table.get_many(list(keys.values()))
        return {value: found[key]["items"] if key in found else 0 for value, key in keys.items()}

    def _sum(self, pk: str, condition: ConditionBase, leave_out: str | None = None) -> int:
        counters = self._table.query(pk, condition=condition, attributes=("SK", "items"))
        return sum(counter["items"] for counter in counters if counter["SK"] != leave_out)

    def get_many(self, space_id: str, pairs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Score]:
        """Returns the existing scores by checkpoint and benchmark."""
        keys = [self.key(space_id, checkpoint_id, benchmark_id) for checkpoint_id, benchmark_id in pairs]
        found = map(_score, self._table.get_many(keys).values())
        return {(score.checkpoint_id, score.benchmark_id): score for score in found}

    def of_checkpoint(self, space_id: str, checkpoint_id: str, limit: int | None = None) -> list[Score]:
        """Returns a checkpoint's scores on all benchmarks and revisions."""
        if not is_identifier(checkpoint_id):
            return []
        condition = KeyCondition("SK").begins_with(f"{checkpoint_id}#")
        return [
            _score(item) for item in self._table.query(f"score#{space_id}#result", condition=condition, limit=limit)
        ]


def _entries(
    space_id: str, checkpoint_id: str, benchmark_id: str, revision: int, metrics: MetricValues
) -> dict[Key, list[Key]]:
    """Returns the keys of the entries of a result, each with the keys of its counters."""
    rankings = [Ranking(space_id, benchmark_id, revision, metric) for metric in MetricName]
    return {
        each.entry_key(checkpoint_id, metrics.get(each.metric)): each.counter_keys(metrics.get(each.metric))
        for each in rankings
    }


def _entry(item: Item) -> ScoreEntry:
    _, value, checkpoint_id = item["SK"].split("#")
    described = {name: item[name] for name in CHECKPOINT_FIELDS if name in item}
    return ScoreEntry(checkpoint_id, decode_value(value), **described)


def _models(model: type[ModelT], found: Mapping[str, Any]) -> dict[MetricName, ModelT]:
    return {MetricName(name): model.model_validate(values) for name, values in found.items()}


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
        warnings=item.get("warnings", ()),
        uncertainty=Uncertainty(
            _models(Interval, item.get("intervals", {})), _models(Resample, item.get("resamples", {}))
        ),
        **{name: item[name] for name in CHECKPOINT_FIELDS},
    )
