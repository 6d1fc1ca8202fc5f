"""Computes the units that DynamoDB charges for requests, because emulators return no units or wrong ones.

Sources: "DynamoDB item sizes and formats", "DynamoDB read and write operations" and "Amazon DynamoDB Transactions: How
it works" in the Amazon DynamoDB Developer Guide.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import boto3
from botocore.exceptions import ClientError

from tests.fixtures.aws import LOG_INDEXES

# What a query does not return of what it reads.
_NARROWS = ("FilterExpression", "ProjectionExpression", "Select")


def item_bytes(item: Mapping[str, Any]) -> int:
    """Returns the billed size of an item in DynamoDB's JSON."""
    return sum(len(name.encode()) + _value_bytes(value) for name, value in item.items())


def _value_bytes(value: Mapping[str, Any]) -> int:
    ((kind, content),) = value.items()
    match kind:
        case "S":
            return len(content.encode())
        case "N":
            return len(content.lstrip("-").replace(".", "").strip("0")) // 2 + 2
        case "B":
            return len(content)
        case "L":
            return 3 + sum(1 + _value_bytes(each) for each in content)
        case "M":
            return 3 + sum(1 + len(name.encode()) + _value_bytes(each) for name, each in content.items())
        case _:
            return 1


def write_units(size: int, *, transaction: bool = False) -> int:
    """Returns the units of a write: one for each started kilobyte, and two within a transaction."""
    return -(-max(size, 1) // 1024) * (2 if transaction else 1)


def read_units(size: int) -> int:
    """Returns the units of a strongly consistent read: one for each started 4 KB."""
    return -(-max(size, 1) // 4096)


@dataclass(frozen=True)
class Usage:
    """The units of some requests. ``written`` has them by partition key, of the table or of an index."""

    read: int = 0
    written: Counter[str] = field(default_factory=Counter)

    @property
    def write(self) -> int:
        return self.written.total()


class Meter:
    """A meter of a client's requests."""

    def __init__(self, client: Any) -> None:
        # The meter does not count the requests of this client.
        self._store = boto3.client("dynamodb")
        self._requests: list[tuple[str, dict[str, Any]]] = []
        self._read = 0
        client.meta.events.register("provide-client-params.dynamodb", self._on_request)
        client.meta.events.register("before-parameter-build.dynamodb.Query", self._on_query)
        client.meta.events.register("after-call.dynamodb", self._on_response)

    def measure(self, call: Callable[[], object]) -> Usage:
        """Returns the units of the requests that the call makes."""
        self._requests.clear()
        self._read = 0
        call()
        written: Counter[str] = Counter()
        for name, request in self._requests:
            for table, operation, parameters in _writes(name, request):
                self._charge(written, table, operation, parameters, transaction=name == "TransactWriteItems")
        return Usage(self._read, written)

    def _on_request(self, params: dict[str, Any], model: Any, **_: Any) -> None:
        self._requests.append((model.name, params))

    def _on_query(self, params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
        context["asked"] = params

    def _on_response(self, parsed: dict[str, Any], model: Any, context: dict[str, Any], **_: Any) -> None:
        if model.name == "GetItem":
            self._read += read_units(item_bytes(parsed.get("Item", {})))
        elif model.name == "Query":
            self._read += read_units(sum(map(item_bytes, self._read_by(context["asked"]))))
        elif model.name == "BatchGetItem":
            self._read += sum(read_units(item_bytes(item)) for items in parsed["Responses"].values() for item in items)

    def _read_by(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        """Returns the whole items that a query reads: those that it leaves out, and attributes, are charged, too."""
        plain = {name: value for name, value in request.items() if name not in _NARROWS}
        condition = request["KeyConditionExpression"]
        for name in ("ExpressionAttributeNames", "ExpressionAttributeValues"):
            used = {mark: value for mark, value in request[name].items() if re.search(rf"{mark}\b", condition)}
            plain[name] = used
        found: list[dict[str, Any]] = self._store.query(**plain)["Items"]
        return found

    def _charge(
        self, written: Counter[str], table: str, operation: str, parameters: dict[str, Any], *, transaction: bool
    ) -> None:
        item = parameters.get("Item") or self._item(table, parameters["Key"])
        units = write_units(item_bytes(item), transaction=transaction)
        written[item["PK"]["S"]] += units
        if operation != "ConditionCheck":
            for index in LOG_INDEXES:
                if index in item:
                    written[f"{index}: {item[index]['S']}"] += write_units(item_bytes(item))

    def _item(self, table: str, key: dict[str, Any]) -> dict[str, Any]:
        try:
            found: dict[str, Any] = self._store.get_item(TableName=table, Key=key).get("Item", key)
        except ClientError:
            return key
        return found


def _writes(name: str, request: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Returns table, operation and parameters of each write in a request."""
    if name == "TransactWriteItems":
        return [
            (parameters["TableName"], operation, parameters)
            for write in request["TransactItems"]
            for operation, parameters in write.items()
        ]
    if name == "BatchWriteItem":
        return [
            (table, operation.removesuffix("Request"), parameters)
            for table, writes in request["RequestItems"].items()
            for write in writes
            for operation, parameters in write.items()
        ]
    if name in ("PutItem", "UpdateItem", "DeleteItem"):
        return [(request["TableName"], name.removesuffix("Item"), request)]
    return []
