"""Checkpoints over HTTP."""

from typing import Annotated

from fastapi import Depends, Response

from functions.checkpoints.service import CheckpointService
from shared.dependencies import CurrentResources
from shared.http.errors import errors
from shared.http.parameters import After, ExpectedVersion, Limit, tagged
from shared.http.routers import CurrentContext, GroupRouter
from shared.models.base import Deleted, Page
from shared.models.checkpoint import Checkpoint, PredictionRequest, Predictions
from shared.models.checkpoint_alias import (
    AliasName,
    CheckpointAlias,
    CheckpointAliasPut,
    PromotionGate,
    PromotionGatePut,
)
from shared.propensity.scorers import Scorers

router = GroupRouter("checkpoints")
# Empty until the first prediction; warm requests find the models they used last.
_scorers = Scorers()


async def _service(resources: CurrentResources) -> CheckpointService:
    return CheckpointService(resources.table, resources.s3, _scorers, resources.clock)


CurrentCheckpointService = Annotated[CheckpointService, Depends(_service)]


@router.get("")
def list_checkpoints(
    context: CurrentContext, service: CurrentCheckpointService, limit: Limit = 10, after: After = ""
) -> Page[Checkpoint]:
    """List the checkpoints of the space, newest first."""
    return service.list_after(context, after, limit)


@router.post("/{id}/predictions", extension=True, responses=errors(409, 413))
def create_predictions(
    id: str, body: PredictionRequest, context: CurrentContext, service: CurrentCheckpointService
) -> Predictions:
    """Score up to 10,000 rows: the probability of the positive label of each, and the label it amounts to."""
    return service.predict(context, id, body)


@router.get("/aliases", extension=True)
def list_checkpoint_aliases(context: CurrentContext, service: CurrentCheckpointService) -> Page[CheckpointAlias]:
    """List the aliases of checkpoints, by name: a space has a hundred at most."""
    return service.aliases(context)


@router.get("/aliases/{alias}", extension=True)
def get_checkpoint_alias(
    alias: str, context: CurrentContext, service: CurrentCheckpointService, response: Response
) -> CheckpointAlias:
    """Get an alias, and with it the checkpoint that it names now."""
    return tagged(response, service.alias(context, alias))


@router.put("/aliases/{alias}", extension=True, responses=errors(403, 409, 412))
def promote_checkpoint(
    alias: AliasName,
    body: CheckpointAliasPut,
    context: CurrentContext,
    service: CurrentCheckpointService,
    expected_version: ExpectedVersion,
    response: Response,
) -> CheckpointAlias:
    """Let an alias such as `champion` name a checkpoint: refused unless the checkpoint meets the alias's gate."""
    return tagged(response, service.promote(context, alias, body, expected_version))


@router.delete("/aliases/{alias}", extension=True, responses=errors(403, 412))
def delete_checkpoint_alias(
    alias: str, context: CurrentContext, service: CurrentCheckpointService, expected_version: ExpectedVersion
) -> Deleted:
    """Delete an alias; the checkpoint that it named and its gate stay. Only an owner deletes one with a gate."""
    return service.delete_alias(context, alias, expected_version)


@router.get("/aliases/{alias}/gate", extension=True)
def get_promotion_gate(
    alias: str, context: CurrentContext, service: CurrentCheckpointService, response: Response
) -> PromotionGate:
    """Get what a checkpoint needs before the alias may name it."""
    return tagged(response, service.gate(context, alias))


@router.put("/aliases/{alias}/gate", extension=True, responses=errors(403, 412))
def set_promotion_gate(
    alias: AliasName,
    body: PromotionGatePut,
    context: CurrentContext,
    service: CurrentCheckpointService,
    expected_version: ExpectedVersion,
    response: Response,
) -> PromotionGate:
    """Set what a checkpoint needs before the alias may name it: results, bounds, and a comparison. For owners."""
    return tagged(response, service.set_gate(context, alias, body, expected_version))
