"""A training has succeeded: its checkpoint is to be measured on one of its benchmarks."""

from typing import Any

from shared.aws.resources import Resources
from shared.errors import ApiError, JobFailedError
from shared.models.evaluation import EvaluationCreate
from shared.observability import workflow_step
from shared.store.evaluations import Evaluations
from shared.store.repository import Idempotency
from shared.store.trainings import Trainings

_resources = Resources()


def create_evaluation(resources: Resources, event: dict[str, Any]) -> dict[str, str]:
    """A pending evaluation, or the one that an earlier try of this step made.

    Takes ``{space_id, training_id, checkpoint_id, benchmark_id}``, answers ``{space_id, evaluation_id}``.
    Raises JobFailedError when the training or the benchmark was deleted meanwhile.
    """
    space_id, checkpoint_id, benchmark_id = event["space_id"], event["checkpoint_id"], event["benchmark_id"]
    once = Idempotency(f"{checkpoint_id}/{benchmark_id}", user_id=event["training_id"], fingerprint=checkpoint_id)
    request = EvaluationCreate(benchmark_id=benchmark_id, checkpoint_id=checkpoint_id, gpu_count=0)
    try:
        creator = Trainings(resources.table, resources.clock).get(space_id, event["training_id"]).created_by
        evaluation = Evaluations(resources.table, resources.clock).create(space_id, creator, request, once)
    except ApiError as error:
        if error.status >= 500:
            raise
        raise JobFailedError(f"The checkpoint can't be evaluated: {error.message}") from error
    return {"space_id": space_id, "evaluation_id": evaluation.id}


@workflow_step
def handler(event: dict[str, Any]) -> dict[str, Any]:
    return dict(create_evaluation(_resources, event))
