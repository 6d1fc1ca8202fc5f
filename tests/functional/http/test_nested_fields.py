"""Bodies of requests take no unknown fields, and free content takes no secrets, on every route."""

import io
import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from fastapi import params
from fastapi.testclient import TestClient

from functions.api import build_api
from shared.dynamodb.table import Key, Table, put
from shared.http.authorisation import AllowedCaller
from shared.http.nested_fields import Shape, fields_of, shape_of
from shared.http.routers import CheckedRoute
from shared.observability import logger
from tests.fixtures.aws import LOGS_TABLE, TABLE
from tests.fixtures.evaluations import add_connector, add_member
from tests.fixtures.operations import UNKNOWN
from tests.fixtures.trainings import space_of
from tests.functional.conftest import ClientMaker

SECRET = "s3cr3t-of-the-test-0123456789"
# The documented objects that take any key, and why.
OPEN = {
    "ExpertFile": "Users describe their files.",
    "ExpertTool": "OpenAI's shape.",
    "InsightSpec": "Further keys are facts.",
    "Message": "OpenAI's shape.",
    "OpenAICompletionCreate": "OpenAI's shape.",
    "ProductSpec": "Further keys are facts.",
    "ReviewUpdate": "Users keep what their process needs.",
    "ToolFunction": "OpenAI's shape.",
}
Place = tuple[str | int, ...]


def places(shape: Shape, place: Place = ()) -> Iterator[tuple[Place, Shape]]:
    """Yields the places of all objects and free values in a body."""
    if shape.is_free or shape.model:
        yield place, shape
    if shape.model:
        for name, inner in fields_of(shape.model).items():
            yield from places(inner, (*place, name))
    if shape.items:
        yield from places(shape.items, (*place, 0))
    if shape.values:
        yield from places(shape.values, (*place, "key"))


def body_with(place: Place, value: Any) -> Any:
    """Returns a body with only this value."""
    for part in reversed(place):
        value = [value] if part == 0 else {part: value}
    return value


def routes() -> list[tuple[str, CheckedRoute, Shape]]:
    return [
        (method, route, shape_of(route.body_field.field_info.annotation))
        for route in build_api().routes
        if isinstance(route, CheckedRoute) and route.body_field
        if not isinstance(route.body_field.field_info, params.Form)
        # Progress messages are our own: the webhook secret signs them, and nothing keeps what is unknown in them.
        if route.rule.caller is not AllowedCaller.SERVICE
        for method in sorted(route.methods or ())
    ]


def cases(*, free: bool) -> list[Any]:
    return [
        pytest.param(method, route.path, place, id=f"{method} {route.path} {'.'.join(map(str, place))}")
        for method, route, shape in routes()
        for place, found in places(shape)
        if (found.is_free if free else found.model and not found.is_free)
        if free or found.model.model_config.get("extra") != "allow"  # type: ignore[union-attr]
    ]


def send(client: TestClient, method: str, path: str, body: Any) -> Any:
    path = path.replace("/spaces/{id}", f"/spaces/{client.headers['X-Space-Id']}")
    parts = [UNKNOWN if part.startswith("{") else part for part in path.split("/")]
    return client.request(method, "/".join(parts), json=body)


@pytest.mark.row("SE-7")
def test_only_documented_objects_take_any_key() -> None:
    found = {
        shape.model.__name__
        for _, _, body in routes()
        for _, shape in places(body)
        if shape.model and shape.model.model_config.get("extra") == "allow"
    }
    assert found == OPEN.keys()


@pytest.mark.row("SE-7")
def test_the_traversal_finds_the_nested_objects() -> None:
    """No place is checked if the traversal does not see it."""
    nested = {str(case.values[1]) + "." + ".".join(map(str, case.values[2])) for case in cases(free=False)}
    assert {"/connectors.s3", "/connectors/{id}.s3", "/trainings.connectors.0.split"} <= nested
    assert "/spaces/{id}/limits.users.key" in nested
    assert {"/personas.data", "/arguments.client", "/chats.metadata"} <= {
        str(case.values[1]) + "." + ".".join(map(str, case.values[2])) for case in cases(free=True)
    }


@pytest.mark.row("SE-7", "C-19")
def test_every_object_refuses_an_unknown_field(client: TestClient) -> None:
    wrong = []
    for case in cases(free=False):
        method, path, place = case.values
        answer = send(client, method, path, body_with(place, {"auth": {"secret_key": SECRET}}))
        field = ".".join(map(str, ("body", *place, "auth")))
        if answer.status_code != 400 or f"{field}: is not known" not in answer.text or SECRET in answer.text:
            wrong.append((case.id, answer.text))
    assert len(cases(free=False)) > 30
    assert wrong == []


@pytest.mark.row("SE-7")
def test_no_secret_in_free_content_is_stored_answered_audited_or_logged(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = io.StringIO()
    monkeypatch.setattr(logger.registered_handler, "stream", log)
    wrong = []
    for case in cases(free=True):
        method, path, place = case.values
        for content in ({"auth": {"secret_key": SECRET}}, {"a": [{"apiKey": SECRET}]}, {"Password": SECRET}):
            answer = send(client, method, path, body_with(place, content))
            if answer.status_code != 400 or "has the name of a secret" not in answer.text or SECRET in answer.text:
                wrong.append((case.id, answer.text))
    assert len(cases(free=True)) > 25
    assert wrong == []
    assert SECRET not in log.getvalue()
    for name in (TABLE, LOGS_TABLE):
        assert SECRET not in json.dumps(boto3.client("dynamodb").scan(TableName=name)["Items"], default=str)


@pytest.mark.row("SE-7")
def test_extra_keys_of_open_objects_take_no_secrets_either(client: TestClient) -> None:
    opened = [
        (method, route.path, place)
        for method, route, body in routes()
        for place, shape in places(body)
        if shape.model and shape.model.__name__ in OPEN and place
    ]
    assert len(opened) >= 10
    for method, path, place in opened:
        answer = send(client, method, path, body_with(place, {"custom": {"client_secret": SECRET}}))
        assert (answer.status_code, SECRET in answer.text) == (400, False), (path, place)
        assert "custom.client_secret" in answer.text


@pytest.mark.row("SE-7")
def test_an_error_names_the_nearest_known_field(client: TestClient) -> None:
    s3 = {"bucket": "customer", "region": "us-east-1", "secret_acess_key": SECRET}
    refused = client.post("/connectors", json={"name": "Own", "type": "aws-s3", "s3": s3})
    assert "did you mean secret_access_key?" in refused.json()["error"]
    assert SECRET not in refused.text


def test_a_caller_without_the_permission_is_told_so_first(
    client: TestClient, sign_in: ClientMaker, table: Table
) -> None:
    body = {"connectors": [{"id": "x", "auth": 1}]}
    assert client.post("/trainings", json=body).status_code == 400
    erin = sign_in("erin", space=space_of(client))
    add_member(table, erin, space_of(client), [])
    assert erin.post("/trainings", json=body).status_code == 403


@pytest.mark.row("SE-7")
def test_a_nested_secret_that_was_stored_before_is_not_answered(client: TestClient, table: Table) -> None:
    space = space_of(client)
    connector_id = add_connector(table, space)
    key = Key(f"connector#{space}", connector_id)
    s3 = {"bucket": "customer", "region": "us-east-1", "prefix": "", "auth": {"secret_key": SECRET}}
    table.write(put(key, {**(table.get(key) or {}), "s3": s3, "is_managed": False}))
    for response in (client.get("/connectors"), client.get(f"/connectors/{connector_id}")):
        assert (response.status_code, SECRET in response.text) == (200, False)
