"""Audit logs: one row for each entity that a user created, changed, deleted or restored."""

from enum import StrEnum
from typing import Any

from pydantic import Field

from shared.models.base import Model, Page, Timestamp


class AuditAction(StrEnum):
    CREATED = "created"
    UPDATED = "updated"
    DELETED = "deleted"
    RESTORED = "restored"


class AuditLog(Model):
    """One write. A long value is cut, and then returned as text."""

    id: str
    created_at: Timestamp
    actor: str = Field(description="the user's id; `system` for workflows and AWS events")
    api_key_id: str | None = Field(default=None, description="the API key that the user used, if any")
    action: AuditAction
    entity: str = Field(description="the kind of entity, such as `data_model`")
    entity_id: str
    before: dict[str, Any] = Field(description="the changed fields before the write; all fields of a deleted entity")
    after: dict[str, Any] = Field(description="the changed fields after the write; all fields of a new entity")


class AuditPage(Page[AuditLog]):
    count_capped: bool = Field(default=False, description="whether `count` covers only the period's newest 1000 rows")
