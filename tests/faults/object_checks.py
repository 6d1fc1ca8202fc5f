"""Checks of the objects in S3: each belongs to something that exists."""

import re

from tests.faults.stored_items import Problems, StoredItems

# Objects of a connector: uploaded files, copies of tables, and long column lists.
CONNECTORS = re.compile(r"spaces/(?P<space>[^/]+)/(?:connectors|snapshots|scans/columns)/(?P<id>[^/]+)/")
# Values that are too large for their items, which name them.
VALUES = re.compile(r"spaces/[^/]+/(?:chats|experts|insights)/")


def owners(items: StoredItems) -> Problems:
    """Finds objects of deleted connectors, and values that no item names."""
    named = {
        value["object_key"]
        for item in items.entities
        for value in item.values()
        if isinstance(value, dict) and "object_key" in value
    }
    for key in items.objects:
        found = CONNECTORS.match(key)
        if found and found["id"] not in items.partitions.get(f"connector#{found['space']}", {}):
            yield f"{key} remains of a deleted connector"
        if VALUES.match(key) and key not in named:
            yield f"{key} is named by no item"
