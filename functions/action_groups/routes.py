"""Action groups over HTTP."""

from typing import Annotated

from fastapi import Depends, Response

from functions.action_groups.service import ActionGroupService
from shared.dependencies import CurrentResources
from shared.http.errors import errors
from shared.http.parameters import After, ExpectedVersion, IdempotencyKey, Limit, tagged
from shared.http.routers import CurrentContext, GroupRouter
from shared.models.action_group import ActionGroup, ActionGroupCreate, ActionGroupUpdate
from shared.models.base import Deleted, Page

router = GroupRouter("action-groups")


async def _service(resources: CurrentResources) -> ActionGroupService:
    return ActionGroupService(resources.table, resources.clock)


CurrentActionGroupService = Annotated[ActionGroupService, Depends(_service)]


@router.get("")
def list_action_groups(
    context: CurrentContext, service: CurrentActionGroupService, limit: Limit = 10, after: After = ""
) -> Page[ActionGroup]:
    """List the action groups of the space, newest first."""
    return service.list_after(context, after, limit)


@router.post("", status_code=201, responses=errors(409))
def create_action_group(
    body: ActionGroupCreate,
    context: CurrentContext,
    service: CurrentActionGroupService,
    idempotency: IdempotencyKey,
    response: Response,
) -> ActionGroup:
    """Create an action group."""
    return tagged(response, service.create(context, body, idempotency))


@router.delete("/{id}", responses=errors(412))
def delete_action_group(
    id: str, context: CurrentContext, service: CurrentActionGroupService, expected_version: ExpectedVersion
) -> Deleted:
    """Delete an action group; its actions stay, without a group."""
    return service.delete(context, id, expected_version)


@router.get("/{id}")
def get_action_group(
    id: str, context: CurrentContext, service: CurrentActionGroupService, response: Response
) -> ActionGroup:
    """Get an action group."""
    return tagged(response, service.get(context, id))


@router.update("/{id}", responses=errors(412))
def update_action_group(
    id: str,
    body: ActionGroupUpdate,
    context: CurrentContext,
    service: CurrentActionGroupService,
    expected_version: ExpectedVersion,
    response: Response,
) -> ActionGroup:
    """Update the fields that are sent."""
    return tagged(response, service.update(context, id, body, expected_version))
