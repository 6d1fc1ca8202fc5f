"""Experts over HTTP."""

from typing import Annotated

from fastapi import Depends, Query, Response

from functions.experts.service import ExpertService
from shared.dependencies import CurrentResources
from shared.experts.store import Experts
from shared.http.errors import errors
from shared.http.parameters import After, ExpectedVersion, IdempotencyKey, Limit, tagged
from shared.http.routers import CurrentContext, GroupRouter
from shared.models.base import Page
from shared.models.expert import Expert, ExpertCreate, ExpertUpdate, ExpertVersion

router = GroupRouter("experts")


async def _service(resources: CurrentResources) -> ExpertService:
    experts = Experts(resources.table, resources.large_values, resources.clock)
    return ExpertService(experts, resources.clusters.longest_window, resources.clock)


CurrentExpertService = Annotated[ExpertService, Depends(_service)]
Before = Annotated[int | None, Query(ge=1, description="Versions before this number; the newest when left out.")]


@router.get("")
def list_experts(
    context: CurrentContext, service: CurrentExpertService, limit: Limit = 10, after: After = ""
) -> Page[Expert]:
    """List the experts of the space, newest first."""
    return service.list_after(context, after, limit)


@router.post("", status_code=201, responses=errors(409))
def create_expert(
    body: ExpertCreate,
    context: CurrentContext,
    service: CurrentExpertService,
    idempotency: IdempotencyKey,
    response: Response,
) -> Expert:
    """Create an expert: the router may pick it from now on."""
    return tagged(response, service.create(context, body, idempotency))


@router.delete("/{id}", status_code=204, responses=errors(412))
def delete_expert(
    id: str, context: CurrentContext, service: CurrentExpertService, expected_version: ExpectedVersion
) -> None:
    """Delete an expert: it is never routed to again."""
    service.delete(context, id, expected_version)


@router.get("/{id}")
def get_expert(id: str, context: CurrentContext, service: CurrentExpertService, response: Response) -> Expert:
    """Get an expert."""
    return tagged(response, service.get(context, id))


@router.update("/{id}", responses=errors(409, 412))
def update_expert(
    id: str,
    body: ExpertUpdate,
    context: CurrentContext,
    service: CurrentExpertService,
    expected_version: ExpectedVersion,
    response: Response,
) -> Expert:
    """Update the fields that are sent; the expert as it was stays as a version."""
    return tagged(response, service.update(context, id, body, expected_version))


@router.get("/{id}/versions", extension=True)
def list_expert_versions(
    id: str, context: CurrentContext, service: CurrentExpertService, limit: Limit = 10, before: Before = None
) -> Page[ExpertVersion]:
    """List the versions of an expert, newest first."""
    return service.versions(context, id, before, limit)
