"""Reads the partition keys from calls to DynamoDB, for IAM's condition ``dynamodb:LeadingKeys``."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

# IAM checks each part of a transaction as one of these actions.
_ACTIONS_OF_PARTS = {
    "ConditionCheck": "ConditionCheckItem",
    "Delete": "DeleteItem",
    "Get": "GetItem",
    "Put": "PutItem",
    "Update": "UpdateItem",
}
# The store always writes the condition on the partition key first.
_COMPARED = re.compile(r"#?\w+\s*=\s*(:\w+)")


class TableAccess(NamedTuple):
    """An action on one partition of a table. ``action`` is its name in policies without the service."""

    action: str
    table: str
    partition: str


def table_accesses(operation: str, request: dict[str, Any]) -> Iterator[TableAccess]:
    """Yields an access for each key of a call, with each part of a transaction and each item of a batch."""
    if operation == "Query":
        [value, *_] = _COMPARED.findall(request["KeyConditionExpression"])
        yield TableAccess(operation, request["TableName"], _text(request["ExpressionAttributeValues"][value]))
    elif operation == "BatchGetItem":
        for table, wanted in request["RequestItems"].items():
            yield from (TableAccess(operation, table, _partition(key)) for key in wanted["Keys"])
    elif operation == "BatchWriteItem":
        for table, writes in request["RequestItems"].items():
            for write in writes:
                item = write["PutRequest"]["Item"] if "PutRequest" in write else write["DeleteRequest"]["Key"]
                yield TableAccess(operation, table, _partition(item))
    elif operation in ("TransactWriteItems", "TransactGetItems"):
        for item in request["TransactItems"]:
            for part, one in item.items():
                yield TableAccess(_ACTIONS_OF_PARTS[part], one["TableName"], _partition(one.get("Key") or one["Item"]))
    elif "Key" in request or "Item" in request:
        yield TableAccess(operation, request["TableName"], _partition(request.get("Key") or request["Item"]))


def _partition(key: dict[str, Any]) -> str:
    return _text(key["PK"])


def _text(value: Any) -> str:
    """Returns the text of a serialised value, or of a value of boto3's resource interface."""
    return str(value["S"] if isinstance(value, dict) else value)
