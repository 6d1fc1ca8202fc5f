"""Trainings over HTTP."""

from typing import Annotated

from fastapi import Depends, Query, Response
from fastapi.responses import HTMLResponse

from functions.trainings.logs import JobLogs
from functions.trainings.service import TrainingService
from shared.dependencies import CurrentResources
from shared.http.errors import errors
from shared.http.parameters import ExpectedVersion, IdempotencyKey, Limit, PageNumber, page_number, tagged
from shared.http.routers import CurrentContext, GroupRouter
from shared.models.base import Deleted, Page
from shared.models.training import Training, TrainingCreate, TrainingUpdate
from shared.models.training_log import TrainingLog
from shared.reports.style import REPORT_HEADERS

router = GroupRouter("trainings")

LogCursor = Annotated[
    str, Query(max_length=4000, description="The `next` of the previous page; empty for the first lines.")
]
IncludeDeleted = Annotated[bool, Query(description="Also find a training deleted within the last 30 days.")]


async def _service(resources: CurrentResources) -> TrainingService:
    return TrainingService(
        resources.table,
        resources.due_evaluations,
        resources.job_launcher,
        resources.file_pins,
        resources.clock,
        storage_usages=resources.storage_usages,
        logs=JobLogs(resources.logs),
        settings=resources.settings,
    )


CurrentTrainingService = Annotated[TrainingService, Depends(_service)]


@router.get("", responses=errors(403))
def list_trainings(
    context: CurrentContext, service: CurrentTrainingService, page: PageNumber = page_number("pageSize")
) -> Page[Training]:
    """List the trainings of the space, newest first."""
    return service.list_page(context, page.number, page.size)


@router.post("", status_code=201, responses=errors(403, 409, 429, 503))
def create_training(
    body: TrainingCreate,
    context: CurrentContext,
    service: CurrentTrainingService,
    idempotency: IdempotencyKey,
    response: Response,
) -> Training:
    """Create a training and start it. The response comes immediately; the status shows the progress."""
    return tagged(response, service.create(context, body, idempotency))


@router.delete("/{id}", responses=errors(403, 412))
def delete_training(
    id: str, context: CurrentContext, service: CurrentTrainingService, expected_version: ExpectedVersion
) -> Deleted:
    """Delete a training, stopping its job if it runs; its checkpoints stay.

    GET with `include_deleted` shows for 30 days how it ended.
    """
    return service.delete(context, id, expected_version)


@router.post("/{id}/stop", extension=True, responses=errors(403, 409))
def stop_training(id: str, context: CurrentContext, service: CurrentTrainingService, response: Response) -> Training:
    """Stop a training and keep what is fitted: it ends `stopped`, with a checkpoint if there is a model by then.

    The response comes before the job has stopped, which takes up to two minutes. `notes` then say how far it came.
    """
    return tagged(response, service.stop(context, id))


@router.get("/{id}", responses=errors(403))
def get_training(
    id: str,
    context: CurrentContext,
    service: CurrentTrainingService,
    response: Response,
    include_deleted: IncludeDeleted = False,
) -> Training:
    """Get a training with its checkpoints and metrics."""
    return tagged(response, service.get(context, id, include_deleted=include_deleted))


@router.get(
    "/{id}/report",
    extension=True,
    response_class=HTMLResponse,
    responses=errors(403) | {200: {"content": {"text/html": {}}}},
)
def get_training_report(id: str, context: CurrentContext, service: CurrentTrainingService) -> HTMLResponse:
    """Get a training's report, also of one deleted within the last 30 days: one HTML file to read offline or print.

    It has the metrics with their intervals, curves, calibration, notes, and the versions of files and libraries.
    """
    return HTMLResponse(service.report(context, id), headers=REPORT_HEADERS)


@router.get("/{id}/logs", extension=True, responses=errors(403))
def list_training_logs(
    id: str, context: CurrentContext, service: CurrentTrainingService, after: LogCursor = "", limit: Limit = 100
) -> TrainingLog:
    """Read what the job prints, while it runs and later. A line is there some seconds after the job wrote it."""
    return service.read_log(context, id, after, limit)


@router.update("/{id}", responses=errors(403, 409, 412))
def update_training(
    id: str,
    body: TrainingUpdate,
    context: CurrentContext,
    service: CurrentTrainingService,
    expected_version: ExpectedVersion,
    response: Response,
) -> Training:
    """Update the fields that are sent; only name and benchmarks once the training has started."""
    return tagged(response, service.update(context, id, body, expected_version))
