"""Rules of the audit log: the owners of the space read it, nobody writes it."""

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from shared.audit.store import AuditFilters, AuditLogs
from shared.dynamodb.time_ordered_ids import made_at
from shared.errors import Detail, ValidationFailedError
from shared.models.audit_log import AuditFormat, AuditPage, AuditVerification
from shared.models.base import format_timestamp
from shared.spaces.members import SpaceContext

VERIFIED_AT_ONCE = 5000
_COLUMNS = (
    "sequence",
    "id",
    "created_at",
    "actor",
    "api_key_id",
    "action",
    "entity",
    "entity_id",
    "before",
    "after",
    "expires_at",
    "previous_expires_at",
    "previous_hash",
    "hash",
)


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

    def export(self, context: SpaceContext, file_format: AuditFormat, after: int, limit: int) -> tuple[str, int | None]:
        """Returns the rows that follow in the chain as a file, and the sequence of the last one; ``None`` at the end.

        ``before`` and ``after`` are the JSON texts that the hash covers.
        """
        rows = self._logs.chained(context.space_id, after, limit + 1)
        last = int(rows[limit - 1]["sequence"]) if len(rows) > limit else None
        return _WRITERS[file_format]([_exported(row) for row in rows[:limit]]), last

    def verify(self, context: SpaceContext, after: int, known_hash: str | None) -> AuditVerification:
        return self._logs.verify(context.space_id, after, known_hash, VERIFIED_AT_ONCE)


def _exported(row: dict[str, Any]) -> dict[str, Any]:
    values = {**row, "created_at": format_timestamp(made_at(row["id"]))}
    return {name: values.get(name) for name in _COLUMNS}


def _json_lines(rows: Sequence[dict[str, Any]]) -> str:
    return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, _COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


_WRITERS = {AuditFormat.JSON_LINES: _json_lines, AuditFormat.CSV: _csv}
