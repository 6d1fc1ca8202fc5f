"""API keys over HTTP."""

from typing import Annotated

from fastapi import Depends, Response

from functions.api_keys.service import ApiKeyService
from shared.dependencies import CurrentResources
from shared.http.errors import errors
from shared.http.parameters import After, ExpectedVersion, Limit, tagged
from shared.http.routers import CurrentContext, GroupRouter
from shared.models.api_key import ApiKey, ApiKeyCreate, ApiKeyUpdate, NewApiKey
from shared.models.base import Deleted, Page

router = GroupRouter("api-keys")


async def _service(resources: CurrentResources) -> ApiKeyService:
    return ApiKeyService(resources.table, resources.clock)


CurrentApiKeyService = Annotated[ApiKeyService, Depends(_service)]


@router.get("", extension=True, responses=errors(403))
def list_api_keys(
    context: CurrentContext, service: CurrentApiKeyService, limit: Limit = 10, after: After = ""
) -> Page[ApiKey]:
    """List your keys for the space, newest first."""
    return service.list_after(context, after, limit)


@router.post("", extension=True, status_code=201, responses=errors(403, 409))
def create_api_key(
    body: ApiKeyCreate, context: CurrentContext, service: CurrentApiKeyService, response: Response
) -> NewApiKey:
    """Create a key for the space; `key` is answered only now."""
    return tagged(response, service.create(context, body))


@router.delete("/{id}", extension=True, responses=errors(403, 412))
def delete_api_key(
    id: str, context: CurrentContext, service: CurrentApiKeyService, expected_version: ExpectedVersion
) -> Deleted:
    """Revoke a key: within 10 seconds nothing takes it any more."""
    return service.delete(context, id, expected_version)


@router.get("/{id}", extension=True, responses=errors(403))
def get_api_key(id: str, context: CurrentContext, service: CurrentApiKeyService, response: Response) -> ApiKey:
    """Get one of your keys, without its secret."""
    return tagged(response, service.get(context, id))


@router.update("/{id}", extension=True, responses=errors(403, 412))
def update_api_key(
    id: str,
    body: ApiKeyUpdate,
    context: CurrentContext,
    service: CurrentApiKeyService,
    expected_version: ExpectedVersion,
    response: Response,
) -> ApiKey:
    """Update the fields that are sent."""
    return tagged(response, service.update(context, id, body, expected_version))
