"""The workflow of a prediction run failed: the reason is kept with the run, in words for its owner."""

from typing import Any

from functions.workflows.batch_runs import fail_run
from shared.models.job_reference import JobKind
from shared.models.prediction import PredictionRun
from shared.observability import workflow_step
from shared.resources import Resources
from shared.runs.store import Runs

_resources = Resources()


def fail_prediction(resources: Resources, event: dict[str, Any]) -> dict[str, Any]:
    """Takes ``{space_id, prediction_id, error, cause}``. See ``fail_run``."""
    return fail_run(resources, event, Runs(resources.table, PredictionRun, JobKind.PREDICTION, resources.clock))


@workflow_step
def handler(event: dict[str, Any]) -> dict[str, Any]:
    return fail_prediction(_resources, event)
