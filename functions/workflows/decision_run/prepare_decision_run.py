"""A decision run begins: its engine gets the tasks."""

from typing import Any

from functions.workflows.batch_runs import prepare_run
from shared.models.decision_run import DecisionRun
from shared.models.job_reference import JobKind
from shared.observability import workflow_step
from shared.resources import Resources
from shared.runs.store import Runs

_resources = Resources()


def prepare_decision_run(resources: Resources, event: dict[str, Any]) -> dict[str, Any]:
    """Takes ``{space_id, decision_run_id}``; returns what the engine of the run needs. Safe to repeat.

    Raises JobFailedError, see ``prepare_run``.
    """
    runs = Runs(resources.table, DecisionRun, JobKind.DECISION_RUN, resources.clock)
    return prepare_run(resources, event["space_id"], runs, event["decision_run_id"])


@workflow_step
def handler(event: dict[str, Any]) -> dict[str, Any]:
    return prepare_decision_run(_resources, event)
