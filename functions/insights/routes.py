"""Defines the routes of insights."""

from typing import Annotated

from fastapi import Depends, Request, Response

from functions.insights.decisions import Decider
from functions.insights.early_checkpoints import EarlyCheckpoints
from functions.insights.experiment_service import ExperimentService
from functions.insights.policies import PolicyService
from functions.insights.reactions import ReactionService
from functions.insights.service import InsightService
from shared.checkpoints.aliases import CheckpointAliases
from shared.decisions.scoring import PropensityScorer
from shared.dependencies import CurrentResources
from shared.http.errors import errors
from shared.http.parameters import After, ExpectedVersion, IdempotencyKey, Limit, tagged
from shared.http.routers import CurrentContext, GroupRouter
from shared.models.base import Page
from shared.models.experiment import Experiments, ExperimentsUpdate, Uplift
from shared.models.insight import (
    ActionAcceptance,
    Export,
    ExportCreate,
    Insight,
    InsightCreate,
    InsightPolicy,
    InsightPolicyUpdate,
    InsightReaction,
    ReactionCreate,
)
from shared.models.lineage import Lineage
from shared.propensity.scorers import Scorers

router = GroupRouter("insights")
# Kept between requests, so that a model is loaded once.
_scorers = Scorers()


async def _service(resources: CurrentResources) -> InsightService:
    table, insights, clock = resources.table, resources.insights, resources.clock
    checkpoints = EarlyCheckpoints(CheckpointAliases(table, clock))
    propensities = PropensityScorer(checkpoints, resources.s3, _scorers, insights)
    decider = Decider(table, insights, checkpoints, propensities, resources.lineages, clock)
    return InsightService(insights, decider, resources.language_models, resources.lineages, clock)


async def _reaction_service(resources: CurrentResources) -> ReactionService:
    table, insights, storages = resources.table, resources.insights, resources.connector_storages
    return ReactionService(table, insights, storages, resources.storage_usages, resources.clock)


async def _policy_service(resources: CurrentResources) -> PolicyService:
    return PolicyService(resources.table, resources.clock)


async def _experiment_service(resources: CurrentResources) -> ExperimentService:
    return ExperimentService(resources.table, resources.clock)


CurrentInsightService = Annotated[InsightService, Depends(_service)]
Reactions = Annotated[ReactionService, Depends(_reaction_service)]
CurrentExperiments = Annotated[ExperimentService, Depends(_experiment_service)]
Policies = Annotated[PolicyService, Depends(_policy_service)]


@router.post("", responses=errors(409))
async def create_insight(
    body: InsightCreate,
    request: Request,
    context: CurrentContext,
    service: CurrentInsightService,
    idempotency: IdempotencyKey,
) -> Insight:
    """Decide which action to offer a client, explain the decision, and write a text for the client.

    Without a language model, the decision is the same, the text lists the facts, and `error` has the reason.
    """
    return await service.create(context, body, idempotency, request.state.request_id, request.state.started)


@router.get("/acceptance-rates", extension=True)
def list_acceptance_rates(
    context: CurrentContext, service: Reactions, limit: Limit = 10, after: After = ""
) -> Page[ActionAcceptance]:
    """List the acceptance rate of each action, in total and by score band."""
    return service.acceptance_rates(context, after, limit)


@router.post("/exports", extension=True, status_code=201, responses=errors(409, 429))
def create_insight_export(body: ExportCreate, context: CurrentContext, service: Reactions) -> Export:
    """Write reactions with the clients' features to a managed connector, for the next training.

    The reactions of the last minute are left for the next export.
    """
    return service.export(context, body)


@router.get("/experiments", extension=True)
def get_insight_experiments(context: CurrentContext, service: CurrentExperiments, response: Response) -> Experiments:
    """Get the experiment of the space: its arms, their shares of the customers, and whether decisions explore."""
    return tagged(response, service.get(context))


@router.put("/experiments", extension=True, responses=errors(403, 412))
def replace_insight_experiments(
    body: ExperimentsUpdate,
    context: CurrentContext,
    service: CurrentExperiments,
    expected_version: ExpectedVersion,
    response: Response,
) -> Experiments:
    """Replace the experiment of the space. Other arms or another salt begin a new one; no arms end it."""
    return tagged(response, service.replace(context, body, expected_version))


@router.get("/uplift", extension=True)
def get_insight_uplift(context: CurrentContext, service: CurrentExperiments) -> Uplift:
    """Get the results of the experiment: customers, conversions and uplift of each arm, and a check of its samples."""
    return service.uplift(context)


@router.get("/policy", extension=True)
def get_insight_policy(context: CurrentContext, service: Policies, response: Response) -> InsightPolicy:
    """Get the policy of the space: suppression days, contact limits, and the weights of scores."""
    return tagged(response, service.get(context))


@router.update("/policy", extension=True, responses=errors(403, 412))
def update_insight_policy(
    body: InsightPolicyUpdate,
    context: CurrentContext,
    service: Policies,
    expected_version: ExpectedVersion,
    response: Response,
) -> InsightPolicy:
    """Replace the fields of the policy that are sent."""
    return tagged(response, service.update(context, body, expected_version))


@router.get("/{id}", extension=True)
def get_insight(id: str, context: CurrentContext, service: CurrentInsightService, response: Response) -> Insight:
    """Get an insight with the client's reaction."""
    return tagged(response, service.get(context, id))


@router.get("/{id}/lineage", extension=True)
def get_insight_lineage(id: str, context: CurrentContext, service: CurrentInsightService) -> Lineage:
    """Get the lineage of an insight: action, leaderboard, checkpoint, training and the versions of its files."""
    return service.lineage(context, id)


@router.post("/{id}/reactions", extension=True, status_code=201, responses=errors(409))
def create_insight_reaction(
    id: str, body: ReactionCreate, context: CurrentContext, service: Reactions
) -> InsightReaction:
    """Record the client's reaction to the offer. A later reaction replaces an earlier one.

    To an offer of a decision run: send the `insight_id` and the `client_key` of the output's row.
    """
    return service.react(context, id, body)
