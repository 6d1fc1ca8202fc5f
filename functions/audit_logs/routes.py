"""The audit log over HTTP."""

from typing import Annotated

from fastapi import Depends, Query, Response

from functions.audit_logs.service import AuditLogService
from shared.audit.store import AuditFilters
from shared.dependencies import CurrentResources
from shared.http.errors import errors
from shared.http.parameters import After, Limit
from shared.http.routers import CurrentContext, GroupRouter
from shared.models.audit_log import AuditFormat, AuditPage, AuditVerification
from shared.models.base import EndTimestamp, Timestamp

router = GroupRouter("audit-logs")
MAX_SEQUENCE = 10**11
_TYPES = {AuditFormat.JSON_LINES: "application/x-ndjson", AuditFormat.CSV: "text/csv; charset=utf-8"}


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

    A write shows within seconds. Rows are kept for 400 days unless the deployment says otherwise. With several filters
    a request searches at most 1,000 rows: go on with `next_after` while `has_more` is true.
    """
    return service.list_after(context, filters, after, limit)


@router.get(
    "/export",
    extension=True,
    response_class=Response,
    responses=errors(403) | {200: {"content": {"application/x-ndjson": {}, "text/csv": {}}}},
)
def export_audit_logs(
    context: CurrentContext,
    service: CurrentAuditLogService,
    file_format: Annotated[
        AuditFormat, Query(alias="format", description="JSON Lines or CSV.")
    ] = AuditFormat.JSON_LINES,
    after_sequence: Annotated[int, Query(ge=0, le=MAX_SEQUENCE, description="The `X-Next-Sequence` of an export.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000, description="Rows a file.")] = 1000,
) -> Response:
    """Export the audit log in the order of its chain. `X-Next-Sequence` says where more rows begin."""
    text, last = service.export(context, file_format, after_sequence, limit)
    headers = {"Content-Disposition": f'attachment; filename="audit-log-{after_sequence}.{file_format}"'}
    return Response(
        text, headers=headers | ({"X-Next-Sequence": str(last)} if last else {}), media_type=_TYPES[file_format]
    )


@router.get("/verification", extension=True, responses=errors(403))
def verify_audit_logs(
    context: CurrentContext,
    service: CurrentAuditLogService,
    after_sequence: Annotated[int, Query(ge=0, le=MAX_SEQUENCE, description="The `last` of an earlier check.")] = 0,
    known_hash: Annotated[
        str, Query(alias="hash", pattern="^([0-9a-f]{64})?$", description="The `hash` of that check.")
    ] = "",
) -> AuditVerification:
    """Check the chain of the audit log: that no row was changed, added, moved, or removed before its time."""
    return service.verify(context, after_sequence, known_hash or None)
