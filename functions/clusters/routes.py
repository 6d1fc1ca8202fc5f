"""The space's cluster over HTTP."""

from typing import Annotated

from fastapi import Depends, Response

from functions.clusters.service import ClusterService
from shared.dependencies import CurrentResources
from shared.http.errors import errors
from shared.http.parameters import ExpectedVersion, IdempotencyKey, tagged
from shared.http.routers import CurrentContext, GroupRouter
from shared.models.base import Deleted
from shared.models.cluster import ClusterAnswer, ClusterCreate, ClusterStatus, ClusterUpdate

router = GroupRouter("clusters")


async def _service(resources: CurrentResources) -> ClusterService:
    return ClusterService(
        resources.clusters,
        resources.language_model_targets,
        resources.token_cleaner,
        resources.address_guard,
        resources.clock,
    )


CurrentClusterService = Annotated[ClusterService, Depends(_service)]


@router.delete("", responses=errors(412))
def delete_cluster(
    context: CurrentContext, service: CurrentClusterService, expected_version: ExpectedVersion
) -> Deleted:
    """Delete the space's cluster and its tokens. The space then uses the deployment's models, if there are any."""
    return service.delete(context, expected_version)


@router.get("")
async def get_cluster(context: CurrentContext, service: CurrentClusterService) -> ClusterStatus:
    """Get the current status of the cluster."""
    return await service.status(context)


@router.post("", status_code=201, responses=errors(409))
async def create_cluster(
    body: ClusterCreate,
    context: CurrentContext,
    service: CurrentClusterService,
    idempotency: IdempotencyKey,
    response: Response,
) -> ClusterAnswer:
    """Register the server of the space's language models. It can be any server that speaks OpenAI's API.

    It is asked what it serves, so that a wrong address is noticed.
    """
    return tagged(response, await service.create(context, body, idempotency))


@router.update("", responses=errors(409, 412))
async def update_cluster(
    body: ClusterUpdate,
    context: CurrentContext,
    service: CurrentClusterService,
    expected_version: ExpectedVersion,
    response: Response,
) -> ClusterAnswer:
    """Update the fields that are sent. A new address needs its token too: a stored token is not sent to it."""
    return tagged(response, await service.update(context, body, expected_version))
