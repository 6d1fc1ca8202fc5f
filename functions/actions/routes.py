"""Defines the routes of actions."""

from typing import Annotated

from fastapi import Depends, Response

from functions.actions.service import ActionService
from shared.dependencies import CurrentResources
from shared.http.errors import errors
from shared.http.parameters import After, ExpectedVersion, IdempotencyKey, Limit, tagged
from shared.http.routers import CurrentContext, GroupRouter
from shared.models.action import Action, ActionCreate, ActionUpdate
from shared.models.base import Deleted, Page

router = GroupRouter("actions")


async def _service(resources: CurrentResources) -> ActionService:
    return ActionService(resources.table, resources.clock)


CurrentActionService = Annotated[ActionService, Depends(_service)]


@router.get("")
def list_actions(
    context: CurrentContext, service: CurrentActionService, limit: Limit = 10, after: After = ""
) -> Page[Action]:
    """List the actions of the space, newest first."""
    return service.list_after(context, after, limit)


@router.post("", status_code=201, responses=errors(409))
def create_action(
    body: ActionCreate,
    context: CurrentContext,
    service: CurrentActionService,
    idempotency: IdempotencyKey,
    response: Response,
) -> Action:
    """Create an action: an offer with its channel and, optionally, its propensity model."""
    return tagged(response, service.create(context, body, idempotency))


@router.delete("/{id}", responses=errors(412))
def delete_action(
    id: str, context: CurrentContext, service: CurrentActionService, expected_version: ExpectedVersion
) -> Deleted:
    """Delete an action. Later insights cannot choose it."""
    return service.delete(context, id, expected_version)


@router.get("/{id}")
def get_action(id: str, context: CurrentContext, service: CurrentActionService, response: Response) -> Action:
    """Get an action."""
    return tagged(response, service.get(context, id))


@router.update("/{id}", responses=errors(412))
def update_action(
    id: str,
    body: ActionUpdate,
    context: CurrentContext,
    service: CurrentActionService,
    expected_version: ExpectedVersion,
    response: Response,
) -> Action:
    """Update the fields of an action that are sent. Every status may follow every other status."""
    return tagged(response, service.update(context, id, body, expected_version))
