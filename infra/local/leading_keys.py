"""The keys of the table that a call is about, as IAM sees them: ``dynamodb:LeadingKeys`` of its conditions."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

# What a part of a transaction is judged as.
_PARTS = {
    "ConditionCheck": "ConditionCheckItem",
    "Delete": "DeleteItem",
    "Get": "GetItem",
    "Put": "PutItem",
    "Update": "UpdateItem",
}
# The store compares the partition first.
_COMPARED = re.compile(r"#?\w+\s*=\s*(:\w+)")


class TableAccess(NamedTuple):
    """What is done to one partition of a table; ``action`` as policies name it, without the service."""

    action: str
    table: str
    partition: str


def table_accesses(operation: str, request: dict[str, Any]) -> Iterator[TableAccess]:
    """All that a call to DynamoDB touches, each part of a transaction and each item of a batch by itself."""
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
                yield TableAccess(_PARTS[part], one["TableName"], _partition(one.get("Key") or one["Item"]))
    elif "Key" in request or "Item" in request:
        yield TableAccess(operation, request["TableName"], _partition(request.get("Key") or request["Item"]))


def _partition(key: dict[str, Any]) -> str:
    return _text(key["PK"])


def _text(value: Any) -> str:
    """Of a value as sent, or as a caller of boto3's resources gives it."""
    return str(value["S"] if isinstance(value, dict) else value)
