"""Rules of the audit log: the owner of the space reads it, nobody writes it."""

from shared.audit.store import AuditFilters, AuditLogs
from shared.errors import Detail, ValidationFailedError
from shared.models.audit_log import AuditPage
from shared.spaces.members import SpaceContext


class AuditLogService:
    def __init__(self, logs: AuditLogs) -> None:
        self._logs = logs

    def list_after(self, context: SpaceContext, filters: AuditFilters, after: str, limit: int) -> AuditPage:
        """Returns the writes that match, newest first.

        Raises ValidationFailedError for a period that ends before it starts.
        """
        if filters.start_date and filters.end_date and filters.end_date < filters.start_date:
            raise ValidationFailedError(
                "query.end_date: is before start_date; swap them",
                [Detail("query.start_date", "is after end_date"), Detail("query.end_date", "is before start_date")],
            )
        return self._logs.list_after(context.space_id, filters, after, limit)
