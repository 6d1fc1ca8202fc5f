"""Connectors over HTTP."""

from typing import Annotated

from fastapi import Depends, Query, Response

from functions.connectors.service import ConnectorService
from shared.dependencies import CurrentResources
from shared.http.errors import errors
from shared.http.parameters import After, ExpectedVersion, IdempotencyKey, Limit, PageNumber, page_number, tagged
from shared.http.routers import CurrentContext, GroupRouter
from shared.models.base import Deleted, Page
from shared.models.catalog import CatalogEntry, CatalogEntryUpdate
from shared.models.connector import (
    Connector,
    ConnectorCreate,
    ConnectorUpdate,
    Download,
    DownloadRequest,
    FileName,
    RoleAccess,
    ScanAnswer,
    ScanRequest,
    UploadRequest,
    Uploads,
)
from shared.models.preview import Preview, PreviewRequest
from shared.models.schema_drift import SchemaDrift

router = GroupRouter("connectors")


async def _service(resources: CurrentResources) -> ConnectorService:
    return ConnectorService(
        resources.table,
        resources.connector_storages,
        resources.postgres_databases,
        resources.connector_scans,
        resources.connector_cleaner,
        resources.storage_usages,
        resources.clock,
    )


CurrentConnectorService = Annotated[ConnectorService, Depends(_service)]
Validate = Annotated[bool, Query(description="Refuse a bucket that can't be read, instead of storing it as an error.")]
PrefixFilter = Annotated[str, Query(max_length=1024, description="Only names that begin with it.")]
FilesLimit = Annotated[int, Query(ge=1, le=10_000, description="Names in all.")]
Flat = Annotated[bool, Query(description="One list of names instead of one for each folder.")]


@router.get("")
def list_connectors(
    context: CurrentContext, service: CurrentConnectorService, limit: Limit = 10, after: After = ""
) -> Page[Connector]:
    """List the connectors of the space, newest first."""
    return service.list_after(context, after, limit)


@router.post("", status_code=201, responses=errors(409))
def create_connector(
    body: ConnectorCreate,
    context: CurrentContext,
    service: CurrentConnectorService,
    idempotency: IdempotencyKey,
    response: Response,
    validate: Validate = False,
) -> Connector:
    """Create a connector to your own bucket, or without `s3` a managed one to which you upload."""
    return tagged(response, service.create(context, body, idempotency, validate=validate))


@router.delete("/{id}", responses=errors(409, 412))
def delete_connector(
    id: str, context: CurrentContext, service: CurrentConnectorService, expected_version: ExpectedVersion
) -> Deleted:
    """Delete a connector that no running training reads, with its catalog and uploaded files."""
    return service.delete(context, id, expected_version)


@router.get("/{id}")
def get_connector(id: str, context: CurrentContext, service: CurrentConnectorService, response: Response) -> Connector:
    """Get a connector."""
    return tagged(response, service.get(context, id))


@router.update("/{id}", responses=errors(409, 412))
def update_connector(
    id: str,
    body: ConnectorUpdate,
    context: CurrentContext,
    service: CurrentConnectorService,
    expected_version: ExpectedVersion,
    response: Response,
) -> Connector:
    """Update the fields that are sent; new access is tried before it is used, and running scans and jobs go on.

    Other `read_options` are for later scans and jobs; a scan of all files follows.
    """
    return tagged(response, service.update(context, id, body, expected_version))


@router.get("/{id}/files", responses=errors(502))
def list_connector_files(
    id: str,
    context: CurrentContext,
    service: CurrentConnectorService,
    response: Response,
    prefix: PrefixFilter = "",
    limit: FilesLimit = 1000,
    flat: Flat = False,
) -> list[list[str]] | list[str]:
    """List the files, one list of names for each folder; the header `X-Has-More` says whether there are more."""
    names, has_more = service.list_files(context, id, prefix, limit)
    response.headers["X-Has-More"] = str(has_more).lower()
    return names if flat else by_folder(names)


@router.post("/{id}/scan", status_code=202)
def scan_connector(id: str, body: ScanRequest, context: CurrentContext, service: CurrentConnectorService) -> ScanAnswer:
    """Scan the named files, or all; what was found is in the catalog."""
    return service.scan(context, id, body)


@router.get("/access/aws-role", extension=True)
def get_role_access(context: CurrentContext, service: CurrentConnectorService) -> RoleAccess:
    """Get the trust policy that a role needs before a connector can read your bucket with it."""
    return service.role_access(context)


@router.get("/{id}/catalog", extension=True)
def list_connector_catalog(
    id: str, context: CurrentContext, service: CurrentConnectorService, page: PageNumber = page_number("page_size")
) -> Page[CatalogEntry]:
    """List what scans found in the files, by file name."""
    return service.catalog(context, id, page.number, page.size)


@router.update("/{id}/catalog/{file:path}", extension=True, responses=errors(413))
def update_connector_catalog_entry(
    id: str, file: FileName, body: CatalogEntryUpdate, context: CurrentContext, service: CurrentConnectorService
) -> CatalogEntry:
    """Say how a file is written, where the scan took it for something else; a new scan reads the file so."""
    return service.correct(context, id, file, body)


@router.delete("/{id}/files/{file:path}", extension=True, responses=errors(409))
def delete_connector_file(
    id: str, file: FileName, context: CurrentContext, service: CurrentConnectorService
) -> Deleted:
    """Delete an uploaded file of a managed connector that no running training reads, with its catalog entry."""
    return service.delete_file(context, id, file)


@router.post("/{id}/preview", extension=True, responses=errors(409, 502))
def preview_connector_file(
    id: str, body: PreviewRequest, context: CurrentContext, service: CurrentConnectorService
) -> Preview:
    """Read the first rows of a file with these options, which are not stored; of a long text only the beginning."""
    return service.preview(context, id, body)


@router.get("/{id}/drifts", extension=True)
def list_connector_drifts(
    id: str, context: CurrentContext, service: CurrentConnectorService, limit: Limit = 10, after: After = ""
) -> Page[SchemaDrift]:
    """List how the columns of files and tables changed from one version to the next, newest first."""
    return service.drifts(context, id, after, limit)


@router.post("/{id}/drifts/{drift_id}/acknowledge", extension=True)
def acknowledge_connector_drift(
    id: str, drift_id: str, context: CurrentContext, service: CurrentConnectorService
) -> SchemaDrift:
    """Say that a drift was seen: under the policy `block`, trainings have the file again."""
    return service.acknowledge_drift(context, id, drift_id)


@router.post("/{id}/uploads", extension=True, status_code=201, responses=errors(409, 413, 429))
def create_connector_uploads(
    id: str, body: UploadRequest, context: CurrentContext, service: CurrentConnectorService
) -> Uploads:
    """Get the forms to upload files with, straight to the storage of a managed connector."""
    return service.presign_uploads(context, id, body)


@router.post("/{id}/downloads", extension=True, status_code=201, responses=errors(403, 409))
def create_connector_download(
    id: str, body: DownloadRequest, context: CurrentContext, service: CurrentConnectorService
) -> Download:
    """Get an address from which a file of a managed connector can be downloaded, such as an export of reactions."""
    return service.presign_download(context, id, body)


def by_folder(names: list[str]) -> list[list[str]]:
    """Returns one list for each folder, in the order of the folders' first files."""
    folders: dict[str, list[str]] = {}
    for name in names:
        folders.setdefault(name.rpartition("/")[0], []).append(name)
    return list(folders.values())
