"""Decision runs over HTTP."""

from typing import Annotated

from fastapi import Depends, Query, Response

from functions.decision_runs.service import DecisionRunService
from shared.dependencies import CurrentResources
from shared.http.errors import errors
from shared.http.parameters import After, AfterFile, IdempotencyKey, Limit, tagged
from shared.http.routers import CurrentContext, GroupRouter
from shared.models.base import Identifier, Page
from shared.models.connector import Download
from shared.models.decision_run import DecisionRun, DecisionRunCreate, DecisionSummary

router = GroupRouter("decision-runs")

ComparedTo = Annotated[
    Identifier | None, Query(description="Another run. The answer has this run's numbers minus those of the other.")
]


async def _service(resources: CurrentResources) -> DecisionRunService:
    return DecisionRunService(
        resources.table,
        resources.insights,
        resources.run_inputs,
        resources.connector_storages,
        resources.run_plans,
        resources.job_launcher,
        resources.storage_usages,
        resources.clock,
        function_rows=resources.settings.function_run_rows,
    )


CurrentDecisionRunService = Annotated[DecisionRunService, Depends(_service)]


@router.post("", extension=True, status_code=201, responses=errors(409, 429, 502, 503))
def create_decision_run(
    body: DecisionRunCreate,
    context: CurrentContext,
    service: CurrentDecisionRunService,
    idempotency: IdempotencyKey,
    response: Response,
) -> DecisionRun:
    """Decide for all customers in files. Each row gets the decision that `POST /insights` would make at this moment.

    The response comes before the work begins. A run reserves the contacts that it decides on, and writes one row for
    each customer. A dry run only computes the summary, also with other weights, policies, values and actions.
    """
    return tagged(response, service.create(context, body, idempotency))


@router.get("", extension=True)
def list_decision_runs(
    context: CurrentContext, service: CurrentDecisionRunService, limit: Limit = 10, after: After = ""
) -> Page[DecisionRun]:
    """List decision runs, newest first. Only a single run shows the progress of one that has not ended."""
    return service.list_after(context, after, limit)


@router.get("/{id}", extension=True)
def get_decision_run(
    id: str, context: CurrentContext, service: CurrentDecisionRunService, response: Response
) -> DecisionRun:
    """Get a run: its progress, its refused rows by reason, rate, cost and estimated time, and its engine."""
    return tagged(response, service.get(context, id))


@router.get("/{id}/summary", extension=True, responses=errors(409))
def get_decision_run_summary(
    id: str, context: CurrentContext, service: CurrentDecisionRunService, compare_to: ComparedTo = None
) -> DecisionSummary:
    """Get what a run decided: offers by action and channel, removals by rule, expected value, and the limits' use."""
    return service.summary(context, id, compare_to)


@router.get("/{id}/files", extension=True, responses=errors(403, 409))
def list_decision_run_files(
    id: str, context: CurrentContext, service: CurrentDecisionRunService, limit: Limit = 10, after: AfterFile = ""
) -> Page[Download]:
    """List the files of a run's output, each with an address from which anyone can read it for 15 minutes.

    A dry run, and a run that has not succeeded, has none.
    """
    return service.files(context, id, after, limit)


@router.post("/{id}/stop", extension=True, responses=errors(409))
def stop_decision_run(
    id: str, context: CurrentContext, service: CurrentDecisionRunService, response: Response
) -> DecisionRun:
    """Stop a run. Nothing of it is published, and no contact stays reserved."""
    return tagged(response, service.stop(context, id))


@router.post("/{id}/restart", extension=True, status_code=201, responses=errors(409, 429, 503))
def restart_decision_run(
    id: str, context: CurrentContext, service: CurrentDecisionRunService, response: Response
) -> DecisionRun:
    """Go on with a run that failed or was stopped, at its own moment: a new run takes over the finished parts."""
    return tagged(response, service.restart(context, id))


@router.post("/{id}/cancel", extension=True, responses=errors(409))
def cancel_decision_run(
    id: str, context: CurrentContext, service: CurrentDecisionRunService, response: Response
) -> DecisionRun:
    """Release the contacts that a run has reserved, before they are sent. Its files stay; do not send from them."""
    return tagged(response, service.cancel(context, id))
