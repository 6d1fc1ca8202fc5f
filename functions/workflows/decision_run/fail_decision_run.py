"""The workflow of a decision run failed: the reason is kept with the run, and no contact stays reserved."""

from typing import Any

from functions.workflows.batch_runs import fail_run
from shared.models.decision_run import DecisionRun
from shared.models.job_reference import JobKind
from shared.observability import workflow_step
from shared.resources import Resources
from shared.runs.store import Runs

_resources = Resources()


def fail_decision_run(resources: Resources, event: dict[str, Any]) -> dict[str, Any]:
    """Takes ``{space_id, decision_run_id, error, cause}``. See ``fail_run``."""
    runs = Runs(resources.table, DecisionRun, JobKind.DECISION_RUN, resources.clock)
    return fail_run(resources, event, runs)


@workflow_step
def handler(event: dict[str, Any]) -> dict[str, Any]:
    return fail_decision_run(_resources, event)
