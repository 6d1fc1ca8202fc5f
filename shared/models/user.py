"""Users of the API."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from shared.models.base import KEEP, Entity, Model, PartialUpdate
from shared.models.space import Privilege, UserPermission

UserNamePart = Annotated[str, StringConstraints(strip_whitespace=True, max_length=200)]


class UserRole(StrEnum):
    """How the user interface presents itself; it grants nothing."""

    DESIGNER = "designer"
    DEVELOPER = "developer"


class UserUpdate(PartialUpdate):
    first_name: UserNamePart = KEEP
    last_name: UserNamePart = KEEP
    role: UserRole = KEEP


class User(Entity):
    email: str
    external_id: str
    first_name: str
    last_name: str
    role: UserRole = UserRole.DEVELOPER


class PermissionsGrant(Model):
    permissions: list[UserPermission] = Field(max_length=100)


class GrantedPermissions(Model):
    """All permissions of the member in the space."""

    permissions: list[str]


class SpaceMembership(Model):
    """A space of the user, and the user's permissions in it."""

    id: str
    name: str
    is_owner: bool
    permissions: list[str]
    privileges: list[Privilege]


class Me(User):
    """The user, with the permissions in the selected space (or in the user's only space)."""

    permissions: list[str]
    privileges: list[Privilege] = Field(description="rights beyond the permissions, in the same space")
    spaces: list[SpaceMembership]
