"""Walking a leaderboard page by page: nothing is lost or repeated, whatever the scores."""

from collections import Counter
from itertools import pairwise
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functions.leaderboards.service import LeaderboardService
from shared.models.job import MetricName
from shared.models.leaderboard import Direction, LeaderboardQuery, LeaderboardRow
from shared.store.benchmarks import KnownBenchmark
from shared.store.members import Scope
from shared.store.scores import Entry, Ranking, Score

SCOPE = Scope(space_id="space", user_id="user", is_owner=True)

# Few values, so that ties are common.
values = st.one_of(st.none(), st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.floats(0, 1))
boards = st.dictionaries(
    st.uuids().map(str), st.dictionaries(st.integers(0, 30), values, max_size=25), min_size=1, max_size=3
)


def checkpoint_id(number: int) -> str:
    return str(UUID(int=number * 7919 % 101))


class FakeScores:
    """The same answers as the store gives, from a dictionary."""

    def __init__(self, results: dict[str, dict[int, float | None]]) -> None:
        self._values = {
            (checkpoint_id(number), benchmark): value
            for benchmark, scores in results.items()
            for number, value in scores.items()
        }

    def benchmark_ids(self, space_id: str, limit: int) -> list[str]:
        return sorted({benchmark for _, benchmark in self._values})

    def entries(
        self, space_id: str, benchmark_id: str, revision: int, metric: MetricName, *, describe: bool
    ) -> list[Entry]:
        return [
            Entry(checkpoint, value) for (checkpoint, board), value in self._values.items() if board == benchmark_id
        ]

    def page(
        self, ranking: Ranking, limit: int, *, descending: bool, after: tuple[float | None, str] | None
    ) -> list[Entry]:
        def position(value: float | None, checkpoint: str) -> tuple[bool, float, str]:
            return value is None, (value or 0.0) * (-1 if descending else 1), checkpoint

        entries = sorted(self._of(ranking), key=lambda entry: position(entry.value, entry.checkpoint_id))
        return [each for each in entries if after is None or position(each.value, each[0]) > position(*after)][:limit]

    def count(self, ranking: Ranking) -> int:
        return len(self._of(ranking))

    def count_beyond(self, ranking: Ranking, value: float, *, higher: bool) -> int:
        values = [entry.value for entry in self._of(ranking) if entry.value is not None]
        return sum(other > value if higher else other < value for other in values)

    def count_equal(self, ranking: Ranking, values: list[float]) -> dict[float, int]:
        return Counter(entry.value for entry in self._of(ranking) if entry.value in values)

    def _of(self, ranking: Ranking) -> list[Entry]:
        return self.entries(ranking.space_id, ranking.benchmark_id, ranking.revision, ranking.metric, describe=False)

    def of_checkpoint(self, space_id: str, checkpoint: str) -> list[Score]:
        pairs = [pair for pair in self._values if pair[0] == checkpoint]
        return list(self.get_many(space_id, pairs).values())

    def get_many(self, space_id: str, pairs: list[tuple[str, str]]) -> dict[tuple[str, str], Score]:
        return {
            (checkpoint, board): Score(
                checkpoint, board, 1, "e", {MetricName.KS: self._values[checkpoint, board]}, "n", "t", "a", "2026-01-01"
            )
            for checkpoint, board in pairs
        }


class FakeBenchmarks:
    def known(self, space_id: str, benchmark_ids: list[str]) -> dict[str, KnownBenchmark]:
        return {benchmark_id: KnownBenchmark(benchmark_id, 1, False) for benchmark_id in benchmark_ids}


def walk(service: LeaderboardService, limit: int, direction: Direction) -> tuple[list[LeaderboardRow], set[int]]:
    rows: list[LeaderboardRow] = []
    counts = set()
    after = ""
    while True:
        page = service.list_rows(
            SCOPE, LeaderboardQuery(metric=MetricName.KS, direction=direction, limit=limit, after=after)
        )
        assert len(page.data) <= limit
        rows += page.data
        counts.add(page.count)
        if not page.has_more:
            return rows, counts
        assert len(page.data) == limit
        after = page.data[-1].id


@pytest.mark.row("LB-1", "C-7", "C-9")
@settings(deadline=None, max_examples=60)
@given(results=boards, limit=st.integers(1, 40), direction=st.sampled_from(Direction))
def test_every_page_walk_yields_each_row_once_in_order(
    results: dict[str, dict[int, float | None]], limit: int, direction: Direction
) -> None:
    service = LeaderboardService(FakeScores(results), FakeBenchmarks())  # type: ignore[arg-type]

    rows, counts = walk(service, limit, direction)

    expected = {checkpoint_id(number) for scores in results.values() for number in scores}
    assert Counter(row.id for row in rows) == Counter(expected)
    assert counts == {len(expected)}
    ordered = [row.average[MetricName.KS] for row in rows]
    present = [value for value in ordered if value is not None]
    assert ordered[len(present) :] == [None] * (len(rows) - len(present))
    assert present == sorted(present, reverse=direction is Direction.DESCENDING)
    for before, behind in pairwise(rows):
        if before.average == behind.average:
            assert before.id < behind.id
            assert before.rank == behind.rank
    for row in rows:
        value = row.average[MetricName.KS]
        assert row.rank == (None if value is None else 1 + sum(other > value for other in present))
