"""Spaces (tenants) and their members."""

from enum import StrEnum

from pydantic import Field

from shared.models.base import KEEP, Description, Entity, Model, Name, PartialUpdate, Timestamp


class UserPermission(StrEnum):
    BENCHMARKS_CREATE = "benchmarks:create"
    BENCHMARKS_GET = "benchmarks:get"
    BENCHMARKS_LIST = "benchmarks:list"
    EVALUATIONS_CREATE = "evaluations:create"
    LEADERBOARDS_LIST = "leaderboards:list"
    TRAININGS_CREATE = "trainings:create"
    TRAININGS_DELETE = "trainings:delete"
    TRAININGS_GET = "trainings:get"
    TRAININGS_LIST = "trainings:list"
    TRAININGS_UPDATE = "trainings:update"
    DATA_MODELS_CREATE = "data-models:create"
    DATA_MODELS_DELETE = "data-models:delete"
    DATA_MODELS_GET = "data-models:get"
    DATA_MODELS_LIST = "data-models:list"
    DATA_MODELS_UPDATE = "data-models:update"


_GUARD = "the guard judges all chats and all calls of /v1, whatever a request says"


class SpaceCreate(Model):
    description: Description
    guard_required: bool = Field(default=False, description=_GUARD)
    name: Name


class SpaceUpdate(PartialUpdate):
    description: Description = KEEP
    guard_required: bool = KEEP
    name: Name = KEEP


class Space(Entity):
    created_by: str
    description: str
    guard_required: bool = Field(default=False, description=_GUARD)
    name: str
    updated_by: str
    # A deleted space can be restored for a while; until then nobody can use it.
    deleted_at: Timestamp | None = Field(default=None, exclude=True, repr=False)


class Membership(Entity):
    """Rights of one user in one space. Its id is the space's id."""

    is_owner: bool = False
    permissions: list[UserPermission] = Field(default_factory=list)
    # New each time that the user joins. Memberships from before generations have none, and count as the first.
    generation: str | None = None


class SpaceMember(Entity):
    """A member of the space. The id is the user's id."""

    email: str = Field(description="the user's address when they joined")
    is_owner: bool
    permissions: list[UserPermission]
