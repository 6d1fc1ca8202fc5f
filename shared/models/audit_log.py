"""Audit logs: one row for each entity that a user created, changed, deleted or restored."""

from enum import StrEnum
from typing import Any

from pydantic import Field

from shared.models.base import Model, SearchedPage, Timestamp


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
    sequence: int | None = Field(default=None, description="the row's number in the chain of the space")
    hash: str | None = Field(default=None, description="SHA-256 of the row, its place, and the hash of the row before")
    previous_hash: str | None = None
    before: dict[str, Any] = Field(description="the changed fields before the write; all fields of a deleted entity")
    after: dict[str, Any] = Field(description="the changed fields after the write; all fields of a new entity")


class AuditPage(SearchedPage[AuditLog]):
    """A page of the audit log."""


class AuditFormat(StrEnum):
    JSON_LINES = "jsonl"
    CSV = "csv"


class AuditProblem(Model):
    sequence: int
    problem: str


class AuditVerification(Model):
    """What the check of the next rows of the chain found.

    Keep ``last`` and ``hash``: sent later, they prove that the rows up to then are still the same.
    """

    is_intact: bool
    checked: int
    first: int | None = Field(description="the sequence of the first row that was checked")
    last: int | None = Field(description="send it as `after_sequence` to check the next rows")
    hash: str | None
    has_more: bool
    problems: list[AuditProblem] = Field(description="the first ones")
