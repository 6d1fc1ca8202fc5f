"""Reads tables completely and finds items by the layout of their keys."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from shared.dynamodb.codec import decode_item
from shared.dynamodb.repository import is_identifier

Item = dict[str, Any]
Problems = Iterator[str]

# Entities of a user in a space, or of another entity.
KINDS_WITH_TWO_OWNERS = {"api_key", "argument_change", "argument_comment", "webhook_delivery"}
FINAL = {"succeeded", "failed", "stopped"}


def read_items(dynamodb: Any, table_name: str) -> list[Item]:
    """Returns all items of a table."""
    pages = dynamodb.get_paginator("scan").paginate(TableName=table_name, ConsistentRead=True)
    return [decode_item(item) for page in pages for item in page["Items"]]


def read_keys(s3: Any, bucket: str) -> list[str]:
    """Returns the keys of all objects of a bucket."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return [found["Key"] for page in pages for found in page.get("Contents", [])]


def read_running_jobs(sagemaker: Any) -> list[str]:
    """Returns the names of the SageMaker jobs that run."""
    return [
        found[f"{kind}JobName"]
        for kind in ("Training", "Processing")
        for page in sagemaker.get_paginator(f"list_{kind.lower()}_jobs").paginate(StatusEquals="InProgress")
        for found in page[f"{kind}JobSummaries"]
    ]


@dataclass
class StoredItems:
    """All items of the entity table and of the logs table, the keys of all objects in the bucket, and running jobs.

    ``running_jobs`` are the names of the SageMaker jobs that AWS bills and nobody has stopped.
    """

    entities: list[Item]
    logs: list[Item] = field(default_factory=list)
    objects: list[str] = field(default_factory=list)
    running_jobs: list[str] = field(default_factory=list)

    @cached_property
    def partitions(self) -> dict[str, dict[str, Item]]:
        found: dict[str, dict[str, Item]] = defaultdict(dict)
        for item in self.entities:
            found[item["PK"]][item["SK"]] = item
        return found

    def of(self, kind: str) -> Iterator[tuple[str, str, Item]]:
        """Yields the space (or user, or both), id and item of each entity of a kind, except for deleted ones."""
        for owner, sk, item in self.under(kind):
            if is_owner(kind, owner) and is_entity(kind, sk):
                yield owner, sk, item

    def under(self, kind: str) -> Iterator[tuple[str, str, Item]]:
        """Yields the rest of the partition key, the sort key and the item of everything under ``<kind>#``."""
        for pk, items in self.partitions.items():
            name, _, rest = pk.partition("#")
            if name == kind:
                yield from ((rest, sk, item) for sk, item in items.items())

    def parts(self, kind: str, part: str) -> Iterator[tuple[str, dict[str, Item]]]:
        """Yields the partitions ``<kind>#<space>#<part>…``, except for their counters."""
        for pk, items in self.partitions.items():
            if pk.split("#")[:1] == [kind] and pk.split("#")[2:3] == [part] and not pk.endswith("#count"):
                yield pk, items


def is_entity(kind: str, sk: str) -> bool:
    """Returns whether a sort key is an entity's. Lists of all spaces have other keys in the same partitions."""
    return kind in ("checkpoint_alias", "checkpoint_gate", "insight_policy") or is_identifier(sk)


def is_owner(kind: str, text: str) -> bool:
    """Returns whether entities of the kind are stored under the owner."""
    return all(map(is_identifier, text.split("#"))) and text.count("#") == (kind in KINDS_WITH_TWO_OWNERS)
