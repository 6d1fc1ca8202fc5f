"""Handles AWS events about executions and SageMaker jobs: updates the entity behind each."""

import re
from typing import Any

from functions.events.convergence import Convergence
from shared.jobs.store import Jobs
from shared.observability import logger
from shared.resources import Resources

_JOB_NAME = re.compile(r"(?:training|evaluation)-(?P<id>[0-9a-f-]{36})-\d+")
_resources = Resources()


def job_state_changed(event: dict[str, Any], resources: Resources) -> None:
    """Updates the job of an EventBridge event. Events about other jobs are ignored."""
    detail = event["detail"]
    job_name = _JOB_NAME.fullmatch(str(detail.get("TrainingJobName", "")))
    job_id = job_name["id"] if job_name else str(detail.get("name", ""))
    job = Jobs(resources.table, resources.clock).find(job_id)
    if job is None:
        logger.info("the event is about none of our jobs", extra={"source": event.get("source")})
        return
    Convergence(resources).converge(job)


@logger.inject_lambda_context
def handler(event: dict[str, Any], _context: Any) -> None:
    job_state_changed(event, _resources)
