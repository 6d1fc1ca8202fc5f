"""Time and identifiers, in one place so that tests can replace the clock."""

from collections.abc import Callable
from datetime import UTC, datetime

from uuid_utils.compat import uuid7

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    return datetime.now(UTC)


def new_id() -> str:
    """Returns a UUIDv7: later ids sort after earlier ones, also within one millisecond of one process."""
    return str(uuid7())
