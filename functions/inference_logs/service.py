"""Rules of inference logs: which periods can be asked for."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from functions.inference_logs.usage import UsageReader
from shared.clock import Clock
from shared.errors import Detail, ValidationFailedError
from shared.inference_logs.store import InferenceLogs
from shared.models.base import Page
from shared.models.inference_log import InferenceLog, InferenceSummary, InferenceUsage, LogFilters, UsageGroup
from shared.models.limits import SpaceLimits
from shared.spaces.members import SpaceContext

DEFAULT_PERIOD = timedelta(days=30)


class InferenceLogService:
    def __init__(self, logs: InferenceLogs, usage: UsageReader, clock: Clock) -> None:
        self._logs = logs
        self._usage = usage
        self._clock = clock

    def list_logs(self, context: SpaceContext, filters: LogFilters, page: int, page_size: int) -> Page[InferenceLog]:
        """Returns the calls that match, newest first.

        Raises ValidationFailedError for a period that ends before it starts.
        """
        _check_period(filters)
        return self._logs.page(context.space_id, filters, page, page_size)

    def summarise(self, context: SpaceContext, filters: LogFilters) -> InferenceSummary:
        """Returns the sums of the matching calls. Without a ``start_date`` it covers the last 30 days before the end.

        Raises ValidationFailedError for a period that ends before it starts.
        """
        return self._logs.summary(context.space_id, self._within_period(filters))

    def add_up(self, context: SpaceContext, filters: LogFilters, by: UsageGroup) -> InferenceUsage:
        """Returns the usage of each group in the period of ``summarise``.

        Raises ValidationFailedError for a period that ends before it starts.
        """
        within = self._within_period(filters)
        rows = self._usage.rows(context.space_id, within, by, context.limits or SpaceLimits())
        return InferenceUsage(data=rows, period_start_date=within.start_date, period_end_date=within.end_date)

    def _within_period(self, filters: LogFilters) -> LogFilters:
        _check_period(filters)
        end = filters.end_date or max(self._clock(), filters.start_date or _EARLIEST)
        start = filters.start_date or max(end, _EARLIEST + DEFAULT_PERIOD) - DEFAULT_PERIOD
        return replace(filters, start_date=start, end_date=end)


_EARLIEST = datetime.min.replace(tzinfo=UTC)


def _check_period(filters: LogFilters) -> None:
    if filters.start_date and filters.end_date and filters.end_date < filters.start_date:
        raise ValidationFailedError(
            "query.end_date: is before start_date; swap them",
            [Detail("query.start_date", "is after end_date"), Detail("query.end_date", "is before start_date")],
        )
