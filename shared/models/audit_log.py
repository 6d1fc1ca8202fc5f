"""What was written, by whom: one row for each entity that was created, changed, deleted or restored."""

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
    """One write; long values are cut, and then text."""

    id: str
    created_at: Timestamp
    actor: str = Field(description="the user's id; `system` for workflows and AWS events")
    action: AuditAction
    entity: str = Field(description="the kind of entity, such as `data_model`")
    entity_id: str
    before: dict[str, Any] = Field(description="the changed fields as they were; of a deleted entity all")
    after: dict[str, Any] = Field(description="the changed fields as they are; of a new entity all")


class AuditPage(Page[AuditLog]):
    count_capped: bool = Field(default=False, description="`count` is of the newest 1000 rows of the period only")
