"""Tests of the rules for all routes: errors, spaces, lists, repeated requests, ETags and request ids."""

import io
import json
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from functions.api import build_api
from shared.observability import logger
from shared.resources import Resources
from tests.fixtures.identity import Issuer
from tests.fixtures.operations import UNKNOWN
from tests.functional.conftest import ClientMaker


def assert_error_shape(body: dict[str, Any], code: str) -> None:
    assert isinstance(body["error"], str)
    assert body["error"]
    assert body["code"] == code
    assert isinstance(body["details"], list)
    assert body["request_id"]
    assert "Traceback" not in json.dumps(body)


@pytest.mark.row("C-3")
def test_a_user_with_several_spaces_must_select_one(sign_in: ClientMaker) -> None:
    carol = sign_in("carol")
    none = carol.get("/data-models")
    assert (none.status_code, none.json()["code"]) == (400, "space_required")

    first = carol.post("/spaces", json={"name": "One", "description": ""}).json()["id"]
    assert carol.get("/data-models").status_code == 200

    second = carol.post("/spaces", json={"name": "Two", "description": ""}).json()["id"]
    several = carol.get("/data-models")
    assert (several.status_code, several.json()["code"]) == (400, "space_required")

    for client in (sign_in("carol", space=first), sign_in("carol", space_id=second)):
        assert client.get("/data-models").status_code == 200
    for stranger in (sign_in("dave", space=first), sign_in("carol", space=UNKNOWN), sign_in("carol", space="x")):
        response = stranger.get("/data-models")
        assert response.status_code == 404
        assert_error_shape(response.json(), "not_found")


@pytest.mark.row("C-6")
@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b"{broken", "body"),
        (b"[]", "body"),
        (b'"text"', "body"),
        (b"", "body"),
        (b"{}", "body.name"),
        (b'{"name": 5}', "body.name"),
        (b'{"name": null}', "body.name"),
        (b'{"name": "   "}', "body.name"),
        (b'{"name": "a", "description": {}}', "body.description"),
        (b'{"name": "\\ud800"}', "body.name"),
        (b'{"name": "\xed\xa0\xbd"}', "body.name"),
        ('{"name": "\\ud800"}'.encode("utf-16"), "body.name"),
        ('{"name": "\\ud800"}'.encode("utf-32-be"), "body.name"),
        (b"[" * 100_000, "body"),
    ],
)
def test_invalid_input_is_refused_with_the_name_of_the_field_and_not_stored(
    client: TestClient, body: bytes, where: str
) -> None:
    response = client.post("/data-models", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 400, response.text
    assert_error_shape(response.json(), "validation_error")
    assert where in [detail["field"] for detail in response.json()["details"]]
    assert client.get("/data-models").json()["count"] == 0


@pytest.mark.row("C-6", "GW-1")
@pytest.mark.parametrize(
    "kind", ["Application/JSON", "application/json; charset=utf-8", "application/x+json", "text/json"]
)
def test_half_of_a_character_is_refused_under_every_name_of_json(client: TestClient, kind: str) -> None:
    response = client.post("/data-models", content=rb'{"name": "\ud800"}', headers={"Content-Type": kind})
    assert (response.status_code, response.json()["details"][0]["field"]) == (400, "body.name")


@pytest.mark.row("C-7")
@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "limit=-1"])
def test_limits_outside_1_to_100_are_refused(client: TestClient, query: str) -> None:
    assert client.get(f"/data-models?{query}").status_code == 400


@pytest.mark.row("C-7")
def test_an_invalid_cursor_is_refused_and_an_empty_cursor_starts_the_list(client: TestClient) -> None:
    garbage = client.get("/data-models?after=garbage")
    assert_error_shape(garbage.json(), "invalid_cursor")
    for start in ("", '""'):
        assert client.get("/data-models", params={"after": start}).status_code == 200


@pytest.mark.row("C-11")
@pytest.mark.parametrize("verb", ["PUT", "PATCH"])
def test_an_update_keeps_absent_fields_and_clears_null_fields(client: TestClient, verb: str) -> None:
    created = client.post("/data-models", json={"name": "a", "description": "b"}).json()
    path = f"/data-models/{created['id']}"
    assert client.request(verb, path, json={}).json() == created
    assert client.request(verb, path, json={"name": "c"}).json()["description"] == "b"
    assert client.request(verb, path, json={"description": None}).json()["description"] is None
    refused = client.request(verb, path, json={"name": None})
    assert refused.status_code == 400
    assert refused.json()["details"][0]["field"] == "body.name"
    assert client.get(path).json()["name"] == "c"


@pytest.mark.row("C-12")
def test_a_repeated_request_creates_one_entity_and_another_body_is_refused(client: TestClient) -> None:
    headers = {"Idempotency-Key": "abc"}
    first = client.post("/data-models", json={"name": "a"}, headers=headers)
    again = client.post("/data-models", json={"name": "a"}, headers=headers)
    assert (again.status_code, again.json()) == (first.status_code, first.json())
    other = client.post("/data-models", json={"name": "b"}, headers=headers)
    assert other.status_code == 409
    assert_error_shape(other.json(), "conflict")
    assert client.get("/data-models").json()["count"] == 1
    space = client.post("/spaces", json={"name": "s", "description": ""}, headers=headers).json()
    assert client.post("/spaces", json={"name": "s", "description": ""}, headers=headers).json() == space


@pytest.mark.row("C-13")
def test_the_second_of_two_updates_with_the_same_etag_is_refused(client: TestClient) -> None:
    created = client.post("/data-models", json={"name": "a"})
    path, tag = f"/data-models/{created.json()['id']}", created.headers["ETag"]
    assert client.put(path, json={"name": "b"}, headers={"If-Match": tag}).status_code == 200
    late = client.put(path, json={"name": "c"}, headers={"If-Match": tag})
    assert late.status_code == 412
    assert_error_shape(late.json(), "precondition_failed")
    assert client.put(path, json={}, headers={"If-Match": tag}).status_code == 412
    assert client.put(path, json={"name": "d"}).status_code == 200
    assert client.put(path, json={"name": "e"}, headers={"If-Match": "nonsense"}).status_code == 412
    assert client.get(path).json()["name"] == "d"


@pytest.mark.row("C-15")
def test_a_body_larger_than_the_limit_is_refused(client: TestClient) -> None:
    response = client.post("/data-models", json={"name": "a", "description": "x" * 7_000_000})
    assert response.status_code == 413
    assert_error_shape(response.json(), "payload_too_large")

    def endless() -> Any:
        for _ in range(8):
            yield b"x" * 1_000_000

    streamed = client.post("/data-models", content=endless())
    assert streamed.status_code == 413


@pytest.mark.row("C-16")
def test_an_unknown_path_returns_404_and_an_unknown_method_returns_405(client: TestClient) -> None:
    unknown = client.get("/nothing-here")
    assert unknown.status_code == 404
    assert_error_shape(unknown.json(), "not_found")
    wrong = client.post("/health")
    assert wrong.status_code == 405
    assert_error_shape(wrong.json(), "method_not_allowed")
    assert wrong.headers["Allow"] == "GET"
    assert client.put("/data-models").headers["Allow"] == "GET, POST"
    assert client.post(f"/data-models/{UNKNOWN}").headers["Allow"] == "DELETE, GET, PATCH, PUT"
    assert client.options("/personas/uploads").headers["Allow"] == "POST"
    assert client.get("/data-models/").status_code == 404


@pytest.mark.row("C-18")
def test_the_response_and_the_log_contain_the_request_id_of_the_caller_or_a_new_one(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for headers, expected in (({}, None), ({"X-Request-Id": "mine-1"}, "mine-1"), ({"X-Request-Id": "a b"}, None)):
        log = io.StringIO()
        monkeypatch.setattr(logger.registered_handler, "stream", log)
        response = client.get("/data-models", headers=headers)
        request_id = response.headers["X-Request-Id"]
        assert expected in (None, request_id)
        assert request_id != "a b"
        lines = [json.loads(line) for line in log.getvalue().splitlines()]
        assert [line["request_id"] for line in lines if line["message"] == "request"] == [request_id]


@pytest.mark.row("C-5")
def test_an_internal_error_returns_500_without_a_stack_trace(resources: Resources, issuer: Issuer) -> None:
    client = TestClient(build_api(Resources(resources.settings, dynamodb=None)))
    response = client.get("/me", headers={"Authorization": f"Bearer {issuer.token('alice')}"})
    assert response.status_code == 500
    assert_error_shape(response.json(), "internal_error")
    assert "NoneType" not in response.text
    assert response.headers["X-Request-Id"] == response.json()["request_id"]


def test_the_app_is_built_without_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("TABLE_NAME", "BUCKET_NAME", "OIDC_ISSUER"):
        monkeypatch.delenv(variable, raising=False)
    app = build_api()
    assert isinstance(app, FastAPI)
    assert TestClient(app).get("/health").json() == {"status": "ok"}
