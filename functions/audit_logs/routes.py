"""The audit log over HTTP."""

from typing import Annotated

from fastapi import Depends, Query

from functions.audit_logs.service import AuditLogService
from shared.audit.store import AuditFilters
from shared.dependencies import CurrentResources
from shared.http.errors import errors
from shared.http.parameters import After, Limit
from shared.http.routers import CurrentContext, GroupRouter
from shared.models.audit_log import AuditPage
from shared.models.base import EndTimestamp, Timestamp

router = GroupRouter("audit-logs")


async def _service(resources: CurrentResources) -> AuditLogService:
    return AuditLogService(resources.audit_logs)


CurrentAuditLogService = Annotated[AuditLogService, Depends(_service)]


async def _filters(
    entity: Annotated[str, Query(max_length=64, description="Only writes of this kind, such as `training`.")] = "",
    entity_id: Annotated[str, Query(max_length=200, description="Only writes of this entity.")] = "",
    actor: Annotated[str, Query(max_length=200, description="Only writes by this user, or by `system`.")] = "",
    api_key_id: Annotated[str, Query(max_length=200, description="Only writes with this API key.")] = "",
    start_date: Annotated[Timestamp | None, Query(description="Only writes made then or later.")] = None,
    end_date: Annotated[
        EndTimestamp | None, Query(description="Only writes made then or earlier; a bare date means all of that day.")
    ] = None,
) -> AuditFilters:
    return AuditFilters(entity or None, entity_id or None, actor or None, start_date, end_date, api_key_id or None)


@router.get("", extension=True, responses=errors(403))
def list_audit_logs(
    context: CurrentContext,
    service: CurrentAuditLogService,
    filters: Annotated[AuditFilters, Depends(_filters)],
    limit: Limit = 10,
    after: After = "",
) -> AuditPage:
    """List who wrote what in the space, newest first.

    A write shows within seconds. Rows are kept for 400 days unless the deployment says otherwise.
    """
    return service.list_after(context, filters, after, limit)
