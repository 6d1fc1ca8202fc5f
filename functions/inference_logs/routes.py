"""Inference logs over HTTP."""

from dataclasses import replace
from typing import Annotated

from fastapi import Depends, Query

from functions.inference_logs.service import InferenceLogService
from functions.inference_logs.usage import UsageReader
from shared.dependencies import CurrentResources
from shared.http.parameters import PageNumber, page_number
from shared.http.routers import CurrentContext, GroupRouter
from shared.models.base import EndTimestamp, Page, Timestamp
from shared.models.inference_log import (
    MAX_NAME_LENGTH,
    CallStatus,
    CallType,
    InferenceLog,
    InferenceSummary,
    InferenceUsage,
    LogFilters,
    UsageGroup,
)
from shared.spaces.members import Members

router = GroupRouter("inference-logs")


async def _service(resources: CurrentResources) -> InferenceLogService:
    usage = UsageReader(resources.inference_logs, Members(resources.table, resources.clock))
    return InferenceLogService(resources.inference_logs, usage, resources.clock)


CurrentInferenceLogService = Annotated[InferenceLogService, Depends(_service)]
StartDate = Annotated[Timestamp | None, Query(description="Only calls made then or later.")]
EndDate = Annotated[
    EndTimestamp | None, Query(description="Only calls made then or earlier; a bare date means all of that day.")
]
UserFilter = Annotated[str, Query(max_length=MAX_NAME_LENGTH, description="Only calls of this user.")]
ModelFilter = Annotated[str, Query(max_length=MAX_NAME_LENGTH, description="Only calls to this model.")]
TypeFilter = Annotated[CallType | None, Query(description="Only calls made for this.")]
CorrelationId = Annotated[
    str, Query(max_length=MAX_NAME_LENGTH, description="Only calls made in the course of this request.")
]


async def _summary_filters(
    start_date: StartDate = None,
    end_date: EndDate = None,
    user: UserFilter = "",
    model: ModelFilter = "",
    type: TypeFilter = None,
    correlation_id: CorrelationId = "",
) -> LogFilters:
    return LogFilters(
        start_date=start_date,
        end_date=end_date,
        user=user or None,
        model=model or None,
        type=type,
        correlation_id=correlation_id or None,
    )


async def _list_filters(
    shared: Annotated[LogFilters, Depends(_summary_filters)],
    status: Annotated[CallStatus | None, Query(description="Only calls that ended so.")] = None,
    tag: Annotated[str, Query(max_length=MAX_NAME_LENGTH, description="Only calls with this tag.")] = "",
) -> LogFilters:
    return replace(shared, status=status, tag=tag or None)


@router.get("")
def list_inference_logs(
    context: CurrentContext,
    service: CurrentInferenceLogService,
    filters: Annotated[LogFilters, Depends(_list_filters)],
    page: PageNumber = page_number("page_size", 20),
) -> Page[InferenceLog]:
    """List the calls to language models, newest first.

    Logs are kept for 90 days unless the deployment says otherwise.
    """
    return service.list_logs(context, filters, page.number, page.size)


@router.get("/summary")
def summarise_inference_logs(
    context: CurrentContext,
    service: CurrentInferenceLogService,
    filters: Annotated[LogFilters, Depends(_summary_filters)],
) -> InferenceSummary:
    """Add up the calls to language models over a period, by default the last 30 days.

    The answer says which period was counted.
    """
    return service.summarise(context, filters)


@router.get("/usage", extension=True)
def add_up_inference_logs(
    context: CurrentContext,
    service: CurrentInferenceLogService,
    filters: Annotated[LogFilters, Depends(_summary_filters)],
    by: Annotated[UsageGroup, Query(description="What usage is added up by.")] = UsageGroup.DAY,
) -> InferenceUsage:
    """Add up calls, tokens, latency and cost by day, hour, model, type or user, by default over the last 30 days."""
    return service.add_up(context, filters, by)
