"""Rules of inference logs: which periods can be asked for."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from shared.clock import Clock
from shared.errors import Detail, ValidationFailedError
from shared.inference_logs.store import InferenceLogs
from shared.models.base import Page
from shared.models.inference_log import InferenceLog, InferenceSummary, LogFilters
from shared.spaces.members import SpaceContext

DEFAULT_PERIOD = timedelta(days=30)


class InferenceLogService:
    def __init__(self, logs: InferenceLogs, clock: Clock) -> None:
        self._logs = logs
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
        _check_period(filters)
        end = filters.end_date or max(self._clock(), filters.start_date or _EARLIEST)
        start = filters.start_date or max(end, _EARLIEST + DEFAULT_PERIOD) - DEFAULT_PERIOD
        return self._logs.summary(context.space_id, replace(filters, start_date=start, end_date=end))


_EARLIEST = datetime.min.replace(tzinfo=UTC)


def _check_period(filters: LogFilters) -> None:
    if filters.start_date and filters.end_date and filters.end_date < filters.start_date:
        raise ValidationFailedError(
            "query.end_date: is before start_date; swap them",
            [Detail("query.start_date", "is after end_date"), Detail("query.end_date", "is before start_date")],
        )
