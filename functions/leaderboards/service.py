"""Rules of leaderboards: which checkpoints compete on what, in which order, and who leads."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from itertools import pairwise
from typing import NamedTuple

from functions.leaderboards.shared_ranks import COMPARED_ROWS, RankedPlace, Replicates, shared_rank
from shared.dynamodb.repository import cursor_id
from shared.errors import Detail, InvalidCursorError, ValidationFailedError
from shared.evaluations.benchmarks import Benchmarks, KnownBenchmark
from shared.evaluations.boards import Boards
from shared.evaluations.scores import Ranking, Score, ScoreEntry, Scores
from shared.models.base import Page, format_timestamp
from shared.models.job import LOWER_IS_BETTER, MetricName
from shared.models.leaderboard import Direction, LeaderboardQuery, LeaderboardRow, RankTest
from shared.space_binding import BoundThreads
from shared.spaces.members import SpaceContext

DEFAULT_METRIC = MetricName.ROC_AUC
PARALLEL_READS = 8

# Whether a value is missing, the value in the order asked for, the checkpoint's id.
Position = tuple[bool, float, str]


@dataclass(frozen=True)
class Board:
    """One benchmark: the entries of the checkpoints measured at its current revision, by checkpoint."""

    benchmark: KnownBenchmark
    entries: Mapping[str, ScoreEntry]


class OrderedEntry(NamedTuple):
    """A checkpoint and the value it is ordered by."""

    entry: ScoreEntry
    value: float | None

    def position(self, direction: Direction) -> Position:
        """Returns the sort key: values in the requested order, then equal and missing values by id."""
        if self.value is None:
            return True, 0.0, self.entry.checkpoint_id
        ordered = self.value if direction is Direction.ASCENDING else -self.value
        return False, ordered, self.entry.checkpoint_id


class Order(NamedTuple):
    """What rows are ordered by, and the rank of each value."""

    metric: MetricName
    benchmarks: Sequence[KnownBenchmark]
    ranks: Mapping[float, int]


class LeaderboardService:
    def __init__(self, scores: Scores, boards: Boards, benchmarks: Benchmarks) -> None:
        self._scores = scores
        self._all_results = boards
        self._benchmarks = benchmarks

    def list_rows(self, context: SpaceContext, query: LeaderboardQuery) -> Page[LeaderboardRow]:
        """Returns the checkpoints with results on the selected benchmarks, in the requested order.

        Only results on a benchmark's current revision count (on its last one if it was deleted). Raises
        ValidationFailedError for benchmarks that are not of the space and InvalidCursorError for an ``after`` that
        never was on a leaderboard.
        """
        _check(query)
        after = cursor_id(query.after)
        chosen, known = self._benchmarks_of(context, query)
        metric = query.metric or DEFAULT_METRIC
        if len(chosen) == 1 and query.metric_benchmark_id in (None, *chosen) and not query.is_filtered:
            [benchmark] = chosen.values()
            ranking = Ranking(context.space_id, benchmark.id, benchmark.revision, metric)
            return self._ranked_rows(context, query, benchmark, ranking, after)
        selected, ordering = self._boards(context, query, chosen, known)
        candidates = _candidates(selected, ordering, metric)
        matching = [candidate for candidate in candidates.values() if _matches(candidate.entry, query)]
        matching.sort(key=lambda candidate: candidate.position(query.direction))
        following = matching
        if after is not None:
            last = candidates.get(after) or self._former_candidate(
                context, after, _worst_values(ordering, metric), metric
            )
            position = last.position(query.direction)
            following = [candidate for candidate in matching if candidate.position(query.direction) > position]
        page, ranks = following[: query.limit], _ranks(matching, metric)
        benchmarks = {
            candidate.entry.checkpoint_id: [
                board.benchmark for board in selected if candidate.entry.checkpoint_id in board.entries
            ]
            for candidate in page
        }
        compared = [*_above(matching, page, metric), *page]
        order = Order(metric, [board.benchmark for board in ordering], ranks)
        return Page(
            count=len(matching),
            data=self._rows(context, page, benchmarks, compared, order, len(selected)),
            has_more=len(following) > len(page),
        )

    def _ranked_rows(
        self,
        context: SpaceContext,
        query: LeaderboardQuery,
        benchmark: KnownBenchmark,
        ranking: Ranking,
        after: str | None,
    ) -> Page[LeaderboardRow]:
        """Returns the rows of a single benchmark without filters. Its index has the requested order at any size."""
        last = after and self._former_candidate(context, after, {benchmark.id: None}, ranking.metric)
        descending = query.direction is Direction.DESCENDING
        entries = self._scores.page(
            ranking,
            query.limit + 1,
            descending=descending,
            after=(last.value, last.entry.checkpoint_id) if last else None,
        )
        page = [OrderedEntry(entry, entry.value) for entry in entries[: query.limit]]
        benchmarks = {candidate.entry.checkpoint_id: [benchmark] for candidate in page}
        ranks = self._counted_ranks(ranking, page, descending=descending)
        compared = [*self._next_better(ranking, ranks, page), *page]
        order = Order(ranking.metric, [benchmark], ranks)
        return Page(
            count=self._scores.count(ranking),
            data=self._rows(context, page, benchmarks, compared, order, 1),
            has_more=len(entries) > len(page),
        )

    def _next_better(
        self, ranking: Ranking, ranks: dict[float, int], page: Sequence[OrderedEntry]
    ) -> list[OrderedEntry]:
        """Returns the rows next above the best ones of the page, and adds their values to the ranks.

        A page may end within rows of equal values: the first of these by their ids are returned, too.
        """
        best = min(ranks, key=lambda value: ranks[value], default=None)
        if best is None:
            return []
        shown = {row.entry.checkpoint_id for row in page}
        equals = self._scores.equal(ranking, best, COMPARED_ROWS)
        beside = [OrderedEntry(each, each.value) for each in equals if each.checkpoint_id not in shown]
        if ranks[best] == 1:
            return beside
        higher = ranking.metric not in LOWER_IS_BETTER
        entries = self._scores.better(ranking, best, COMPARED_ROWS, higher=higher)
        values = list(dict.fromkeys(each.value for each in entries if each.value is not None))
        equal = self._scores.count_equal(ranking, values)
        rank = ranks[best]
        for value in values:
            # Another request may have written between the two reads.
            rank = max(rank - equal[value], 1)
            ranks[value] = rank
        return [*beside, *(OrderedEntry(entry, entry.value) for entry in entries)]

    def _counted_ranks(self, ranking: Ranking, page: Sequence[OrderedEntry], *, descending: bool) -> dict[float, int]:
        """Returns the ranks of a page's values: counted for the first, then by how many share each value."""
        values = list(dict.fromkeys(candidate.value for candidate in page if candidate.value is not None))
        if not values:
            return {}
        higher_is_better = ranking.metric not in LOWER_IS_BETTER
        better = self._scores.count_beyond(ranking, values[0], higher=higher_is_better)
        equal = self._scores.count_equal(ranking, values)
        ranks = {values[0]: better + 1}
        for before, value in pairwise(values):
            better += equal[before] if descending is higher_is_better else -equal[value]
            ranks[value] = better + 1
        return ranks

    def _benchmarks_of(
        self, context: SpaceContext, query: LeaderboardQuery
    ) -> tuple[dict[str, KnownBenchmark], dict[str, KnownBenchmark]]:
        """Returns the benchmarks of the rows, and these with the benchmark of the order."""
        chosen = query.benchmark_ids or self._scores.benchmark_ids(context.space_id, LeaderboardQuery.MAX_BENCHMARKS)
        named = [query.metric_benchmark_id] if query.metric_benchmark_id else []
        known = self._benchmarks.known(context.space_id, [*chosen, *named])
        _require("query.benchmarks", query.benchmark_ids, known)
        _require("query.order_by_metric.benchmark_id", named, known)
        return {each: known[each] for each in dict.fromkeys(chosen) if each in known}, known

    def _boards(
        self,
        context: SpaceContext,
        query: LeaderboardQuery,
        chosen: Mapping[str, KnownBenchmark],
        known: Mapping[str, KnownBenchmark],
    ) -> tuple[list[Board], list[Board]]:
        """Returns the boards that rows are made of, and those that their order is made of."""
        metric = query.metric or DEFAULT_METRIC

        def read(benchmark: KnownBenchmark) -> Board:
            entries = self._all_results.entries(context.space_id, benchmark.id, benchmark.revision, metric)
            return Board(benchmark, {entry.checkpoint_id: entry for entry in entries})

        with BoundThreads(PARALLEL_READS) as pool:
            boards = dict(zip(known, pool.map(read, known.values()), strict=True))
        selected = [boards[benchmark_id] for benchmark_id in chosen]
        return selected, [boards[query.metric_benchmark_id]] if query.metric_benchmark_id else selected

    def _former_candidate(
        self, context: SpaceContext, checkpoint_id: str, worst: Mapping[str, float | None], metric: MetricName
    ) -> OrderedEntry:
        """Returns the place of a checkpoint by its newest results, also after the boards lost it."""
        scores = self._scores.of_checkpoint(context.space_id, checkpoint_id)
        if not scores:
            raise InvalidCursorError("after: no leaderboard has had this row; leave it out to start from the first")
        value = _order_value({score.benchmark_id: score.metrics.get(metric) for score in scores}, worst)
        return OrderedEntry(ScoreEntry(checkpoint_id, value), value)

    def _rows(
        self,
        context: SpaceContext,
        page: Sequence[OrderedEntry],
        benchmarks: Mapping[str, Sequence[KnownBenchmark]],
        compared: Sequence[OrderedEntry],
        order: Order,
        benchmark_count: int,
    ) -> list[LeaderboardRow]:
        """Returns the rows of a page; ``benchmarks`` are those that each checkpoint was measured on."""
        shown = [(checkpoint_id, each.id) for checkpoint_id, those in benchmarks.items() for each in those]
        ordered = [(row.entry.checkpoint_id, each.id) for row in compared for each in order.benchmarks]
        found = self._scores.get_many(context.space_id, dict.fromkeys([*shown, *ordered]))
        places = _places(compared, order, found)
        rows = []
        for candidate in page:
            checkpoint_id = candidate.entry.checkpoint_id
            scores = [found[checkpoint_id, each.id] for each in benchmarks[checkpoint_id]]
            revisions = {each.id: each.revision for each in benchmarks[checkpoint_id]}
            current = [score for score in scores if score.revision == revisions[score.benchmark_id]]
            rows.append(_row(scores[0], current, places.get(checkpoint_id), places, benchmark_count))
        return rows


def _places(
    rows: Iterable[OrderedEntry], order: Order, found: Mapping[tuple[str, str], Score]
) -> dict[str, RankedPlace]:
    """Returns the places of the rows that have a value, with what separates them, by checkpoint."""
    compared = MetricName.ROC_AUC if order.metric is MetricName.GINI else order.metric
    places = {}
    for row in rows:
        if row.value is None:
            continue
        scores = [(found.get((row.entry.checkpoint_id, each.id)), each.revision) for each in order.benchmarks]
        current = [score.uncertainty.resamples for score, revision in scores if score and score.revision == revision]
        known = [each[compared] for each in current if compared in each]
        # Averages over other benchmarks are not compared.
        replicates = Replicates(known, order.metric) if len(known) == len(order.benchmarks) else None
        checkpoint_id = row.entry.checkpoint_id
        places[checkpoint_id] = RankedPlace(checkpoint_id, row.value, order.ranks[row.value], replicates)
    return places


def _check(query: LeaderboardQuery) -> None:
    if query.metric_benchmark_id and query.metric is None:
        raise ValidationFailedError.of(
            "query.order_by_metric.benchmark_id", "needs order_by_metric.metric_name: say which metric to order by"
        )
    if query.start_date and query.end_date and query.end_date < query.start_date:
        raise ValidationFailedError.of("query.end_date", "is before start_date")


def _require(field: str, wanted: Iterable[str], known: Mapping[str, KnownBenchmark]) -> None:
    unknown = [benchmark_id for benchmark_id in wanted if benchmark_id not in known]
    if unknown:
        raise ValidationFailedError(
            f"{field}: there is no benchmark {', '.join(unknown)} in the space; GET /benchmarks lists them",
            [Detail(field, f"there is no benchmark {benchmark_id}") for benchmark_id in unknown],
        )


def _candidates(selected: Sequence[Board], ordering: Sequence[Board], metric: MetricName) -> dict[str, OrderedEntry]:
    entries = {checkpoint_id: entry for board in selected for checkpoint_id, entry in board.entries.items()}
    worst = _worst_values(ordering, metric)
    values: dict[str, dict[str, float | None]] = {checkpoint_id: {} for checkpoint_id in entries}
    for board in ordering:
        for checkpoint_id in board.entries.keys() & entries.keys():
            values[checkpoint_id][board.benchmark.id] = board.entries[checkpoint_id].value
    return {
        checkpoint_id: OrderedEntry(entry, _order_value(values[checkpoint_id], worst))
        for checkpoint_id, entry in entries.items()
    }


def _worst_values(boards: Iterable[Board], metric: MetricName) -> dict[str, float | None]:
    """Returns the worst value on each board that has one."""
    worst_of = max if metric in LOWER_IS_BETTER else min
    found = {each.benchmark.id: [entry.value for entry in each.entries.values()] for each in boards}
    present = {each: [value for value in values if value is not None] for each, values in found.items()}
    return {each: worst_of(values) for each, values in present.items() if values}


def _order_value(values: Mapping[str, float | None], worst: Mapping[str, float | None]) -> float | None:
    """Returns the mean of the values, in which a missing one counts as the worst on its benchmark.

    So nobody gains from a benchmark on which they were not evaluated. Without any value, it is ``None``.
    """
    if all(values.get(each) is None for each in worst):
        return None
    return _mean(values[each] if values.get(each) is not None else worst[each] for each in worst)


def _matches(entry: ScoreEntry, query: LeaderboardQuery) -> bool:
    return (
        (query.model_id is None or query.model_id in (entry.checkpoint_id, entry.architecture))
        and (not query.training_ids or entry.training_id in query.training_ids)
        and (query.name is None or query.name.casefold() in entry.name.casefold())
        and (query.start_date is None or entry.created_at >= format_timestamp(query.start_date))
        and (query.end_date is None or entry.created_at <= format_timestamp(query.end_date))
    )


def _ranks(candidates: Iterable[OrderedEntry], metric: MetricName) -> dict[float, int]:
    """Returns the rank of each value, 1 for the best. Equal values share a rank and leave a gap."""
    values = [candidate.value for candidate in candidates if candidate.value is not None]
    values.sort(reverse=metric not in LOWER_IS_BETTER)
    ranks: dict[float, int] = {}
    for place, value in enumerate(values, start=1):
        ranks.setdefault(value, place)
    return ranks


def _above(matching: Sequence[OrderedEntry], page: Sequence[OrderedEntry], metric: MetricName) -> list[OrderedEntry]:
    """Returns the rows next above the best ones of the page, and the first ones with their value that it lacks."""
    sign = -1 if metric in LOWER_IS_BETTER else 1
    best = max((sign * row.value for row in page if row.value is not None), default=math.inf)
    shown = {row.entry.checkpoint_id for row in page}
    keyed = [(sign * row.value, row.entry.checkpoint_id, row) for row in matching if row.value is not None]
    better = nsmallest(COMPARED_ROWS, (each for each in keyed if each[0] > best))
    equals = nsmallest(COMPARED_ROWS, (each for each in keyed if each[0] == best))
    return [row for _, checkpoint_id, row in (*equals, *better) if checkpoint_id not in shown]


def _row(
    checkpoint: Score,
    scores: Sequence[Score],
    place: RankedPlace | None,
    places: Mapping[str, RankedPlace],
    benchmark_count: int,
) -> LeaderboardRow:
    """Returns one row; ``checkpoint`` is any of the checkpoint's scores, ``scores`` are those that count."""
    measured = [metric for metric in MetricName if any(metric in score.metrics for score in scores)]
    return LeaderboardRow.model_validate(
        {
            "rank": place and shared_rank(place, [each for each in places.values() if each.rank < place.rank]),
            "rank_test": RankTest.PAIRED_BOOTSTRAP if place and place.replicates else RankTest.VALUES,
            "id": checkpoint.checkpoint_id,
            "name": checkpoint.name,
            "training_id": checkpoint.training_id,
            "architecture": checkpoint.architecture,
            "benchmarks": {score.benchmark_id: score.metrics for score in scores},
            "intervals": {score.benchmark_id: score.uncertainty.intervals for score in scores},
            "average": {metric: _mean(score.metrics.get(metric) for score in scores) for metric in measured},
            "order_value": place and place.value,
            "coverage": len(scores) / benchmark_count,
            "evaluations": {score.benchmark_id: score.evaluation_id for score in scores},
            "warnings": list(dict.fromkeys(warning for score in scores for warning in score.warnings)),
            "created_at": checkpoint.created_at,
        }
    )


def _mean(values: Iterable[float | None]) -> float | None:
    """Returns the mean of the existing values. The sum is exact and so independent of the order."""
    present = [value for value in values if value is not None]
    return math.fsum(present) / len(present) if present else None
