"""Checkpoints over HTTP."""

from typing import Annotated

from fastapi import Depends

from functions.checkpoints.scorers import Scorers
from functions.checkpoints.service import CheckpointService
from shared.http.errors import errors
from shared.http.parameters import After, Limit
from shared.http.routers import CurrentResources, CurrentScope, space_router
from shared.models.base import Page
from shared.models.checkpoint import Checkpoint, PredictionRequest, Predictions

router = space_router("checkpoints")
beyond = space_router("checkpoints")
# Empty until the first prediction; warm requests find the models they used last.
_scorers = Scorers()


def _service(resources: CurrentResources) -> CheckpointService:
    return CheckpointService(resources, _scorers)


Service = Annotated[CheckpointService, Depends(_service)]


@router.get("")
def list_checkpoints(scope: CurrentScope, service: Service, limit: Limit = 10, after: After = "") -> Page[Checkpoint]:
    """List the checkpoints of the space, newest first."""
    return service.list_after(scope, after, limit)


@beyond.post("/{id}/predictions", responses=errors(409, 413))
def create_predictions(id: str, body: PredictionRequest, scope: CurrentScope, service: Service) -> Predictions:
    """Score up to 10,000 rows: the probability of the positive label of each, and the label it amounts to."""
    return service.predict(scope, id, body.rows)
