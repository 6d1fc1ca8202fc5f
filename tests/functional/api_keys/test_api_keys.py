"""API keys: made once, taken wherever a token is, and never for more than their user may."""

import io
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import boto3
import pytest
from fastapi.testclient import TestClient

from functions.api import build_api
from shared.dynamodb.table import Table
from shared.models.api_key import KeyToken
from shared.models.base import format_timestamp
from shared.observability import logger
from shared.resources import Resources
from shared.settings import Settings
from tests.fixtures.aws import LOGS_TABLE, TABLE
from tests.fixtures.clocks import MovableClock
from tests.fixtures.evaluations import add_member
from tests.fixtures.operations import UNKNOWN, operations
from tests.fixtures.upstream import FakeUpstream, connected
from tests.functional.conftest import ClientMaker
from tests.functional.http.test_common_contract import assert_error_shape

QUESTION = {"model": "small", "messages": [{"role": "user", "content": "Which offer suits Ada?"}]}


def make(client: TestClient, *scopes: str, **more: Any) -> dict[str, Any]:
    answer = client.post("/api-keys", json={"name": "Batch", "scopes": list(scopes), **more})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def bearing(client: TestClient, key: str, space_id: str | None = None) -> TestClient:
    holder = TestClient(client.app)
    holder.headers["Authorization"] = f"Bearer {key}"
    if space_id:
        holder.headers["X-Space-Id"] = space_id
    return holder


@pytest.mark.row("X-5")
def test_the_secret_is_answered_once_and_stored_nowhere(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    monkeypatch.setattr(logger.registered_handler, "stream", log)
    made = make(client, "read", valid_until="2100-01-01T00:00:00Z", limits={"requests_per_minute": 60})
    assert made["key"].endswith(made["hint"])
    shown = {field: value for field, value in made.items() if field != "key"}
    assert client.get(f"/api-keys/{made['id']}").json() == shown
    assert client.get("/api-keys").json() == {"count": 1, "data": [shown], "has_more": False}
    assert bearing(client, made["key"]).get("/data-models").status_code == 200
    assert bearing(client, made["key"]).post("/data-models", json={"name": "a"}).status_code == 403

    token = KeyToken.parse(made["key"])
    assert token is not None
    held = "".join(str(boto3.client("dynamodb").scan(TableName=name)["Items"]) for name in (TABLE, LOGS_TABLE))
    assert token.hash in held
    for text in (held, log.getvalue(), json.dumps(shown)):
        assert made["key"] not in text
        assert made["key"][60:] not in text
        assert token.secret.hex() not in text
    assert token.hash not in log.getvalue() + json.dumps(shown)


@pytest.mark.row("X-5")
def test_a_key_is_changed_and_its_changes_count(client: TestClient) -> None:
    made = make(client, "read")
    holder, place = bearing(client, made["key"]), f"/api-keys/{made['id']}"
    changed = client.patch(place, json={"name": "Nightly", "scopes": ["data-models:create", "data-models:create"]})
    assert (changed.json()["name"], changed.json()["scopes"]) == ("Nightly", ["data-models:create"])
    assert holder.get("/data-models").status_code == 403
    assert holder.post("/data-models", json={"name": "a"}).status_code == 201
    refused: list[dict[str, Any]] = [{"scopes": []}, {"scopes": ["all"]}, {"name": None}, {"valid_until": "2020-01-01"}]
    for wrong in refused:
        assert client.patch(place, json=wrong).status_code == 400, wrong
    stale = client.put(place, json={"name": "x"}, headers={"If-Match": '"1"'})
    assert stale.status_code == 412


@pytest.mark.row("X-5")
def test_a_revoked_key_is_refused_at_once_where_nothing_is_remembered(client: TestClient) -> None:
    made = make(client, "read")
    holder = bearing(client, made["key"])
    assert holder.get("/data-models").status_code == 200
    assert client.delete(f"/api-keys/{made['id']}").json() == {"id": made["id"]}
    refused = holder.get("/data-models")
    assert refused.status_code == 401
    assert_error_shape(refused.json(), "unauthenticated")
    assert client.get(f"/api-keys/{made['id']}").status_code == 404


@pytest.mark.row("X-5")
def test_where_admissions_are_remembered_a_revoked_key_lasts_ten_seconds_and_an_expired_one_none(
    resources: Resources, settings: Settings, client: TestClient, clock: MovableClock
) -> None:
    app = build_api(Resources(settings.model_copy(update={"admission_seconds": 10}), clock))
    revoked, ends = make(client, "chat"), clock() + timedelta(seconds=5)
    expiring = make(client, "chat", valid_until=format_timestamp(ends))
    first, second = (bearing(TestClient(app), each["key"]) for each in (revoked, expiring))
    assert [each.get("/chats").status_code for each in (first, second)] == [200, 200]
    client.delete(f"/api-keys/{revoked['id']}")
    clock.now += timedelta(seconds=6)
    assert [each.get("/chats").status_code for each in (first, second)] == [200, 401]
    clock.now += timedelta(seconds=5)
    assert first.get("/chats").status_code == 401


@pytest.mark.row("X-5")
def test_an_expired_key_says_so(client: TestClient, clock: MovableClock) -> None:
    made = make(client, "read", valid_until=format_timestamp(clock() + timedelta(hours=1)))
    clock.now += timedelta(hours=2)
    refused = bearing(client, made["key"]).get("/data-models")
    assert (refused.status_code, "expired" in refused.json()["error"]) == (401, True)


@pytest.mark.row("X-5", "C-2")
def test_a_key_opens_its_own_space_only_also_to_a_user_of_several(client: TestClient, other_client: TestClient) -> None:
    made = make(client, "read", "write")
    other_space = client.post("/spaces", json={"name": "Second", "description": ""}).json()["id"]
    assert bearing(client, made["key"]).get("/data-models").status_code == 200
    for space_id in (other_space, other_client.headers["X-Space-Id"], UNKNOWN):
        answer = bearing(client, made["key"], space_id).get("/data-models")
        assert answer.status_code == 404
        assert_error_shape(answer.json(), "not_found")
    assert other_client.get(f"/api-keys/{made['id']}").status_code == 404


@pytest.mark.row("X-5")
def test_a_forged_key_is_refused(client: TestClient) -> None:
    token = KeyToken.parse(make(client, "read")["key"])
    assert token is not None
    forged = KeyToken.new(token.space_id, token.user_id, token.key_id)
    elsewhere = KeyToken(UNKNOWN, token.user_id, token.key_id, token.secret)
    for each in (forged, elsewhere):
        assert bearing(client, str(each)).get("/data-models").status_code == 401


@pytest.mark.row("X-5", "C-4")
def test_a_key_may_no_more_than_its_user_may_now(client: TestClient, sign_in: ClientMaker, table: Table) -> None:
    space = client.headers["X-Space-Id"]
    erin = sign_in("erin", space=space)
    add_member(table, erin, space, ["data-models:list"])
    key = make(erin, "read", "write")
    holder = bearing(client, key["key"])
    assert holder.get("/data-models").status_code == 200
    refused = holder.post("/data-models", json={"name": "a"})
    assert (refused.status_code, "data-models:create" in refused.json()["error"]) == (403, True)
    assert client.get("/api-keys").json()["count"] == 0, "everybody sees their own"
    client.delete(f"/spaces/{space}/members/{erin.get('/me').json()['id']}")
    assert holder.get("/actions").status_code == 401


@pytest.mark.row("X-5", "C-4")
def test_a_key_never_does_what_only_the_owner_may(client: TestClient) -> None:
    holder = bearing(client, make(client, "read", "write")["key"])
    answer = holder.post(f"/users/{UNKNOWN}/permissions", json={"permissions": ["trainings:get"]})
    assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")


@pytest.mark.row("X-5", "C-4")
def test_a_key_without_the_scope_gets_403_naming_it_on_every_route(client: TestClient) -> None:
    holder = bearing(client, make(client, "benchmarks:create")["key"])
    for operation in operations():
        scopes = operation.route.key_scopes
        if "benchmarks:create" in scopes:
            continue
        answer = holder.request(operation.method, operation.address(), content=b"{broken")
        assert answer.status_code == 403, (str(operation), answer.text)
        error = answer.json()["error"]
        said = error if isinstance(error, str) else error["message"]
        assert (" or ".join(scopes) or "No API key") in said, str(operation)


def test_the_routes_that_no_key_may_use_are_those_of_accounts_and_keys() -> None:
    closed = {each.path.split("/")[1] for each in operations() if not each.route.key_scopes}
    assert closed == {"api-keys", "me", "spaces", "users"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"allow_loopback": True})


@pytest.fixture
def upstream(client: TestClient) -> Iterator[FakeUpstream]:
    with connected(client, FakeUpstream()) as upstream:
        yield upstream


@pytest.mark.row("X-4", "X-5")
def test_openai_s_addresses_take_a_key(client: TestClient, upstream: FakeUpstream) -> None:
    holder = bearing(client, make(client, "chat")["key"])
    assert holder.get("/v1/models").status_code == 200
    assert holder.post("/v1/chat/completions", json=QUESTION).status_code == 200
    assert "ik_" not in str(upstream.requests)
    refused = bearing(client, make(client, "trainings:get")["key"]).post("/v1/chat/completions", json=QUESTION)
    assert (refused.status_code, refused.json()["error"]["type"]) == (403, "permission_error")
