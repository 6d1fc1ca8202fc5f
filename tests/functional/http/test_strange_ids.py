"""Ids of any length and content: each is the id of nothing, and never an error of ours."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.fixtures.operations import Operation, operations
from tests.fixtures.tenants import World

LIMITS = {"PK": 2048, "SK": 1024}
# DynamoDB's limits of keys are 1,024 and 2,048 bytes; the table's names of kinds and spaces come on top.
STRANGE = {"1,100 characters": "x" * 1100, "1,030 bytes in 515 characters": "%C3%A9" * 515, "a null": "%00"}


def as_dynamodb(params: dict[str, Any], **_: Any) -> None:
    """Refuses keys that DynamoDB refuses, because moto takes some of them."""
    keys = [params[name] for name in ("Key", "Item") if name in params]
    for each in params.get("RequestItems", {}).values():
        keys += each["Keys"] if isinstance(each, dict) else []
    for action in params.get("TransactItems", []):
        [request] = action.values()
        keys += [request[name] for name in ("Key", "Item") if name in request]
    values = params.get("ExpressionAttributeValues", {}) if "KeyConditionExpression" in params else {}
    lengths = [(limit, key[name]["S"]) for key in keys for name, limit in LIMITS.items() if name in key]
    lengths += [(LIMITS["PK"], value["S"]) for value in values.values() if "S" in value]
    if any(not 0 < len(text.encode()) <= limit for limit, text in lengths):
        answer: Any = {
            "Error": {"Code": "ValidationException", "Message": "size of a key"},
            "ResponseMetadata": {"HTTPStatusCode": 400},
        }
        raise ClientError(answer, "DynamoDB")


@pytest.fixture(scope="module")
def world(world: World) -> World:
    world.resources.dynamodb.meta.events.register("provide-client-params.dynamodb.*", as_dynamodb)
    return world


@pytest.mark.row("SE-4")
@pytest.mark.parametrize("operation", [each for each in operations() if each.parameters], ids=str)
def test_a_strange_id_is_no_error_of_ours(operation: Operation, world: World) -> None:
    for name, strange in STRANGE.items():
        for parameter in operation.parameters:
            response = operation.send(world.alice, world.alices, {parameter: strange})
            assert response.status_code < 500, (name, parameter, response.text)
    for place, _ in operation.example.identifiers():
        response = operation.send(world.alice, world.alices, {place: "x" * 1100})
        assert response.status_code < 500, (place, response.text)


@pytest.mark.row("SE-4")
def test_a_long_id_of_a_deleted_training_is_unknown(world: World) -> None:
    assert world.alice.get(f"/trainings/{'x' * 1100}?include_deleted=true").status_code == 404


@pytest.mark.row("SE-4")
def test_a_long_space_or_query_is_no_error_of_ours(world: World) -> None:
    strange = "x" * 1100
    for operation in operations():
        if operation.method != "GET":
            continue
        path = operation.address(world.alices)
        response = world.alice.get(path, headers={"X-Space-Id": strange})
        assert response.status_code in (200, 404), (path, response.text)
        for each in operation.route.dependant.query_params:
            response = world.alice.get(f"{path}?{each.alias}={strange}")
            assert response.status_code < 500, (path, each.alias, response.text)
