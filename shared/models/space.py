"""Spaces (tenants) and their members."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from shared.models.base import ALSO_WITH_POINT, KEEP, Description, Entity, Model, Name, PartialUpdate, Timestamp

UNSUPPORTED_LIMIT = 1000


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


class Privilege(StrEnum):
    """Rights beyond the permissions: what their holders do reaches customers."""

    ACTIONS_PUBLISH = "actions:publish"
    ALIASES_PROMOTE = "aliases:promote"
    ARGUMENTS_APPROVE = "arguments:approve"


Right = UserPermission | Privilege

# An SPDX identifier, or ``LicenseRef-`` and a name.
LicenseName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9.+-]*$", max_length=100)]
AcceptedLicenses = Annotated[
    list[LicenseName],
    Field(
        max_length=20,
        description="licenses without commercial use, as `GET /architectures` names them, whose weights trainings of "
        "the space may use all the same",
    ),
]
_GUARD = "the guard judges all chats and all calls of /v1, also if a request says otherwise"


class SpaceCreate(Model):
    accepted_licenses: AcceptedLicenses = Field(default_factory=list)
    description: Description
    guard_required: bool = Field(default=False, description=_GUARD)
    name: Name


class SpaceUpdate(PartialUpdate):
    accepted_licenses: AcceptedLicenses = KEEP
    description: Description = KEEP
    guard_required: bool = KEEP
    name: Name = KEEP


class Space(Entity):
    accepted_licenses: AcceptedLicenses = Field(default_factory=list)
    created_by: str
    description: str
    guard_required: bool = Field(default=False, description=_GUARD)
    name: str
    updated_by: str
    # A deleted space can be restored for a while; until then nobody can use it.
    deleted_at: Timestamp | None = Field(default=None, exclude=True, repr=False)


class ListedSpace(Space):
    """A space in a list. The last fields are only in the list of deleted spaces."""

    deleted_at: Timestamp | None = None
    restorable_until: Timestamp | None = None


class OtherEyes(StrEnum):
    """When somebody else than its authors must approve an argument."""

    ALWAYS = "always"
    # Not while no other member has the right to approve.
    WHEN_POSSIBLE = "when_possible"
    NEVER = "never"


class ReviewRules(Model):
    """What the space requires before an argument is approved."""

    other_eyes: OtherEyes = Field(
        default=OtherEyes.WHEN_POSSIBLE,
        description="whether the authors, who made an argument or last changed its text or facts, can't approve it; "
        "`when_possible` exempts spaces in which no other member may approve",
    )
    max_unsupported_claims: Annotated[int | None, ALSO_WITH_POINT] = Field(
        default=0,
        ge=0,
        le=UNSUPPORTED_LIMIT,
        strict=True,
        description="an argument with more unsupported claims can't be approved; null: no limit",
    )


class SpaceReviewRules(ReviewRules):
    version: int = Field(exclude=True, repr=False)


class Membership(Entity):
    """Rights of one user or service account in one space. Its id is the space's id."""

    is_owner: bool = False
    permissions: list[UserPermission] = Field(default_factory=list)
    privileges: list[Privilege] = Field(default_factory=list)
    # The name of a service account. Persons have none.
    service_account: str | None = None
    # New each time that the user joins. Memberships from before generations have none, and count as the first.
    generation: str | None = None


class SpaceMember(Entity):
    """A member of the space. The id is the user's id, or the service account's."""

    email: str = Field(description="the user's address when they joined; empty for a service account")
    is_owner: bool
    permissions: list[UserPermission]
    privileges: list[Privilege] = Field(default_factory=list)
    service_account: str | None = Field(default=None, description="the name of a service account; null for a person")


Permissions = Annotated[list[UserPermission], Field(max_length=100)]
Privileges = Annotated[list[Privilege], Field(max_length=100)]


class MemberUpdate(PartialUpdate):
    """Rights of a member. What is sent replaces what the member has, so it can also lower rights."""

    is_owner: bool = KEEP
    permissions: Permissions = KEEP
    privileges: Privileges = KEEP


class ServiceAccountCreate(Model):
    """A member that is no person: its API keys stay valid when people leave the space."""

    name: Name
    permissions: Permissions = Field(default_factory=list)
    privileges: Privileges = Field(default_factory=list)
