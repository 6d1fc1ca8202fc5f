"""Prediction runs over HTTP."""

from typing import Annotated

from fastapi import Depends, Response

from functions.predictions.service import PredictionService
from shared.dependencies import CurrentResources
from shared.http.errors import errors
from shared.http.parameters import After, AfterFile, IdempotencyKey, Limit, tagged
from shared.http.routers import CurrentContext, GroupRouter
from shared.models.base import Page
from shared.models.connector import Download
from shared.models.prediction import PredictionCreate, PredictionRun
from shared.propensity.scorers import Scorers

router = GroupRouter("predictions")
# Kept between requests, so that a model is loaded once.
_scorers = Scorers()


async def _service(resources: CurrentResources) -> PredictionService:
    return PredictionService(
        resources.table,
        resources.s3,
        _scorers,
        resources.run_inputs,
        resources.connector_storages,
        resources.run_plans,
        resources.job_launcher,
        resources.storage_usages,
        resources.clock,
        function_rows=resources.settings.function_run_rows,
    )


CurrentPredictionService = Annotated[PredictionService, Depends(_service)]


@router.post("", extension=True, status_code=201, responses=errors(409, 429, 502, 503))
def create_prediction_run(
    body: PredictionCreate,
    context: CurrentContext,
    service: CurrentPredictionService,
    idempotency: IdempotencyKey,
    response: Response,
) -> PredictionRun:
    """Score all rows of files with a checkpoint, from file to file. The response comes before the work begins.

    The output appears in its folder as a whole, as Parquet files with the same columns, and `_manifest.json` last. Rows
    that can't be scored are reported, and the others go on.
    """
    return tagged(response, service.create(context, body, idempotency))


@router.get("", extension=True)
def list_prediction_runs(
    context: CurrentContext, service: CurrentPredictionService, limit: Limit = 10, after: After = ""
) -> Page[PredictionRun]:
    """List prediction runs, newest first. Only a single run shows the progress of one that has not ended."""
    return service.list_after(context, after, limit)


@router.get("/{id}", extension=True)
def get_prediction_run(
    id: str, context: CurrentContext, service: CurrentPredictionService, response: Response
) -> PredictionRun:
    """Get a run: its progress, its refused rows by reason, rate, cost and estimated time, and its engine."""
    return tagged(response, service.get(context, id))


@router.get("/{id}/files", extension=True, responses=errors(403, 409))
def list_prediction_run_files(
    id: str, context: CurrentContext, service: CurrentPredictionService, limit: Limit = 10, after: AfterFile = ""
) -> Page[Download]:
    """List the files of a run's output, each with an address from which anyone can read it for 15 minutes.

    A run that has not succeeded has none.
    """
    return service.files(context, id, after, limit)


@router.post("/{id}/stop", extension=True, responses=errors(409))
def stop_prediction_run(
    id: str, context: CurrentContext, service: CurrentPredictionService, response: Response
) -> PredictionRun:
    """Stop a run. Nothing of it is published."""
    return tagged(response, service.stop(context, id))


@router.post("/{id}/restart", extension=True, status_code=201, responses=errors(409, 429, 503))
def restart_prediction_run(
    id: str, context: CurrentContext, service: CurrentPredictionService, response: Response
) -> PredictionRun:
    """Go on with a run that failed or was stopped: a new run takes over the parts that are finished."""
    return tagged(response, service.restart(context, id))
