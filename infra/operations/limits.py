"""Sets the limits of one space instead of the stage's (infra/settings.py). They hold from the next request on."""

from collections.abc import Mapping
from typing import Any

import boto3

# For each limit, the setting of the stage. shared/models/job_limits.py reads the item.
LIMITS = {
    "running_trainings": "max_running_trainings",
    "running_evaluations": "max_running_evaluations",
    "running_runs": "max_running_runs",
    "gpu_hours_per_month": "max_gpu_hours_per_month",
    "storage_gib": "max_storage_gib",
}


def set_limits(session: boto3.Session, table: str, space_id: str, changes: Mapping[str, int]) -> dict[str, int]:
    """Changes limits of a space and returns all of its own limits. Raises LookupError for an unknown space."""
    entities = session.resource("dynamodb").Table(table)
    if "Item" not in entities.get_item(Key={"PK": f"space#{space_id}", "SK": space_id}):
        raise LookupError(f"there is no space {space_id} in {table}")
    key = {"PK": f"space_usage#{space_id}", "SK": "limits"}
    found: Any = entities.get_item(Key=key, ConsistentRead=True).get("Item", {}).get("limits", {})
    limits = {name: int(value) for name, value in found.items()} | dict(changes)
    if changes:
        entities.put_item(Item={**key, "limits": limits})
    return limits


def reset_limits(session: boto3.Session, table: str, space_id: str) -> None:
    """Lets the stage's limits hold for the space again."""
    key = {"PK": f"space_usage#{space_id}", "SK": "limits"}
    session.resource("dynamodb").Table(table).delete_item(Key=key)
