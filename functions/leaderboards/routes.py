"""Leaderboards over HTTP."""

from typing import Annotated

from fastapi import Depends, Query
from pydantic import AfterValidator

from functions.leaderboards.service import LeaderboardService
from shared.dependencies import CurrentResources
from shared.evaluations.benchmarks import Benchmarks
from shared.evaluations.scores import Scores
from shared.http.errors import errors
from shared.http.parameters import After, Limit
from shared.http.routers import CurrentContext, GroupRouter
from shared.models.base import EndTimestamp, Page, Timestamp
from shared.models.job import MetricName
from shared.models.leaderboard import Direction, LeaderboardQuery, LeaderboardRow

router = GroupRouter("leaderboards")


async def _service(resources: CurrentResources) -> LeaderboardService:
    return LeaderboardService(Scores(resources.table), resources.boards, Benchmarks(resources.table))


def _split(values: list[str]) -> list[str]:
    parts = [part.strip() for value in values for part in value.split(",")]
    distinct = list(dict.fromkeys(part for part in parts if part))
    if len(distinct) > LeaderboardQuery.MAX_BENCHMARKS:
        raise ValueError(f"names {len(distinct)}: at most {LeaderboardQuery.MAX_BENCHMARKS} in one request")
    return distinct


Identifiers = Annotated[list[str], AfterValidator(_split)]


async def _query(
    limit: Limit = 10,
    after: After = "",
    model_id: Annotated[str, Query(max_length=200, description="A checkpoint's id, or an architecture.")] = "",
    benchmarks: Annotated[
        Identifiers, Query(description="Only results on these; repeated or comma-joined. All when left out.")
    ] = [],  # noqa: B006 - FastAPI copies it
    trainings: Annotated[Identifiers, Query(description="Only checkpoints of these trainings.")] = [],  # noqa: B006
    start_date: Annotated[Timestamp | None, Query(description="Only checkpoints made then or later.")] = None,
    end_date: Annotated[EndTimestamp | None, Query(description="Only checkpoints made then or earlier.")] = None,
    benchmark_id: Annotated[
        str,
        Query(
            alias="order_by_metric.benchmark_id",
            max_length=200,
            description="Order by the metric on this benchmark; by its average when left out.",
        ),
    ] = "",
    metric_name: Annotated[
        MetricName | None,
        Query(alias="order_by_metric.metric_name", description="The metric to order by; `roc_auc` when left out."),
    ] = None,
    direction: Annotated[
        Direction,
        Query(
            alias="order_by_metric.direction",
            description="Of the values; rows without one come last either way, and `rank` knows which is better.",
        ),
    ] = Direction.DESCENDING,
    name: Annotated[str, Query(max_length=200, description="Part of the checkpoint's name, in any case.")] = "",
) -> LeaderboardQuery:
    return LeaderboardQuery(
        benchmark_ids=tuple(benchmarks),
        training_ids=tuple(trainings),
        model_id=model_id or None,
        name=name or None,
        start_date=start_date,
        end_date=end_date,
        metric=metric_name,
        metric_benchmark_id=benchmark_id or None,
        direction=direction,
        limit=limit,
        after=after,
    )


CurrentLeaderboardService = Annotated[LeaderboardService, Depends(_service)]
Asked = Annotated[LeaderboardQuery, Depends(_query)]


@router.get("", responses=errors(403))
def list_leaderboards(
    context: CurrentContext, service: CurrentLeaderboardService, query: Asked
) -> Page[LeaderboardRow]:
    """Rank the checkpoints of the space by what they achieve on benchmarks.

    Without `order_by_metric` the order is by the average ROC AUC over the selected benchmarks. In it, a missing result
    counts as the worst one on its benchmark. Only results on a benchmark's current revision count. `count` is the
    number of all matching rows.
    """
    return service.list_rows(context, query)
