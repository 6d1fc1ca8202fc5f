"""Evaluations over HTTP."""

from typing import Annotated

from fastapi import Depends, Response
from fastapi.responses import HTMLResponse

from functions.evaluations.service import EvaluationService
from shared.dependencies import CurrentResources
from shared.http.errors import errors
from shared.http.parameters import After, IdempotencyKey, Limit, tagged
from shared.http.routers import CurrentContext, GroupRouter
from shared.models.base import Page
from shared.models.evaluation import Evaluation, EvaluationCreate
from shared.reports.style import REPORT_HEADERS

router = GroupRouter("evaluations")


async def _service(resources: CurrentResources) -> EvaluationService:
    return EvaluationService(
        resources.evaluations,
        resources.job_launcher,
        resources.file_pins,
        max_gpu_count=resources.settings.max_gpu_count,
    )


CurrentEvaluationService = Annotated[EvaluationService, Depends(_service)]


@router.post("", status_code=201, responses=errors(403, 409, 429, 503))
def create_evaluation(
    body: EvaluationCreate,
    context: CurrentContext,
    service: CurrentEvaluationService,
    idempotency: IdempotencyKey,
    response: Response,
) -> Evaluation:
    """Evaluate a checkpoint on a benchmark. The response comes immediately; `result.status` shows the progress.

    While the same benchmark, checkpoint and number of GPUs is being evaluated, that evaluation is answered.
    """
    return tagged(response, service.create(context, body, idempotency))


@router.get("", extension=True)
def list_evaluations(
    context: CurrentContext, service: CurrentEvaluationService, limit: Limit = 10, after: After = ""
) -> Page[Evaluation]:
    """List evaluations, newest first."""
    return service.list_after(context, after, limit)


@router.get("/{id}", extension=True, responses=errors(403))
def get_evaluation(
    id: str, context: CurrentContext, service: CurrentEvaluationService, response: Response
) -> Evaluation:
    """Get an evaluation with its curve."""
    return tagged(response, service.get(context, id))


@router.get(
    "/{id}/report",
    extension=True,
    response_class=HTMLResponse,
    responses=errors(403) | {200: {"content": {"text/html": {}}}},
)
def get_evaluation_report(id: str, context: CurrentContext, service: CurrentEvaluationService) -> HTMLResponse:
    """Get an evaluation's report: one HTML file to read offline or print.

    It has the metrics with their intervals, curves, calibration, warnings, and the versions of files.
    """
    return HTMLResponse(service.report(context, id), headers=REPORT_HEADERS)
