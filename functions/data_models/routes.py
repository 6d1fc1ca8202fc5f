"""Data models over HTTP."""

from typing import Annotated

from fastapi import Depends, Response

from functions.data_models.service import DataModelService
from shared.dependencies import CurrentResources
from shared.http.errors import errors
from shared.http.parameters import After, ExpectedVersion, IdempotencyKey, Limit, tagged
from shared.http.routers import CurrentContext, GroupRouter
from shared.models.base import Deleted, Page
from shared.models.data_model import DataModel, DataModelCreate, DataModelUpdate

router = GroupRouter("data-models")


async def _service(resources: CurrentResources) -> DataModelService:
    return DataModelService(resources.table, resources.clock)


CurrentDataModelService = Annotated[DataModelService, Depends(_service)]


@router.get("", responses=errors(403))
def list_data_models(
    context: CurrentContext, service: CurrentDataModelService, limit: Limit = 10, after: After = ""
) -> Page[DataModel]:
    """List the data models of the space, newest first."""
    return service.list_after(context, after, limit)


@router.post("", status_code=201, responses=errors(403, 409))
def create_data_model(
    body: DataModelCreate,
    context: CurrentContext,
    service: CurrentDataModelService,
    idempotency: IdempotencyKey,
    response: Response,
) -> DataModel:
    """Create a data model."""
    return tagged(response, service.create(context, body, idempotency))


@router.delete("/{id}", responses=errors(403, 409, 412))
def delete_data_model(
    id: str, context: CurrentContext, service: CurrentDataModelService, expected_version: ExpectedVersion
) -> Deleted:
    """Delete a data model that no running training uses."""
    return service.delete(context, id, expected_version)


@router.get("/{id}", responses=errors(403))
def get_data_model(id: str, context: CurrentContext, service: CurrentDataModelService, response: Response) -> DataModel:
    """Get a data model."""
    return tagged(response, service.get(context, id))


@router.update("/{id}", responses=errors(403, 412))
def update_data_model(
    id: str,
    body: DataModelUpdate,
    context: CurrentContext,
    service: CurrentDataModelService,
    expected_version: ExpectedVersion,
    response: Response,
) -> DataModel:
    """Update the fields that are sent."""
    return tagged(response, service.update(context, id, body, expected_version))
