"""Uses: while a running training needs an item, the item can't be deleted.

The number of uses stands on the item itself and moves in the same transaction as the training's start and end, so that
neither a late delete nor a crash leaves one without the other.
"""

from boto3.dynamodb.conditions import Attr, ConditionBase

from shared.dynamodb.table import Key, Write, update
from shared.errors import ApiError

UNREFERENCED: ConditionBase = Attr("active_uses").not_exists() | Attr("active_uses").lte(0)


def add_reference(key: Key, missing: ApiError) -> Write:
    """One more use of an item; ``missing`` is raised when it does not exist."""
    return update(key, {}, add={"active_uses": 1}, condition=Attr("PK").exists(), error=missing)


def remove_reference(key: Key) -> Write:
    """One use less."""
    return update(key, {}, add={"active_uses": -1})
