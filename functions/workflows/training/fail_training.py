"""A training's workflow failed: the reason is kept with the training, in words for its owner."""

from typing import Any

from shared.aws.training_jobs import SageMakerJobs, job_name_prefix
from shared.errors import NotFoundError
from shared.jobs.failures import count_failed_job, explain
from shared.models.job_reference import JobKind
from shared.observability import logger, workflow_step
from shared.resources import Resources
from shared.trainings.store import Trainings

_resources = Resources()


def fail_training(resources: Resources, event: dict[str, Any]) -> dict[str, Any]:
    """Ends the training as ``failed``, or ``stopped`` if its job was, and removes its references.

    Takes ``{space_id, training_id, error, cause}`` with Step Functions' own ``Error`` and ``Cause``. A training that
    has ended stays as it is; one that was deleted is finished when its job is seen to have stopped. Whatever failed, a
    SageMaker job that still runs is stopped before, because nobody looks for it afterwards.
    """
    SageMakerJobs(resources.sagemaker).stop_latest(job_name_prefix(JobKind.TRAINING, event["training_id"]))
    failure = explain(str(event.get("error") or ""), str(event.get("cause") or ""))
    count_failed_job(failure)
    trainings = Trainings(resources.table, resources.clock)
    try:
        ended = trainings.end(event["space_id"], event["training_id"], failure.status, {"error": failure.error})
    except NotFoundError:
        logger.info("the training was deleted")
        return {**event, "status": None}
    return {**event, "status": ended.status}


@workflow_step
def handler(event: dict[str, Any]) -> dict[str, Any]:
    return fail_training(_resources, event)
