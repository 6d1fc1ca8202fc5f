"""When anything went wrong: the scan ends with the reason, in words for the people who started it."""

from typing import Any

from shared.jobs.failures import count_failed_job, explain
from shared.models.job_status import JobStatus
from shared.observability import workflow_step
from shared.resources import Resources

_resources = Resources()


def fail_scan(resources: Resources, event: dict[str, Any]) -> dict[str, Any]:
    """Input ``{space_id, connector_id, scan_id, error, cause}``, the last two being Step Functions' own words."""
    failure = explain(event["error"], event["cause"])
    count_failed_job(failure)
    resources.connector_scans.fail(event["space_id"], event["connector_id"], event["scan_id"], failure.error)
    return {"status": JobStatus.FAILED}


@workflow_step
def handler(event: dict[str, Any]) -> dict[str, Any]:
    return fail_scan(_resources, event)
