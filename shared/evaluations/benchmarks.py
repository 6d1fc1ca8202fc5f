"""Stores benchmarks, and the revisions of deleted benchmarks, so that their results stay comparable."""

from collections.abc import Iterable
from dataclasses import dataclass

from boto3.dynamodb.conditions import Attr

from shared.clock import Clock, utc_now
from shared.dynamodb.repository import ConditionNotMetError, Repository, is_identifier
from shared.dynamodb.table import Key, Table, put
from shared.models.base import Deleted
from shared.models.benchmark import Benchmark


@dataclass(frozen=True)
class KnownBenchmark:
    """A benchmark that exists or existed. Scores of other revisions than ``revision`` are outdated."""

    id: str
    revision: int
    is_deleted: bool


class Benchmarks:
    def __init__(self, table: Table, clock: Clock = utc_now) -> None:
        self.repository = Repository(table, Benchmark, kind="benchmark", paged=True, clock=clock)
        self._table = table
        self._clock = clock

    @staticmethod
    def _deleted_key(space_id: str, benchmark_id: str) -> Key:
        return Key(f"benchmark#{space_id}#deleted", benchmark_id)

    def delete(self, space_id: str, benchmark: Benchmark, expected_version: int | None) -> Deleted:
        """Deletes a benchmark and stores its last revision. Raises the same errors as ``Repository.delete``."""
        while True:
            remembered = {"revision": benchmark.revision, "deleted_at": self._clock()}
            try:
                return self.repository.delete(
                    space_id,
                    benchmark.id,
                    expected_version=expected_version,
                    condition=Attr("revision").eq(benchmark.revision),
                    also=[put(self._deleted_key(space_id, benchmark.id), remembered)],
                )
            except ConditionNotMetError:
                benchmark = self.repository.get(space_id, benchmark.id)

    def known(self, space_id: str, benchmark_ids: Iterable[str]) -> dict[str, KnownBenchmark]:
        """Returns the benchmarks that exist or existed in the space."""
        wanted = [benchmark_id for benchmark_id in dict.fromkeys(benchmark_ids) if is_identifier(benchmark_id)]
        existing = {self.repository.key(space_id, benchmark_id): False for benchmark_id in wanted}
        deleted = {self._deleted_key(space_id, benchmark_id): True for benchmark_id in wanted}
        states = existing | deleted
        found = self._table.get_many(list(states))
        return {key.sk: KnownBenchmark(key.sk, int(item["revision"]), states[key]) for key, item in found.items()}
