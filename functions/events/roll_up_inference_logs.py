"""Reads new calls from the logs table's stream and adds each to its rollups exactly once.

When something fails the whole batch comes again, halved; what was counted by then is left out.
"""

from itertools import groupby
from typing import Any

from aws_lambda_powertools.metrics import MetricUnit

from shared.dynamodb.codec import decode_item
from shared.dynamodb.table import Item
from shared.observability import logger, measure
from shared.resources import Resources

_resources = Resources()


def roll_up_inference_logs(event: dict[str, Any], resources: Resources) -> int:
    """Adds up the rows of a batch, space by space, and returns their number."""
    rows = sorted((decode_item(record["dynamodb"]["NewImage"]) for record in event["Records"]), key=_space_id)
    for space_id, of_space in groupby(rows, key=_space_id):
        resources.inference_logs.rollups.add(space_id, list(of_space))
    # How fast a space's own server is, is not our promise.
    ours = (row for row in rows if row.get("first_token_ms") is not None and not row.get("is_own_cluster"))
    first_tokens = (float(row["first_token_ms"]) for row in ours)
    measure("FirstToken", first_tokens, MetricUnit.Milliseconds)
    return len(rows)


def _space_id(row: Item) -> str:
    _, space_id, *_ = row["PK"].split("#")
    return str(space_id)


@logger.inject_lambda_context
def handler(event: dict[str, Any], _context: Any) -> None:
    logger.info("rolled up", extra={"rows": roll_up_inference_logs(event, _resources)})
