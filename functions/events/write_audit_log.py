"""Reads writes from the entity table's stream, and stores each as one row of the audit log.

When something fails the whole batch comes again, halved; what was noted by then is left as it is.
"""

from typing import Any

from shared.dynamodb.codec import decode_images
from shared.observability import logger
from shared.resources import Resources

_resources = Resources()


def write_audit_log(event: dict[str, Any], resources: Resources) -> int:
    """Stores the writes of a batch and returns the number of records."""
    resources.audit_logs.record([decode_images(record) for record in event["Records"]])
    return len(event["Records"])


@logger.inject_lambda_context
def handler(event: dict[str, Any], _context: Any) -> None:
    logger.info("noted", extra={"records": write_audit_log(event, _resources)})
