"""Write markers: who made a write. The audit log is based on them.

Each entity that is created or updated carries a stamp, unique to the write: two images of an item with the same stamp
differ by something else than a write of the entity, such as a mark of its use. What is deleted says nothing of its
deletion: the stamp of that is left under ``removal#<space>`` for a few days, in the same transaction. Its key names the
write that the deletion removed, because an entity with the same id may be created and deleted again.
"""

from contextvars import ContextVar
from datetime import timedelta
from typing import NamedTuple

from boto3.dynamodb.conditions import Attr, ConditionBase

from shared.clock import Clock, new_id
from shared.dynamodb.table import Item, Key, Write, put

# The user whose request is being answered; workflows and events have none.
SYSTEM = "system"
actor: ContextVar[str] = ContextVar("actor", default=SYSTEM)
# The API key with which this user called.
acting_key: ContextVar[str | None] = ContextVar("acting_key", default=None)

WRITE_MARKER = "written_by"
REMOVAL = "removed_by"
# A stream keeps its records for a day.
REMOVAL_KEPT = timedelta(days=3)


class WriteMarker(NamedTuple):
    """Content of a write marker. The id contains the time of the write."""

    actor: str
    api_key_id: str | None
    write_id: str


def write_marker() -> str:
    """Returns the actor, the API key if one was used, and the id of a new write."""
    return "#".join(each for each in (actor.get(), acting_key.get(), new_id()) if each)


def has_write_marker(item: Item | None, text: str | None) -> bool:
    """Returns whether this write made the item.

    The SDK repeats a write without a response. If the first one succeeded, its condition meets its own item.
    """
    return item is not None and item.get(WRITE_MARKER) == text


def read_write_marker(text: str) -> WriteMarker:
    """Returns the content of a write marker."""
    caller, _, write_id = text.rpartition("#")
    who, _, key_id = caller.partition("#")
    return WriteMarker(who, key_id or None, write_id)


def removal_key(item: Item) -> Key:
    """Returns the key of the item that says who deleted this one, as its last write left it."""
    kind, _, owner = item["PK"].partition("#")
    write_id = read_write_marker(item.get(WRITE_MARKER, "")).write_id
    return Key(f"removal#{owner}", f"{kind}#{item['SK']}#{write_id}")


def removal(item: Item, clock: Clock) -> Write:
    """Returns the write that says who deletes an entity. Its transaction checks that the entity is ``as_written``."""
    values = {REMOVAL: write_marker(), "expires_at": int((clock() + REMOVAL_KEPT).timestamp())}
    return put(removal_key(item), values)


def as_written(item: Item) -> ConditionBase:
    """Returns the condition that nobody has written the entity since it was read."""
    marker = item.get(WRITE_MARKER)
    return Attr(WRITE_MARKER).not_exists() if marker is None else Attr(WRITE_MARKER).eq(marker)
