"""When anything went wrong: the evaluation ends with the reason, in words for the people who started it."""

from typing import Any

from shared.aws.training_jobs import SageMakerJobs, job_name_prefix
from shared.jobs.failures import count_failed_job, explain
from shared.models.job_reference import JobKind
from shared.observability import workflow_step
from shared.resources import Resources

_resources = Resources()


def fail_evaluation(resources: Resources, event: dict[str, Any]) -> dict[str, Any]:
    """Ends the evaluation ``failed`` or ``stopped``, unless it has ended already, after its SageMaker job.

    Takes ``{space_id, evaluation_id, error, cause}``, the last two in Step Functions' own words; answers
    ``{space_id, evaluation_id, status}``.
    """
    space_id, evaluation_id = event["space_id"], event["evaluation_id"]
    SageMakerJobs(resources.sagemaker).stop_latest(job_name_prefix(JobKind.EVALUATION, evaluation_id))
    failure = explain(event["error"], event["cause"])
    count_failed_job(failure)
    ended = resources.evaluations.end(space_id, evaluation_id, failure.status, failure.error)
    return {"space_id": space_id, "evaluation_id": evaluation_id, "status": ended.result.status}


@workflow_step
def handler(event: dict[str, Any]) -> dict[str, Any]:
    return fail_evaluation(_resources, event)
