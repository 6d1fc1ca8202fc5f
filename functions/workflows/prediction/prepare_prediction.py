"""A prediction run begins: its engine gets the tasks."""

from typing import Any

from shared.errors import JobFailedError, NotFoundError
from shared.models.job_reference import JobKind
from shared.models.prediction import PredictionRun
from shared.observability import workflow_step
from shared.resources import Resources
from shared.runs.store import Runs

_resources = Resources()


def prepare_prediction(resources: Resources, event: dict[str, Any]) -> dict[str, Any]:
    """Takes ``{space_id, prediction_id}``; returns what the engine of the run needs. Safe to repeat.

    Raises JobFailedError for a run that has ended.
    """
    space_id, run_id = event["space_id"], event["prediction_id"]
    runs = Runs(resources.table, PredictionRun, JobKind.PREDICTION, resources.clock)
    try:
        run = runs.start(space_id, run_id)
    except NotFoundError:
        raise JobFailedError("The run is gone.") from None
    if run.status.is_final:
        raise JobFailedError(f"The run has {run.status} already.")
    return resources.run_plans.engine_input(space_id, run)


@workflow_step
def handler(event: dict[str, Any]) -> dict[str, Any]:
    return prepare_prediction(_resources, event)
