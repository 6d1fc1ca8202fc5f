"""Spaces over HTTP."""

from typing import Annotated

from fastapi import Depends, Response

from functions.spaces.service import SpaceService
from shared.http.errors import errors
from shared.http.parameters import After, ExpectedVersion, IdempotencyKey, Limit, tagged
from shared.http.routers import CurrentPrincipal, CurrentResources, account_router
from shared.models.base import Page
from shared.models.space import Space, SpaceCreate, SpaceUpdate

router = account_router("spaces")


def _service(resources: CurrentResources) -> SpaceService:
    return SpaceService(resources.table, resources.clock)


Service = Annotated[SpaceService, Depends(_service)]


@router.get("")
def list_spaces(principal: CurrentPrincipal, service: Service, limit: Limit = 10, after: After = "") -> Page[Space]:
    """List the spaces you belong to, newest first."""
    return service.list_after(principal.user_id, after, limit)


@router.post("", status_code=201, responses=errors(409))
def create_space(
    body: SpaceCreate, principal: CurrentPrincipal, service: Service, idempotency: IdempotencyKey, response: Response
) -> Space:
    """Create a space; you become its owner."""
    return tagged(response, service.create(principal.user_id, body, idempotency))


@router.get("/{id}", responses=errors(404))
def get_space(id: str, principal: CurrentPrincipal, service: Service, response: Response) -> Space:
    """Get a space you belong to."""
    return tagged(response, service.get(principal.user_id, id))


@router.update("/{id}", responses=errors(403, 404, 412))
def update_space(
    id: str,
    body: SpaceUpdate,
    principal: CurrentPrincipal,
    service: Service,
    expected_version: ExpectedVersion,
    response: Response,
) -> Space:
    """Update the fields that are sent; for the owner."""
    return tagged(response, service.update(principal.user_id, id, body, expected_version))
