"""DynamoDB tables: keys, conditional writes and transactions."""

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from boto3.dynamodb.conditions import ConditionBase, ConditionExpressionBuilder
from boto3.dynamodb.conditions import Key as KeyCondition
from botocore.exceptions import ClientError

from shared.clock import new_id
from shared.dynamodb.codec import StringSet, decode_item, encode, encode_item
from shared.dynamodb.schemas import stamped, upgraded
from shared.errors import ApiError, ContendedError, UnavailableError, ValidationFailedError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

Item = dict[str, Any]

PARTITION_KEY_BYTES, SORT_KEY_BYTES = 2048, 1024
TRANSACTION_ATTEMPTS = 12
CONFLICT_ATTEMPTS = 12

T = TypeVar("T")


@dataclass(frozen=True)
class Key:
    pk: str
    sk: str

    @property
    def values(self) -> dict[str, str]:
        return {"PK": self.pk, "SK": self.sk}

    @property
    def is_possible(self) -> bool:
        """Returns whether an item can have this key. Clients may send ids of any length."""
        return _fits(self.pk, PARTITION_KEY_BYTES) and _fits(self.sk, SORT_KEY_BYTES)


def _fits(part: str, limit: int) -> bool:
    return 0 < len(part.encode(errors="replace")) <= limit


def _required(key: Key) -> dict[str, str]:
    """Returns the values of a key to write. Raises ValidationFailedError for a key that no item can have."""
    if not key.is_possible:
        raise ValidationFailedError("An id or a name in the request is empty or too long. Send a shorter one.")
    return key.values


def _read(item: dict[str, Any]) -> Item:
    """Returns a stored item in the newest version of its kind."""
    return upgraded(decode_item(item))


class ConditionFailedError(Exception):
    """A conditional write met an item that does not satisfy its condition; ``item`` is that item, if there is one."""

    def __init__(self, item: Item | None) -> None:
        super().__init__("the condition of the write does not hold")
        self.item = item


@dataclass(frozen=True)
class Write:
    """One write of a transaction; ``error`` is raised when its condition does not hold.

    A ``TableName`` in the request puts it into another table than the rest.
    """

    operation: str
    request: dict[str, Any] = field(repr=False)
    error: ApiError | None = None


class TransactionFailedError(Exception):
    """A transaction was refused because the condition of the action at ``index`` does not hold."""

    def __init__(self, index: int, item: Item | None) -> None:
        super().__init__(f"the condition of action {index} does not hold")
        self.index = index
        self.item = item


def _expression(condition: ConditionBase | None) -> dict[str, Any]:
    if condition is None:
        return {}
    built = ConditionExpressionBuilder().build_expression(condition)
    parts: dict[str, Any] = {
        "ConditionExpression": built.condition_expression,
        "ExpressionAttributeNames": dict(built.attribute_name_placeholders),
    }
    if built.attribute_value_placeholders:
        parts["ExpressionAttributeValues"] = {
            name: encode(value) for name, value in built.attribute_value_placeholders.items()
        }
    return parts


def put(key: Key, values: Item, condition: ConditionBase | None = None, error: ApiError | None = None) -> Write:
    request = {"Item": encode_item(stamped({**_required(key), **values})), **_expression(condition)}
    return Write("Put", request, error)


def delete(key: Key, condition: ConditionBase | None = None, error: ApiError | None = None) -> Write:
    return Write("Delete", {"Key": encode_item(_required(key)), **_expression(condition)}, error)


def check(key: Key, condition: ConditionBase, error: ApiError | None = None) -> Write:
    return Write("ConditionCheck", {"Key": encode_item(_required(key)), **_expression(condition)}, error)


def update(
    key: Key,
    changes: Item,
    *,
    add: Mapping[str, int | StringSet] | None = None,
    take: Mapping[str, StringSet] | None = None,
    condition: ConditionBase | None = None,
    error: ApiError | None = None,
) -> Write:
    """Sets ``changes`` (``None`` removes the attribute), adds to counters and sets, and takes from sets."""
    request: dict[str, Any] = {"Key": encode_item(_required(key)), **_expression(condition)}
    names = request.setdefault("ExpressionAttributeNames", {})
    values = request.setdefault("ExpressionAttributeValues", {})
    clauses: dict[str, list[str]] = {"SET": [], "REMOVE": [], "ADD": [], "DELETE": []}
    for position, (name, value) in enumerate(changes.items()):
        names[f"#c{position}"] = name
        if value is None:
            clauses["REMOVE"].append(f"#c{position}")
        else:
            values[f":c{position}"] = encode(value)
            clauses["SET"].append(f"#c{position} = :c{position}")
    for word, mark, amounts in (("ADD", "a", add or {}), ("DELETE", "t", take or {})):
        for position, (name, amount) in enumerate(amounts.items()):
            names[f"#{mark}{position}"] = name
            values[f":{mark}{position}"] = encode(amount)
            clauses[word].append(f"#{mark}{position} :{mark}{position}")
    request["UpdateExpression"] = " ".join(f"{word} {', '.join(parts)}" for word, parts in clauses.items() if parts)
    if not values:
        del request["ExpressionAttributeValues"]
    return Write("Update", request, error)


class Table:
    """A table; every read but an index's is strongly consistent, so a client reads what it wrote."""

    def __init__(self, client: "DynamoDBClient", name: str) -> None:
        self._client: Any = client
        self.name = name

    def get(self, key: Key) -> Item | None:
        if not key.is_possible:
            return None
        found = self._client.get_item(TableName=self.name, Key=encode_item(key.values), ConsistentRead=True)
        return _read(found["Item"]) if "Item" in found else None

    def get_many(self, keys: Sequence[Key]) -> dict[Key, Item]:
        """Returns the existing items."""
        found: dict[Key, Item] = {}
        waiting = [encode_item(key.values) for key in dict.fromkeys(keys) if key.is_possible]
        attempt = 0
        while waiting:
            batch, waiting = waiting[:100], waiting[100:]
            answer = self._client.batch_get_item(RequestItems={self.name: {"Keys": batch, "ConsistentRead": True}})
            for item in map(_read, answer["Responses"].get(self.name, [])):
                found[Key(item["PK"], item["SK"])] = item
            unprocessed = answer.get("UnprocessedKeys", {}).get(self.name, {}).get("Keys", [])
            if unprocessed:
                attempt += 1
                back_off(attempt)
                waiting = [*unprocessed, *waiting]
        return found

    def query(
        self,
        pk: str,
        *,
        condition: ConditionBase | None = None,
        limit: int | None = None,
        newest_first: bool = True,
        attributes: Iterable[str] = (),
        index: str | None = None,
        filter: ConditionBase | None = None,
        page_size: int | None = None,
    ) -> Iterator[Item]:
        """Yields the items of one partition in the order of their sort keys.

        ``condition`` narrows the sort key (``Key("SK").lt(…)``). An index's partition key is an attribute with the
        index's name, and its items may be a moment old. ``filter`` leaves out items that are read and paid for, but
        not sent. ``limit`` bounds the number of items that are left, ``page_size`` the number that one request reads.
        """
        if not _fits(pk, PARTITION_KEY_BYTES):
            return
        request = self._question(pk, condition, index, filter) | {"ScanIndexForward": not newest_first}
        if attributes:
            projected = {f"#p{position}": name for position, name in enumerate(attributes)}
            request["ProjectionExpression"] = ", ".join(projected)
            request["ExpressionAttributeNames"] |= projected
        remaining = limit
        while remaining is None or remaining > 0:
            bounds = [bound for bound in (remaining, page_size) if bound is not None]
            if bounds:
                request["Limit"] = min(bounds)
            answer = self._client.query(**request)
            yield from map(decode_item if attributes else _read, answer["Items"])
            if "LastEvaluatedKey" not in answer:
                return
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]
            if remaining is not None:
                remaining -= len(answer["Items"])

    def count(
        self, pk: str, *, condition: ConditionBase | None, index: str | None, filter: ConditionBase | None
    ) -> tuple[int, int]:
        """Returns how many items ``query`` would find, and how many it would read; they are paid for, but not sent."""
        found = read = 0
        if not _fits(pk, PARTITION_KEY_BYTES):
            return found, read
        request = self._question(pk, condition, index, filter) | {"Select": "COUNT"}
        while True:
            answer = self._client.query(**request)
            found, read = found + answer["Count"], read + answer["ScannedCount"]
            if "LastEvaluatedKey" not in answer:
                return found, read
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    def _question(
        self, pk: str, condition: ConditionBase | None, index: str | None, filter: ConditionBase | None
    ) -> dict[str, Any]:
        keys: ConditionBase = KeyCondition(index or "PK").eq(pk)
        if condition is not None:
            keys &= condition
        builder = ConditionExpressionBuilder()
        built = builder.build_expression(keys, is_key_condition=True)
        request: dict[str, Any] = {
            "TableName": self.name,
            **({"IndexName": index} if index else {"ConsistentRead": True}),
            "KeyConditionExpression": built.condition_expression,
            "ExpressionAttributeNames": dict(built.attribute_name_placeholders),
            "ExpressionAttributeValues": {k: encode(v) for k, v in built.attribute_value_placeholders.items()},
        }
        if filter is not None:
            kept = builder.build_expression(filter)
            request["FilterExpression"] = kept.condition_expression
            request["ExpressionAttributeNames"] |= kept.attribute_name_placeholders
            values = {name: encode(value) for name, value in kept.attribute_value_placeholders.items()}
            request["ExpressionAttributeValues"] |= values
        return request

    def scan(
        self, filter: ConditionBase, attributes: Sequence[str], start: dict[str, Any] | None
    ) -> tuple[list[Item], dict[str, Any] | None]:
        """Returns the items that match ``filter`` in the next megabyte of the table, and the start of the rest, if any.

        Writes of the last moment may be missing.
        """
        builder = ConditionExpressionBuilder()
        kept = builder.build_expression(filter)
        projected = {f"#p{position}": name for position, name in enumerate(attributes)}
        answer = self._client.scan(
            TableName=self.name,
            FilterExpression=kept.condition_expression,
            ProjectionExpression=", ".join(projected),
            ExpressionAttributeNames={**kept.attribute_name_placeholders, **projected},
            ExpressionAttributeValues={
                name: encode(value) for name, value in kept.attribute_value_placeholders.items()
            },
            **({"ExclusiveStartKey": encode_item(start)} if start else {}),
        )
        last = answer.get("LastEvaluatedKey")
        return list(map(decode_item, answer["Items"])), decode_item(last) if last else None

    def put_all(self, items: Sequence[Item]) -> None:
        """Stores items unconditionally: not in one transaction, but safe to repeat."""
        requests = [encode_item(stamped(item)) for item in items]
        if len(requests) == 1:
            self._client.put_item(TableName=self.name, Item=requests[0])
            return
        self._write_batches([{"PutRequest": {"Item": item}} for item in requests])

    def delete_all(self, keys: Sequence[Key]) -> None:
        """Deletes the existing items: not in one transaction, but safe to repeat."""
        self._write_batches([{"DeleteRequest": {"Key": encode_item(key.values)}} for key in keys])

    def _write_batches(self, requests: list[dict[str, Any]]) -> None:
        attempt = 0
        while requests:
            batch, requests = requests[:25], requests[25:]
            answer = self._client.batch_write_item(RequestItems={self.name: batch})
            unprocessed = answer.get("UnprocessedItems", {}).get(self.name, [])
            if unprocessed:
                attempt += 1
                back_off(attempt)
                requests = [*unprocessed, *requests]

    def write(self, action: Write) -> Item | None:
        """Makes one conditional write and returns the new item of an update. Raises ConditionFailedError."""
        call = {"Put": "put_item", "Update": "update_item", "Delete": "delete_item"}[action.operation]
        request = {"TableName": self.name, **action.request}
        if "ConditionExpression" in request:
            request["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"
        if action.operation == "Update":
            request["ReturnValues"] = "ALL_NEW"
        try:
            answer = getattr(self._client, call)(**request)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            item: Any = error.response.get("Item")
            raise ConditionFailedError(_read(item) if item else None) from None
        return _read(answer["Attributes"]) if answer.get("Attributes") else None

    def transact(self, actions: Sequence[Write]) -> None:
        """Makes all of the writes or none.

        Raises the ``error`` of the first action whose condition does not hold, or TransactionFailedError where it has
        none; UnavailableError when other writers kept the items busy.
        """
        items = [
            {
                action.operation: {
                    "TableName": self.name,
                    **action.request,
                    **(
                        {"ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
                        if "ConditionExpression" in action.request
                        else {}
                    ),
                }
            }
            for action in actions
        ]
        token = new_id()
        failure: type[UnavailableError] = ContendedError
        for attempt in range(1, TRANSACTION_ATTEMPTS + 1):
            try:
                self._client.transact_write_items(TransactItems=items, ClientRequestToken=token)
                return
            except ClientError as error:
                # Ours, sent before and not answered in time: under another token it might be carried out twice.
                if error.response["Error"]["Code"] == "TransactionInProgressException":
                    back_off(attempt)
                    continue
                if error.response["Error"]["Code"] != "TransactionCanceledException":
                    raise
                reasons: list[Any] = error.response.get("CancellationReasons", [])
                for index, reason in enumerate(reasons):
                    if reason.get("Code") == "ConditionalCheckFailed":
                        failed = actions[index].error
                        if failed is not None:
                            raise failed from None
                        item = reason.get("Item")
                        raise TransactionFailedError(index, _read(item) if item else None) from None
                codes = {reason.get("Code") for reason in reasons}
                if not codes & _TRANSIENT:
                    raise
                failure = UnavailableError if codes & _THROTTLED else ContendedError
            token = new_id()
            back_off(attempt)
        raise failure(
            "Too many simultaneous writes to the same items. Try again in a moment.", headers={"Retry-After": "1"}
        )


_THROTTLED = {"ThrottlingError", "ProvisionedThroughputExceeded"}
_TRANSIENT = {"TransactionConflict", *_THROTTLED}


def repeat_on_conflict(
    step: Callable[[], T],
    busy: str,
    conflicts: tuple[type[Exception], ...] = (ConditionFailedError, TransactionFailedError),
) -> T:
    """Returns what ``step`` returns: it reads, decides and writes, and starts again when another writer was faster.

    ``conflicts`` are the errors by which ``step`` reports that. Raises
    ContendedError with the sentence ``busy`` when other writers are faster again and again.
    """
    for attempt in range(CONFLICT_ATTEMPTS):
        try:
            return step()
        except conflicts:
            back_off(attempt)
    raise ContendedError(f"{busy} Try again in a moment.", headers={"Retry-After": "1"})


def back_off(attempt: int) -> None:
    """Sleeps a random time. Its upper bound starts at 20 ms and doubles up to 1 s."""
    time.sleep(random.uniform(0, min(1.0, 0.02 * 2**attempt)))  # noqa: S311 - spreads retries, guards nothing
