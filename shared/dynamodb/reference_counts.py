"""Reference counts: while a running training needs an item, the item can't be deleted.

The count is on the item itself and changes in the same transaction as the training's start and end, so that
neither a late delete nor a crash leaves one without the other.
"""

from boto3.dynamodb.conditions import Attr, ConditionBase

from shared.dynamodb.table import Key, Write, update
from shared.errors import ApiError

UNREFERENCED: ConditionBase = Attr("active_uses").not_exists() | Attr("active_uses").lte(0)


def add_reference(key: Key, missing: ApiError) -> Write:
    """Returns the write that adds a reference to an item; ``missing`` is raised if the item does not exist."""
    return update(key, {}, add={"active_uses": 1}, condition=Attr("PK").exists(), error=missing)


def remove_reference(key: Key) -> Write:
    """Returns the write that removes a reference."""
    return update(key, {}, add={"active_uses": -1})
