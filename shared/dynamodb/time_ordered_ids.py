"""Ids that contain the time of their making and sort by it: UUIDv7. Times are whole milliseconds since 1970."""

from datetime import UTC, datetime, timedelta

from boto3.dynamodb.conditions import ConditionBase
from boto3.dynamodb.conditions import Key as KeyCondition

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)


def time_of(log_id: str) -> int:
    """Returns the time of a UUIDv7 in milliseconds."""
    return int(log_id.replace("-", "")[:12], 16)


def made_at(log_id: str) -> datetime:
    """Returns the time of a UUIDv7."""
    return EPOCH + time_of(log_id) * MILLISECOND


def milliseconds(moment: datetime, *, up: bool = False) -> int:
    """Returns the last whole millisecond that has begun by then, or the first that begins no earlier."""
    return -((EPOCH - moment) // MILLISECOND) if up else (moment - EPOCH) // MILLISECOND


def id_prefix(time: int) -> str:
    """Returns the prefix of the ids of that time."""
    digits = f"{max(0, min(time, 2**48 - 1)):012x}"
    return f"{digits[:8]}-{digits[8:]}"


def ids_within(start: datetime, end: datetime | None = None, *, before: str | None = None) -> ConditionBase:
    """Returns the sort keys that are ids of a period, both its ends inclusive, and sort before the id ``before``."""
    first = id_prefix(milliseconds(start, up=True))
    last = "~" if end is None else id_prefix(milliseconds(end) + 1)
    if before is not None:
        # Ranges include their ends: no id lies between this and the other.
        last = min(last, f"{before[:-1]}{chr(ord(before[-1]) - 1)}")
    # DynamoDB refuses a range that ends before it starts; nothing sorts before a blank.
    return KeyCondition("SK").between(first, last) if first <= last else KeyCondition("SK").lt(" ")
