"""Personas over HTTP."""

from typing import Annotated

from fastapi import Depends, Response

from functions.personas.service import PersonaService
from shared.http.errors import errors
from shared.http.parameters import After, ExpectedVersion, IdempotencyKey, Limit, tagged
from shared.http.routers import CurrentResources, CurrentScope, space_router
from shared.models.base import Page
from shared.models.persona import Persona, PersonaCreate, PersonaUpdate

router = space_router("personas")


def _service(resources: CurrentResources) -> PersonaService:
    return PersonaService(resources.table, resources.clock)


Service = Annotated[PersonaService, Depends(_service)]


@router.get("")
def list_personas(scope: CurrentScope, service: Service, limit: Limit = 10, after: After = "") -> Page[Persona]:
    """List the personas of the space, newest first."""
    return service.list_after(scope, after, limit)


@router.post("", status_code=201, responses=errors(409))
def create_persona(
    body: PersonaCreate, scope: CurrentScope, service: Service, idempotency: IdempotencyKey, response: Response
) -> Persona:
    """Create a persona."""
    return tagged(response, service.create(scope, body, idempotency))


@router.delete("/{id}", status_code=204, responses=errors(412))
def delete_persona(id: str, scope: CurrentScope, service: Service, expected_version: ExpectedVersion) -> None:
    """Delete a persona."""
    service.delete(scope, id, expected_version)


@router.get("/{id}")
def get_persona(id: str, scope: CurrentScope, service: Service, response: Response) -> Persona:
    """Get a persona."""
    return tagged(response, service.get(scope, id))


@router.update("/{id}", responses=errors(409, 412))
def update_persona(
    id: str,
    body: PersonaUpdate,
    scope: CurrentScope,
    service: Service,
    expected_version: ExpectedVersion,
    response: Response,
) -> Persona:
    """Update the fields that are sent."""
    return tagged(response, service.update(scope, id, body, expected_version))
