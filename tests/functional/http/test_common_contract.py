"""What holds for every route: errors, spaces, lists, retries, entity tags, request ids."""

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
def test_the_space_is_implied_named_or_asked_for(sign_in: ClientMaker) -> None:
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
        answer = stranger.get("/data-models")
        assert answer.status_code == 404
        assert_error_shape(answer.json(), "not_found")


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
        (b"[" * 100_000, "body"),
    ],
)
def test_bad_input_is_400_with_the_field_path_and_nothing_is_stored(
    client: TestClient, body: bytes, where: str
) -> None:
    answer = client.post("/data-models", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert_error_shape(answer.json(), "validation_error")
    assert where in [detail["field"] for detail in answer.json()["details"]]
    assert client.get("/data-models").json()["count"] == 0


@pytest.mark.row("C-7")
@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "limit=-1"])
def test_limits_outside_1_to_100_are_refused(client: TestClient, query: str) -> None:
    assert client.get(f"/data-models?{query}").status_code == 400


@pytest.mark.row("C-7")
def test_a_garbage_cursor_is_400_and_empty_ones_are_the_start(client: TestClient) -> None:
    garbage = client.get("/data-models?after=garbage")
    assert_error_shape(garbage.json(), "invalid_cursor")
    for start in ("", '""'):
        assert client.get("/data-models", params={"after": start}).status_code == 200


@pytest.mark.row("C-11")
@pytest.mark.parametrize("verb", ["PUT", "PATCH"])
def test_an_update_keeps_what_is_absent_and_clears_what_is_null(client: TestClient, verb: str) -> None:
    made = client.post("/data-models", json={"name": "a", "description": "b"}).json()
    place = f"/data-models/{made['id']}"
    assert client.request(verb, place, json={}).json() == made
    assert client.request(verb, place, json={"name": "c"}).json()["description"] == "b"
    assert client.request(verb, place, json={"description": None}).json()["description"] is None
    refused = client.request(verb, place, json={"name": None})
    assert refused.status_code == 400
    assert refused.json()["details"][0]["field"] == "body.name"
    assert client.get(place).json()["name"] == "c"


@pytest.mark.row("C-12")
def test_a_retried_create_makes_one_item_and_another_body_is_409(client: TestClient) -> None:
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
def test_of_two_puts_with_one_etag_one_gets_412(client: TestClient) -> None:
    made = client.post("/data-models", json={"name": "a"})
    place, tag = f"/data-models/{made.json()['id']}", made.headers["ETag"]
    assert client.put(place, json={"name": "b"}, headers={"If-Match": tag}).status_code == 200
    late = client.put(place, json={"name": "c"}, headers={"If-Match": tag})
    assert late.status_code == 412
    assert_error_shape(late.json(), "precondition_failed")
    assert client.put(place, json={}, headers={"If-Match": tag}).status_code == 412
    assert client.put(place, json={"name": "d"}).status_code == 200
    assert client.put(place, json={"name": "e"}, headers={"If-Match": "nonsense"}).status_code == 412
    assert client.get(place).json()["name"] == "d"


@pytest.mark.row("C-15")
def test_a_body_over_the_limit_is_413(client: TestClient) -> None:
    answer = client.post("/data-models", json={"name": "a", "description": "x" * 7_000_000})
    assert answer.status_code == 413
    assert_error_shape(answer.json(), "payload_too_large")

    def endless() -> Any:
        for _ in range(8):
            yield b"x" * 1_000_000

    streamed = client.post("/data-models", content=endless())
    assert streamed.status_code == 413


@pytest.mark.row("C-16")
def test_an_unknown_address_is_404_and_an_unknown_method_405(client: TestClient) -> None:
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
def test_the_request_id_is_the_log_lines_and_the_callers_when_given(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for headers, expected in (({}, None), ({"X-Request-Id": "mine-1"}, "mine-1"), ({"X-Request-Id": "a b"}, None)):
        log = io.StringIO()
        monkeypatch.setattr(logger.registered_handler, "stream", log)
        answer = client.get("/data-models", headers=headers)
        request_id = answer.headers["X-Request-Id"]
        assert expected in (None, request_id)
        assert request_id != "a b"
        lines = [json.loads(line) for line in log.getvalue().splitlines()]
        assert [line["request_id"] for line in lines if line["message"] == "request"] == [request_id]


@pytest.mark.row("C-5")
def test_a_defect_answers_500_in_the_error_shape_without_a_stack_trace(resources: Resources, issuer: Issuer) -> None:
    client = TestClient(build_api(Resources(resources.settings, dynamodb=None)))
    answer = client.get("/me", headers={"Authorization": f"Bearer {issuer.token('alice')}"})
    assert answer.status_code == 500
    assert_error_shape(answer.json(), "internal_error")
    assert "NoneType" not in answer.text
    assert answer.headers["X-Request-Id"] == answer.json()["request_id"]


def test_nothing_is_read_or_connected_when_the_app_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("TABLE_NAME", "BUCKET_NAME", "OIDC_ISSUER"):
        monkeypatch.delenv(variable, raising=False)
    app = build_api()
    assert isinstance(app, FastAPI)
    assert TestClient(app).get("/health").json() == {"status": "ok"}
