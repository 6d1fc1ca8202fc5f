"""Users over HTTP."""

from typing import Annotated

from fastapi import Depends, Header, Response

from functions.users.service import UserService
from shared.http.errors import errors
from shared.http.parameters import ExpectedVersion, tagged
from shared.http.routers import CurrentPrincipal, CurrentResources, account_router
from shared.models.user import Me, User, UserUpdate

router = account_router("users", prefix="")


def _service(resources: CurrentResources) -> UserService:
    return UserService(resources.table, resources.clock)


Service = Annotated[UserService, Depends(_service)]
SelectedSpace = Annotated[str | None, Header(alias="X-Space-Id", description="Whose permissions to show.")]


@router.get("/me", responses=errors(404))
def get_me(principal: CurrentPrincipal, service: Service, response: Response, space_id: SelectedSpace = None) -> Me:
    """Who you are, which spaces you belong to, and what you may do in the selected one."""
    return tagged(response, service.me(principal, space_id or principal.space_id))


@router.update("/me", responses=errors(412))
def update_me(
    body: UserUpdate,
    principal: CurrentPrincipal,
    service: Service,
    expected_version: ExpectedVersion,
    response: Response,
) -> User:
    """Update your name or the role of your user interface."""
    return tagged(response, service.update(principal, body, expected_version))
