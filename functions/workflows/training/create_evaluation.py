"""A training has succeeded: its checkpoint is to be measured on one of its benchmarks."""

from typing import Any

from shared.errors import ApiError, JobFailedError
from shared.jobs.store import Jobs
from shared.observability import workflow_step
from shared.resources import Resources

_resources = Resources()


def create_evaluation(resources: Resources, event: dict[str, Any]) -> dict[str, str]:
    """Returns a pending evaluation, or the one that an earlier try of this step made.

    Takes ``{space_id, training_id, checkpoint_id, benchmark_id}``, answers ``{space_id, evaluation_id}``.
    Raises JobFailedError if the training or the benchmark was deleted.
    """
    space_id, wanted = event["space_id"], (event["checkpoint_id"], event["benchmark_id"])
    due = Jobs(resources.table, resources.clock).due(event["training_id"])
    found = next((each for each in due if (each.checkpoint_id, each.benchmark_id) == wanted), None)
    if found is None:
        raise JobFailedError("The training was deleted, or does without the benchmark.")
    try:
        evaluation = resources.due_evaluations.create(space_id, found)
    except ApiError as error:
        if error.status >= 500:
            raise
        raise JobFailedError(f"The checkpoint can't be evaluated: {error.message}") from error
    return {"space_id": space_id, "evaluation_id": evaluation.id}


@workflow_step
def handler(event: dict[str, Any]) -> dict[str, Any]:
    return dict(create_evaluation(_resources, event))
