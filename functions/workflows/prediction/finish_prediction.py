"""A prediction run ends: its output appears as a whole."""

from typing import Any

from functions.workflows.batch_runs import finish_run
from shared.models.job_reference import JobKind
from shared.models.prediction import PREDICTION_COLUMNS, PredictionRun
from shared.observability import workflow_step
from shared.resources import Resources
from shared.runs.store import Runs

_resources = Resources()


def finish_prediction(resources: Resources, event: dict[str, Any]) -> dict[str, Any]:
    """Takes ``{space_id, prediction_id}``. Safe to repeat. Raises JobFailedError, see ``finish_run``."""
    runs = Runs(resources.table, PredictionRun, JobKind.PREDICTION, resources.clock)
    finish_run(resources, event["space_id"], runs, event["prediction_id"], PREDICTION_COLUMNS)
    return {}


@workflow_step
def handler(event: dict[str, Any]) -> dict[str, Any]:
    return finish_prediction(_resources, event)
