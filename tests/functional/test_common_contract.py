"""What holds for every route: authentication, spaces, permissions, errors, retries, entity tags, request ids."""

import io
import json
from typing import Any

import boto3
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from functions.api import build_api
from shared.aws.clock import new_id, utc_now
from shared.aws.resources import Resources
from shared.http.routers import AccountRoute, SpaceRoute
from shared.models.api_key import KeyToken
from shared.models.space import UserPermission
from shared.observability import logger
from shared.store.chats import StoredChat
from shared.store.repository import Repository
from shared.store.table import Table
from tests.fixtures.arguments import add_argument
from tests.fixtures.evaluations import add_checkpoint, add_member
from tests.fixtures.identity import Issuer
from tests.fixtures.trainings import add_benchmark, training_request
from tests.functional.conftest import ClientMaker

PUBLIC = {"/webhooks", "/health", "/docs", "/docs/redoc.standalone.js", "/openapi.json"}
UNKNOWN = "01a2081a-1610-752b-8cc0-d52dcf52e48d"


def routes() -> list[APIRoute]:
    return [route for route in build_api().routes if isinstance(route, APIRoute)]


def address(route: APIRoute) -> str:
    return route.path.replace("{id}", UNKNOWN)


def method(route: APIRoute) -> str:
    return min(route.methods or {"GET"})


def name(route: APIRoute) -> str:
    return f"{method(route)} {route.path}"


CHECKED = [route for route in routes() if route.path not in PUBLIC]


class NoReads:
    """A table that must not be touched."""

    def __getattr__(self, attribute: str) -> Any:
        raise AssertionError(f"the database was asked ({attribute}) before the caller was known")


def assert_error_shape(body: dict[str, Any], code: str) -> None:
    assert isinstance(body["error"], str)
    assert body["error"]
    assert body["code"] == code
    assert isinstance(body["details"], list)
    assert body["request_id"]
    assert "Traceback" not in json.dumps(body)


@pytest.mark.row("C-1")
def test_only_the_public_pages_and_webhooks_are_outside_the_checked_routers() -> None:
    unchecked = {route.path for route in routes() if not isinstance(route, SpaceRoute | AccountRoute)}
    assert unchecked <= PUBLIC


@pytest.mark.row("C-1", "C-5")
@pytest.mark.parametrize("route", CHECKED, ids=name)
def test_without_a_valid_token_nothing_is_read_and_the_answer_is_401(
    route: APIRoute, resources: Resources, issuer: Issuer
) -> None:
    resources.__dict__["table"] = NoReads()
    client = TestClient(build_api(resources))
    expired = issuer.token("alice", expires_in=-60)
    mistyped = str(KeyToken.new(UNKNOWN, UNKNOWN, UNKNOWN))[:-4] + "AAAA"
    for headers in (
        {},
        {"Authorization": "Basic YTpi"},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer not.a.token"},
        {"Authorization": f"Bearer {expired}"},
        {"Authorization": f"Bearer {issuer.token('alice', aud='someone-else')}"},
        {"Authorization": f"Bearer {issuer.token('alice', iss='https://evil.test')}"},
        {"Authorization": f"Bearer {issuer.token('alice', key_id='unknown')}"},
        {"Authorization": f"Bearer {issuer.token('alice', aud=None)}"},
        {"Authorization": "Bearer ik_nonsense"},
        {"Authorization": f"Bearer {mistyped}"},
    ):
        answer = client.request(method(route), address(route), headers=headers, content=b"{broken")
        assert answer.status_code == 401, (headers, answer.text)
        if route.path.startswith("/v1/"):  # OpenAI's shape
            assert answer.json()["error"]["code"] == "unauthenticated"
        else:
            assert_error_shape(answer.json(), "unauthenticated")


@pytest.mark.row("C-1")
def test_a_token_without_a_signature_or_signed_with_the_public_key_is_refused(
    anonymous: TestClient, issuer: Issuer
) -> None:
    header, payload, signature = issuer.token("alice").split(".")
    for forged in (f"{header}.{payload}.", f"eyJhbGciOiJub25lIn0.{payload}.", f"{header}.{payload}.{signature[::-1]}"):
        answer = anonymous.get("/me", headers={"Authorization": f"Bearer {forged}"})
        assert answer.status_code == 401


@pytest.mark.row("C-2")
@pytest.mark.parametrize("route", [route for route in CHECKED if "{id}" in route.path], ids=name)
def test_another_tenants_id_answers_exactly_like_a_random_one_and_stays_as_it_is(
    route: APIRoute, client: TestClient, other_client: TestClient, table: Table
) -> None:
    theirs = one_of_each(client, table)
    group = route.path.split("/")[1]
    before = stored(table)
    body = EXAMPLES.get(name(route), {})
    found, unknown = (
        other_client.request(method(route), route.path.replace("{id}", item), json=body)
        for item in (theirs[group], UNKNOWN)
    )
    for answer in (found, unknown):
        assert answer.status_code == 404, answer.text
        assert_error_shape(answer.json(), "not_found")
    assert found.json() | {"request_id": ""} == unknown.json() | {"request_id": ""}
    assert stored(table) == before


def one_of_each(client: TestClient, table: Table) -> dict[str, str]:
    """The id of an item of each group in the client's space."""
    space = client.headers["X-Space-Id"]
    training = client.post("/trainings", json=training_request(client, table)).json()
    benchmark = add_benchmark(client, training["connectors"][0]["connector_id"])
    checkpoint = add_checkpoint(table, space).id
    evaluation = client.post(
        "/evaluations", json={"benchmark_id": benchmark, "checkpoint_id": checkpoint, "gpu_count": 0}
    ).json()
    persona = client.post("/personas", json={"name": "Ada", "birthdate": "1815-12-10", "notes": ""}).json()
    expert = client.post("/experts", json={"name": "Loans", "description": ""}).json()
    now = utc_now()
    chat = StoredChat(id=new_id(), created_at=now, updated_at=now, name="Hello")
    Repository(table, StoredChat, kind="chat").create(space, chat)
    group = client.post("/action-groups", json={"name": "Loans", "description": ""}).json()
    offer = {"name": "Card", "description": "", "priority": "high", "type": "offer"}
    insight = client.post("/insights", json={"client": "Likes to travel"}).json()
    endpoint = client.post("/webhook-endpoints", json={"url": "https://93.184.216.34/hooks"}).json()
    return {
        "action-groups": group["id"],
        "actions": client.post("/actions", json=offer).json()["id"],
        "api-keys": client.post("/api-keys", json={"name": "a", "scopes": ["read"]}).json()["id"],
        "arguments": add_argument(table, space),
        "benchmarks": benchmark,
        "chats": chat.id,
        "checkpoints": checkpoint,
        "connectors": training["connectors"][0]["connector_id"],
        "data-models": training["data_model_id"],
        "evaluations": evaluation["id"],
        "experts": expert["id"],
        "insights": insight["id"],
        "personas": persona["id"],
        "spaces": space,
        "trainings": training["id"],
        "users": client.get("/me").json()["id"],
        "webhook-endpoints": endpoint["id"],
    }


def stored(table: Table) -> list[dict[str, Any]]:
    items = boto3.client("dynamodb").scan(TableName=table.name)["Items"]
    return sorted(items, key=lambda item: (item["PK"]["S"], item["SK"]["S"]))


EXAMPLES: dict[str, Any] = {
    "POST /arguments/{id}/assign": {"user_id": None},
    "POST /arguments/{id}/comments": {"text": "Good."},
    "POST /checkpoints/{id}/predictions": {"rows": [{"a": 1}]},
    "POST /connectors/{id}/uploads": {"files": ["a.csv"]},
    "POST /insights/{id}/reactions": {"reaction": "accepted"},
    "POST /spaces/{id}/invite": {"emails": ["x@example.com"], "roles": ["trainings:get"]},
    "POST /users/{id}/permissions": {"permissions": ["trainings:get"]},
    "POST /webhook-endpoints/{id}/deliveries/replay": {"since": "2026-01-01"},
}


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


def permission_of(route: APIRoute) -> str | None:
    """The permission that the contract's list of 15 has for a route, by its group and verb."""
    verb = {"POST": "create", "DELETE": "delete", "PUT": "update", "PATCH": "update"}.get(method(route))
    verb = verb or ("get" if "{id}" in route.path else "list")
    wanted = f"{route.path.split('/')[1]}:{verb}"
    return wanted if wanted in set(UserPermission) else None


@pytest.mark.row("C-4")
@pytest.mark.parametrize("route", [route for route in CHECKED if permission_of(route)], ids=name)
def test_a_member_without_the_permission_gets_403_naming_it_and_with_it_gets_on(
    route: APIRoute, client: TestClient, sign_in: ClientMaker, table: Table
) -> None:
    space = client.headers["X-Space-Id"]
    erin = sign_in("erin", space=space)
    add_member(table, erin, space, [])
    wanted = permission_of(route)
    refused = erin.request(method(route), address(route), json={})
    assert refused.status_code == 403
    assert_error_shape(refused.json(), "permission_denied")
    assert wanted is not None
    assert wanted in refused.json()["error"]

    add_member(table, erin, space, [wanted])
    assert erin.request(method(route), address(route), json={}).status_code != 403


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
    assert "GET" in wrong.headers["Allow"]
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
    resources.__dict__["table"] = None
    client = TestClient(build_api(resources))
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
