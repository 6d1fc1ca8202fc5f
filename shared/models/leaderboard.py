"""Leaderboards: checkpoints ordered by their results on benchmarks."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from shared.models.base import Model, Timestamp
from shared.models.job import Interval, MetricName


class Direction(StrEnum):
    ASCENDING = "asc"
    DESCENDING = "desc"


class RankTest(StrEnum):
    """How a row is compared with others.

    ``paired_bootstrap``: the difference is more than twice its error in a bootstrap in which all models share the
    random signs of the rows. ``values``: only by its value, if an evaluation is of an earlier version or missing.
    """

    PAIRED_BOOTSTRAP = "paired_bootstrap"
    VALUES = "values"


class LeaderboardRow(Model):
    """One checkpoint. ``id`` is the checkpoint's."""

    rank: int | None = Field(
        description="rank among the matching rows by the metric ordered by; 1 is the best in both directions; a row "
        "shares the rank of the best of the 20 rows above it from which a paired test can't tell it apart (95%); equal "
        "values share a rank, and a row without a value has no rank"
    )
    id: str
    name: str
    training_id: str
    architecture: str
    benchmarks: dict[str, dict[MetricName, float | None]] = Field(description="metrics of each selected benchmark")
    intervals: dict[str, dict[MetricName, Interval]] = Field(
        default_factory=dict, description="95% intervals of these metrics; none for evaluations of earlier versions"
    )
    rank_test: RankTest = Field(description="how the row was compared with those above it")
    average: dict[MetricName, float | None] = Field(
        description="mean over the selected benchmarks that have a value for the checkpoint"
    )
    order_value: float | None = Field(
        description="what the row is ordered by: the metric, or its mean over the selected benchmarks; a missing value "
        "counts as the worst one on its benchmark"
    )
    coverage: float = Field(description="share of the selected benchmarks that the checkpoint was evaluated on, 0 to 1")
    evaluations: dict[str, str] = Field(description="the evaluation that measured it, for each benchmark")
    warnings: list[str] = Field(
        default_factory=list, description="doubts about the data of the selected benchmarks, from these evaluations"
    )
    created_at: Timestamp


@dataclass(frozen=True)
class LeaderboardQuery:
    """Filters and order of a leaderboard. An empty value or None does not filter.

    Without ``metric_benchmark_id`` the order is by the average over the benchmarks. Nobody gains from a missing result.
    """

    # Without a selection, the newest benchmarks with results are taken, up to this number.
    MAX_BENCHMARKS: ClassVar[int] = 100

    benchmark_ids: tuple[str, ...] = ()
    training_ids: tuple[str, ...] = ()
    model_id: str | None = None
    name: str | None = None
    start_date: datetime | None = None
    end_date: datetime | None = None
    metric: MetricName | None = None
    metric_benchmark_id: str | None = None
    direction: Direction = Direction.DESCENDING
    limit: int = 10
    after: str = ""

    @property
    def is_filtered(self) -> bool:
        return any((self.training_ids, self.model_id, self.name, self.start_date, self.end_date))
