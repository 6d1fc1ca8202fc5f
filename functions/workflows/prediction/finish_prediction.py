"""A prediction run ends: each customer has one row, and the output appears as a whole."""

from typing import Any

from functions.workflows.batch_runs import complete_parts, end_run
from functions.workflows.prediction.leaving_out import LeavingOut
from shared.models.job_reference import JobKind
from shared.models.prediction import PREDICTION_COLUMNS, PredictionRun
from shared.observability import workflow_step
from shared.resources import Resources
from shared.runs.store import Runs

_resources = Resources()


def finish_prediction(resources: Resources, event: dict[str, Any]) -> dict[str, Any]:
    """Takes ``{space_id, prediction_id}``. Safe to repeat.

    Raises JobFailedError if parts are missing, too many rows were refused, or the output cannot be written.
    """
    space_id, run_id = event["space_id"], event["prediction_id"]
    runs = Runs(resources.table, PredictionRun, JobKind.PREDICTION, resources.clock)
    run = runs.repository.get(space_id, run_id)
    if run.status.is_final:
        return {}
    parts = LeavingOut(resources, space_id, run, complete_parts(resources, space_id, runs, run))
    repeats = parts.repeats()
    resources.run_publisher.begin(space_id, runs, run)
    # An erasure that comes later names the run, because it has begun to publish.
    results = parts.kept(repeats, resources.run_erasures.since(space_id, run.work_began_at))
    duplicates = repeats.rows if repeats else None
    resources.run_publisher.publish(space_id, runs, run, results, PREDICTION_COLUMNS, duplicates)
    found = {"duplicates": duplicates, "duplicate_rows": repeats.shown if repeats else []}
    end_run(resources, space_id, runs, run_id, found)
    return {}


@workflow_step
def handler(event: dict[str, Any]) -> dict[str, Any]:
    return finish_prediction(_resources, event)
