"""Users over HTTP."""

from typing import Annotated

from fastapi import Depends, Header, Response

from functions.users.service import UserService
from shared.dependencies import CurrentResources
from shared.http.errors import errors
from shared.http.parameters import ExpectedVersion, tagged
from shared.http.routers import CurrentContext, CurrentPrincipal, GroupRouter
from shared.models.invite import AcceptedInvites
from shared.models.user import GrantedPermissions, Me, PermissionsGrant, User, UserUpdate

router = GroupRouter("users", prefix="")


async def _service(resources: CurrentResources) -> UserService:
    return UserService(resources.table, resources.clock)


CurrentUserService = Annotated[UserService, Depends(_service)]
SelectedSpace = Annotated[str | None, Header(alias="X-Space-Id", description="Whose permissions to show.")]


@router.get("/me", responses=errors(404))
def get_me(
    principal: CurrentPrincipal, service: CurrentUserService, response: Response, space_id: SelectedSpace = None
) -> Me:
    """Who you are, which spaces you belong to, and what you may do in the selected one."""
    return tagged(response, service.me(principal, space_id or principal.space_id))


@router.update("/me", responses=errors(412))
def update_me(
    body: UserUpdate,
    principal: CurrentPrincipal,
    service: CurrentUserService,
    expected_version: ExpectedVersion,
    response: Response,
) -> User:
    """Update your name or the role of your user interface."""
    return tagged(response, service.update(principal, body, expected_version))


@router.post("/users/{id}/permissions", responses=errors(403))
def add_permissions(
    id: str, body: PermissionsGrant, context: CurrentContext, service: CurrentUserService
) -> GrantedPermissions:
    """Add permissions of a member in the selected space. The response has all permissions of the member."""
    return service.add_permissions(context, id, body.permissions)


@router.post("/users/invites/accept", responses=errors(403, 404, 409, 410))
def accept_invites(principal: CurrentPrincipal, service: CurrentUserService) -> AcceptedInvites:
    """Accept every invite to your verified e-mail address."""
    return service.accept_invites(principal)
