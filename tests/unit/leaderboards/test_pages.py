"""The pages of a leaderboard contain each row once, for any scores."""

import math
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functions.leaderboards.service import LeaderboardService
from shared.evaluations.benchmarks import KnownBenchmark
from shared.evaluations.scores import Ranking, Score, ScoreEntry
from shared.models.base import format_timestamp
from shared.models.job import MetricName
from shared.models.leaderboard import Direction, LeaderboardQuery, LeaderboardRow
from shared.spaces.members import SpaceContext

CONTEXT = SpaceContext(space_id="space", user_id="user", is_owner=True)

# Few values cause ties.
values = st.one_of(st.none(), st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.floats(0, 1))
boards = st.dictionaries(
    st.uuids().map(str), st.dictionaries(st.integers(0, 30), values, max_size=25), min_size=1, max_size=3
)


def checkpoint_id(number: int) -> str:
    return str(UUID(int=number * 7919 % 101))


def made_at(number: int) -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(microseconds=number)


# The fields of checkpoints that filters use.
DESCRIBED: dict[str, dict[str, Any]] = {
    checkpoint_id(number): {
        "name": ("Churn", "CHURN Ä", "Loans ä")[number % 3],
        "training_id": ("first", "second")[number % 2],
        "architecture": ("lightgbm", "xgboost")[number % 5 % 2],
        "created_at": format_timestamp(made_at(number)),
    }
    for number in range(31)
}


class FakeScores:
    """A fake of the score store that reads from a dictionary."""

    def __init__(self, results: dict[str, dict[int, float | None]]) -> None:
        self._values = {
            (checkpoint_id(number), benchmark): value
            for benchmark, scores in results.items()
            for number, value in scores.items()
        }

    def benchmark_ids(self, space_id: str, limit: int) -> list[str]:
        return sorted({benchmark for _, benchmark in self._values})

    def entries(self, space_id: str, benchmark_id: str, revision: int, metric: MetricName) -> list[ScoreEntry]:
        return [
            ScoreEntry(checkpoint, value, **DESCRIBED[checkpoint])
            for (checkpoint, board), value in self._values.items()
            if board == benchmark_id
        ]

    def page(
        self, ranking: Ranking, limit: int, *, descending: bool, after: tuple[float | None, str] | None
    ) -> list[ScoreEntry]:
        def position(value: float | None, checkpoint: str) -> tuple[bool, float, str]:
            return value is None, (value or 0.0) * (-1 if descending else 1), checkpoint

        entries = sorted(self._of(ranking), key=lambda entry: position(entry.value, entry.checkpoint_id))
        return [each for each in entries if after is None or position(each.value, each[0]) > position(*after)][:limit]

    def count(self, ranking: Ranking) -> int:
        return len(self._of(ranking))

    def count_beyond(self, ranking: Ranking, value: float, *, higher: bool) -> int:
        values = [entry.value for entry in self._of(ranking) if entry.value is not None]
        return sum(other > value if higher else other < value for other in values)

    def better(self, ranking: Ranking, value: float, limit: int, *, higher: bool) -> list[ScoreEntry]:
        entries = [each for each in self._of(ranking) if each.value is not None and each.value != value]
        found = [each for each in entries if ((each.value or 0.0) > value) is higher]
        return sorted(found, key=lambda each: (abs((each.value or 0.0) - value), each.checkpoint_id))[:limit]

    def equal(self, ranking: Ranking, value: float, limit: int) -> list[ScoreEntry]:
        return sorted(each for each in self._of(ranking) if each.value == value)[:limit]

    def count_equal(self, ranking: Ranking, values: list[float]) -> dict[float, int]:
        return Counter(entry.value for entry in self._of(ranking) if entry.value in values)

    def _of(self, ranking: Ranking) -> list[ScoreEntry]:
        return self.entries(ranking.space_id, ranking.benchmark_id, ranking.revision, ranking.metric)

    def of_checkpoint(self, space_id: str, checkpoint: str) -> list[Score]:
        pairs = [pair for pair in self._values if pair[0] == checkpoint]
        return list(self.get_many(space_id, pairs).values())

    def get_many(self, space_id: str, pairs: list[tuple[str, str]]) -> dict[tuple[str, str], Score]:
        return {
            (checkpoint, board): Score(
                checkpoint, board, 1, "e", {MetricName.KS: self._values[checkpoint, board]}, **DESCRIBED[checkpoint]
            )
            for checkpoint, board in pairs
            if (checkpoint, board) in self._values
        }


class FakeBenchmarks:
    def known(self, space_id: str, benchmark_ids: list[str]) -> dict[str, KnownBenchmark]:
        return {benchmark_id: KnownBenchmark(benchmark_id, 1, False) for benchmark_id in benchmark_ids}


def service_of(results: dict[str, dict[int, float | None]]) -> LeaderboardService:
    scores = FakeScores(results)
    return LeaderboardService(scores, scores, FakeBenchmarks())  # type: ignore[arg-type]


def read_every_page(service: LeaderboardService, query: LeaderboardQuery) -> tuple[list[LeaderboardRow], set[int]]:
    rows: list[LeaderboardRow] = []
    counts = set()
    after = ""
    while True:
        page = service.list_rows(CONTEXT, replace(query, after=after))
        assert len(page.data) <= query.limit
        rows += page.data
        counts.add(page.count)
        if not page.has_more:
            return rows, counts
        assert len(page.data) == query.limit
        after = page.data[-1].id


@pytest.mark.row("LB-1", "C-7", "C-9")
@settings(deadline=None, max_examples=60)
@given(results=boards, limit=st.integers(1, 40), direction=st.sampled_from(Direction))
def test_reading_every_page_yields_each_row_once_in_order(
    results: dict[str, dict[int, float | None]], limit: int, direction: Direction
) -> None:
    service = service_of(results)

    rows, counts = read_every_page(service, LeaderboardQuery(metric=MetricName.KS, direction=direction, limit=limit))

    expected = {checkpoint_id(number) for scores in results.values() for number in scores}
    assert Counter(row.id for row in rows) == Counter(expected)
    assert counts == {len(expected)}
    ordered = [row.order_value for row in rows]
    present = [value for value in ordered if value is not None]
    assert ordered[len(present) :] == [None] * (len(rows) - len(present))
    assert present == sorted(present, reverse=direction is Direction.DESCENDING)
    for before, behind in pairwise(rows):
        if before.order_value == behind.order_value:
            assert before.id < behind.id
            assert before.rank == behind.rank
    for row in rows:
        value = row.order_value
        assert row.rank == (None if value is None else 1 + sum(other > value for other in present))


moments = st.none() | st.integers(-1, 31).map(made_at)


@st.composite
def filtered(draw: st.DrawFn, boards: list[str]) -> LeaderboardQuery:
    start, end = draw(moments), draw(moments)
    if start and end:
        start, end = sorted((start, end))
    return LeaderboardQuery(
        benchmark_ids=tuple(draw(st.lists(st.sampled_from(boards), unique=True))),
        training_ids=draw(st.sampled_from([(), ("first",), ("first", "none")])),
        model_id=draw(st.sampled_from([None, None, "lightgbm", checkpoint_id(4)])),
        name=draw(st.sampled_from([None, None, "churn", "Ä", "s"])),
        start_date=start,
        end_date=end,
        metric=MetricName.KS,
        metric_benchmark_id=draw(st.none() | st.sampled_from(boards)),
        direction=draw(st.sampled_from(Direction)),
        limit=draw(st.integers(1, 9)),
    )


@pytest.mark.row("LB-1", "C-7", "C-9")
@settings(deadline=None, max_examples=60)
@given(results=boards, data=st.data())
def test_the_pages_of_any_filter_equal_the_filtered_list(
    results: dict[str, dict[int, float | None]], data: st.DataObject
) -> None:
    query = data.draw(filtered(sorted(results)))
    chosen = query.benchmark_ids or tuple(results)
    ordering = [query.metric_benchmark_id] if query.metric_benchmark_id else chosen
    present = {board: [value for value in results[board].values() if value is not None] for board in ordering}
    worst = {board: min(found) for board, found in present.items() if found}
    expected = []
    for number in {number for board in chosen for number in results[board]}:
        checkpoint, described = checkpoint_id(number), DESCRIBED[checkpoint_id(number)]
        values = [results[board].get(number) for board in ordering if board in worst]
        if (
            (not query.training_ids or described["training_id"] in query.training_ids)
            and query.model_id in (None, checkpoint, described["architecture"])
            and (query.name or "").lower() in described["name"].lower()
            and (query.start_date or made_at(0)) <= made_at(number) <= (query.end_date or made_at(31))
        ):
            is_missing = all(value is None for value in values)
            # A missing result counts as the worst one on its benchmark.
            counted = [each if each is not None else low for each, low in zip(values, worst.values(), strict=True)]
            value = 0.0 if is_missing else math.fsum(counted) / len(counted)
            signed = value if query.direction is Direction.ASCENDING else -value
            expected.append((is_missing, signed, checkpoint))

    rows, counts = read_every_page(service_of(results), query)

    assert [row.id for row in rows] == [checkpoint for _, _, checkpoint in sorted(expected)]
    assert counts == {len(expected)}
