"""Defines the routes of personas."""

from typing import Annotated

from fastapi import Depends, Request, Response, UploadFile

from functions.personas.completions import PersonaCompletionService
from functions.personas.service import PersonaService
from functions.personas.upload_store import PersonaUploads
from functions.personas.uploads import PersonaUploadService
from shared.dependencies import CurrentResources
from shared.http.errors import errors
from shared.http.parameters import After, ExpectedVersion, IdempotencyKey, Limit, tagged
from shared.http.routers import CurrentContext, GroupRouter
from shared.models.base import Page
from shared.models.persona import Persona, PersonaCreate, PersonaUpdate
from shared.models.persona_completion import PersonaCompletion, PersonaCompletionCreate
from shared.models.persona_upload import (
    PersonaUpload,
    PersonaUploadConfirm,
    PersonaUploadForms,
    PersonaUploadRequest,
    PersonaUploadResult,
)

router = GroupRouter("personas")

SKIP = PersonaUploadConfirm()


async def _service(resources: CurrentResources) -> PersonaService:
    return PersonaService(resources.table, resources.clock)


async def _upload_service(resources: CurrentResources) -> PersonaUploadService:
    uploads = PersonaUploads(resources.table, resources.s3, resources.settings.bucket_name)
    return PersonaUploadService(resources.table, uploads, resources.storage_usages, resources.clock)


CurrentPersonaService = Annotated[PersonaService, Depends(_service)]
UploadService = Annotated[PersonaUploadService, Depends(_upload_service)]


@router.get("")
def list_personas(
    context: CurrentContext, service: CurrentPersonaService, limit: Limit = 10, after: After = ""
) -> Page[Persona]:
    """List the personas of the space, newest first."""
    return service.list_after(context, after, limit)


@router.post("", status_code=201, responses=errors(409))
def create_persona(
    body: PersonaCreate,
    context: CurrentContext,
    service: CurrentPersonaService,
    idempotency: IdempotencyKey,
    response: Response,
) -> Persona:
    """Create a persona."""
    return tagged(response, service.create(context, body, idempotency))


@router.delete("/{id}", status_code=204, responses=errors(412))
def delete_persona(
    id: str, context: CurrentContext, service: CurrentPersonaService, expected_version: ExpectedVersion
) -> None:
    """Delete a persona."""
    service.delete(context, id, expected_version)


@router.get("/{id}")
def get_persona(id: str, context: CurrentContext, service: CurrentPersonaService, response: Response) -> Persona:
    """Get a persona."""
    return tagged(response, service.get(context, id))


@router.update("/{id}", responses=errors(409, 412))
def update_persona(
    id: str,
    body: PersonaUpdate,
    context: CurrentContext,
    service: CurrentPersonaService,
    expected_version: ExpectedVersion,
    response: Response,
) -> Persona:
    """Update the fields of a persona that are sent."""
    return tagged(response, service.update(context, id, body, expected_version))


@router.post("/completions", responses=errors(402, 409, 429, 502, 503, 504))
async def complete_persona(
    body: PersonaCompletionCreate, request: Request, context: CurrentContext, resources: CurrentResources
) -> PersonaCompletion:
    """Let a language model change the draft of a persona. The API saves nothing."""
    service = PersonaCompletionService(resources.language_models, resources.clock)
    return await service.complete(context, body, request.state.request_id)


@router.post("/upload")
def upload_personas(files: list[UploadFile], context: CurrentContext, service: UploadService) -> PersonaUpload:
    """Upload personas as CSV, JSON, JSON Lines or XLSX. They are saved immediately if there are no conflicts."""
    return service.upload(context, [(file.filename or "file", file.file) for file in files])


@router.post("/upload/{upload_token}/confirm", responses=errors(409, 410))
def confirm_persona_upload(
    upload_token: str, context: CurrentContext, service: UploadService, body: PersonaUploadConfirm = SKIP
) -> PersonaUploadResult:
    """Decide how to resolve conflicts and save the upload, or continue to save it."""
    return service.confirm(context, upload_token, body.conflict_resolution)


@router.post("/uploads", extension=True, status_code=201)
def create_persona_uploads(
    body: PersonaUploadRequest, context: CurrentContext, service: UploadService
) -> PersonaUploadForms:
    """Create forms to upload large files, up to 128 MB, directly to the storage."""
    return service.prepare(context, body)


@router.post("/uploads/{upload_token}/process", extension=True, responses=errors(409, 410))
def process_persona_uploads(upload_token: str, context: CurrentContext, service: UploadService) -> PersonaUpload:
    """Read and save the files in the storage as `POST /personas/upload` does. Repeat the call to continue to save."""
    return service.process(context, upload_token)
