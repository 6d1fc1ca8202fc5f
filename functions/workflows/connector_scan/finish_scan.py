"""A scan ends: its files are counted, and those that no reader came back from get an error too."""

import json
from typing import Any

from shared.connectors.catalog import Seen
from shared.errors import NotFoundError
from shared.models.catalog import CatalogStatus
from shared.models.job_status import JobStatus
from shared.observability import workflow_step
from shared.resources import Resources

NO_RESULT = (
    "The file could not be read within the time and memory of a scan (15 minutes, 3 GB). "
    "Split it, or write it as Parquet with smaller row groups, and upload it again."
)
_resources = Resources()


def finish_scan(resources: Resources, event: dict[str, Any]) -> dict[str, Any]:
    """Takes what ``list_scan_files`` answered. Safe to repeat."""
    space_id, connector_id, scan_id = event["space_id"], event["connector_id"], event["scan_id"]
    scans = resources.connector_scans
    try:
        scans.scans.connectors.get(space_id, connector_id)
    except NotFoundError:
        scans.scans.end(space_id, connector_id, scan_id, JobStatus.STOPPED, {"error": "The connector was deleted."})
        scans.scans.close(scan_id)
        return {"status": JobStatus.STOPPED}
    content = resources.s3.get_object(Bucket=resources.settings.bucket_name, Key=event["list_key"])["Body"].read()
    states = scans.catalog.states(space_id, connector_id)
    problems = scans.catalog.problems(space_id, connector_id, scan_id)
    counts = {"total": 0, "scanned": 0, "failed": 0}
    failures: dict[str, tuple[str, Seen]] = {}
    for item in json.loads(content):
        counts["total"] += 1
        state = states.get(item["name"])
        if state is not None and state.scan_id == scan_id:
            counts["scanned"] += state.status == CatalogStatus.SCANNED
            counts["failed"] += state.status == CatalogStatus.ERROR
        elif state is None or state.sequencer == item["sequencer"]:
            seen = Seen(item["sequencer"], item["request"])
            failures[item["name"]] = problems.get(item["name"], NO_RESULT), seen
    counts["failed"] += scans.record_failures(space_id, connector_id, scan_id, failures)
    scans.succeed(space_id, connector_id, scan_id, counts)
    return {"status": JobStatus.SUCCEEDED, **counts}


@workflow_step
def handler(event: dict[str, Any]) -> dict[str, Any]:
    return finish_scan(_resources, event)
