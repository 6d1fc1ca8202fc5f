"""Tests of API keys: their creation, scopes, expiry and revocation."""

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
from tests.fixtures.operations import UNKNOWN
from tests.fixtures.upstream import FakeUpstream, connected
from tests.functional.api_keys.helpers import client_with_key, create_key
from tests.functional.conftest import ClientMaker
from tests.functional.http.test_common_contract import assert_error_shape

CHAT_REQUEST = {"model": "small", "messages": [{"role": "user", "content": "Which offer suits Ada?"}]}


@pytest.mark.row("X-5")
def test_the_secret_is_returned_once_and_never_stored(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    monkeypatch.setattr(logger.registered_handler, "stream", log)
    key = create_key(client, "read", valid_until="2100-01-01T00:00:00Z", limits={"requests_per_minute": 60})
    assert key["key"].endswith(key["hint"])
    shown = {field: value for field, value in key.items() if field != "key"}
    assert client.get(f"/api-keys/{key['id']}").json() == shown
    assert client.get("/api-keys").json() == {"count": 1, "data": [shown], "has_more": False}
    assert client_with_key(client, key["key"]).get("/data-models").status_code == 200
    assert client_with_key(client, key["key"]).post("/data-models", json={"name": "a"}).status_code == 403

    token = KeyToken.parse(key["key"])
    assert token is not None
    stored = "".join(str(boto3.client("dynamodb").scan(TableName=name)["Items"]) for name in (TABLE, LOGS_TABLE))
    assert token.hash in stored
    for text in (stored, log.getvalue(), json.dumps(shown)):
        assert key["key"] not in text
        assert key["key"][60:] not in text
        assert token.secret.hex() not in text
    assert token.hash not in log.getvalue() + json.dumps(shown)


@pytest.mark.row("X-5")
def test_a_changed_key_has_its_new_name_and_scopes(client: TestClient) -> None:
    key = create_key(client, "read")
    holder, path = client_with_key(client, key["key"]), f"/api-keys/{key['id']}"
    changed = client.patch(path, json={"name": "Nightly", "scopes": ["data-models:create", "data-models:create"]})
    assert (changed.json()["name"], changed.json()["scopes"]) == ("Nightly", ["data-models:create"])
    assert holder.get("/data-models").status_code == 403
    assert holder.post("/data-models", json={"name": "a"}).status_code == 201
    invalid: list[dict[str, Any]] = [{"scopes": []}, {"scopes": ["all"]}, {"name": None}, {"valid_until": "2020-01-01"}]
    for change in invalid:
        assert client.patch(path, json=change).status_code == 400, change
    stale = client.put(path, json={"name": "x"}, headers={"If-Match": '"1"'})
    assert stale.status_code == 412


@pytest.mark.row("X-5")
def test_a_revoked_key_is_refused_immediately_without_cached_authentication(client: TestClient) -> None:
    key = create_key(client, "read")
    holder = client_with_key(client, key["key"])
    assert holder.get("/data-models").status_code == 200
    assert client.delete(f"/api-keys/{key['id']}").json() == {"id": key["id"]}
    refused = holder.get("/data-models")
    assert refused.status_code == 401
    assert_error_shape(refused.json(), "unauthenticated")
    assert client.get(f"/api-keys/{key['id']}").status_code == 404


@pytest.mark.row("X-5")
def test_cached_authentication_accepts_a_revoked_key_for_ten_seconds_but_no_expired_key(
    resources: Resources, settings: Settings, client: TestClient, clock: MovableClock
) -> None:
    app = build_api(Resources(settings.model_copy(update={"admission_seconds": 10}), clock))
    revoked, expiry = create_key(client, "chat"), clock() + timedelta(seconds=5)
    expiring = create_key(client, "chat", valid_until=format_timestamp(expiry))
    first, second = (client_with_key(TestClient(app), each["key"]) for each in (revoked, expiring))
    assert [each.get("/chats").status_code for each in (first, second)] == [200, 200]
    client.delete(f"/api-keys/{revoked['id']}")
    clock.now += timedelta(seconds=6)
    assert [each.get("/chats").status_code for each in (first, second)] == [200, 401]
    clock.now += timedelta(seconds=5)
    assert first.get("/chats").status_code == 401


@pytest.mark.row("X-5")
def test_the_error_for_an_expired_key_states_the_reason(client: TestClient, clock: MovableClock) -> None:
    key = create_key(client, "read", valid_until=format_timestamp(clock() + timedelta(hours=1)))
    clock.now += timedelta(hours=2)
    refused = client_with_key(client, key["key"]).get("/data-models")
    assert (refused.status_code, "expired" in refused.json()["error"]) == (401, True)


@pytest.mark.row("X-5", "C-2")
def test_a_key_gives_access_to_its_own_space_only(client: TestClient, other_client: TestClient) -> None:
    key = create_key(client, "read", "write")
    other_space = client.post("/spaces", json={"name": "Second", "description": ""}).json()["id"]
    assert client_with_key(client, key["key"]).get("/data-models").status_code == 200
    for space_id in (other_space, other_client.headers["X-Space-Id"], UNKNOWN):
        response = client_with_key(client, key["key"], space_id).get("/data-models")
        assert response.status_code == 404
        assert_error_shape(response.json(), "not_found")
    assert other_client.get(f"/api-keys/{key['id']}").status_code == 404


@pytest.mark.row("X-5")
def test_a_forged_key_is_refused(client: TestClient) -> None:
    token = KeyToken.parse(create_key(client, "read")["key"])
    assert token is not None
    forged = KeyToken.new(token.space_id, token.user_id, token.key_id)
    elsewhere = KeyToken(UNKNOWN, token.user_id, token.key_id, token.secret)
    for each in (forged, elsewhere):
        assert client_with_key(client, str(each)).get("/data-models").status_code == 401


@pytest.mark.row("X-5", "C-4")
def test_a_key_never_exceeds_the_current_permissions_of_its_user(
    client: TestClient, sign_in: ClientMaker, table: Table
) -> None:
    space = client.headers["X-Space-Id"]
    erin = sign_in("erin", space=space)
    add_member(table, erin, space, ["data-models:list"])
    key = create_key(erin, "read", "write")
    holder = client_with_key(client, key["key"])
    assert holder.get("/data-models").status_code == 200
    refused = holder.post("/data-models", json={"name": "a"})
    assert (refused.status_code, "data-models:create" in refused.json()["error"]) == (403, True)
    assert client.get("/api-keys").json()["count"] == 0, "each user sees only their own keys"
    client.delete(f"/spaces/{space}/members/{erin.get('/me').json()['id']}")
    assert holder.get("/actions").status_code == 401


@pytest.mark.row("X-5", "C-4")
def test_a_key_is_refused_for_actions_of_the_owner(client: TestClient) -> None:
    holder = client_with_key(client, create_key(client, "read", "write")["key"])
    response = holder.post(f"/users/{UNKNOWN}/permissions", json={"permissions": ["trainings:get"]})
    assert (response.status_code, response.json()["code"]) == (403, "permission_denied")


@pytest.fixture
def upstream(client: TestClient) -> Iterator[FakeUpstream]:
    with connected(client, FakeUpstream()) as upstream:
        yield upstream


@pytest.mark.row("X-4", "X-5")
def test_the_openai_routes_accept_a_key(client: TestClient, upstream: FakeUpstream) -> None:
    holder = client_with_key(client, create_key(client, "chat")["key"])
    assert holder.get("/v1/models").status_code == 200
    assert holder.post("/v1/chat/completions", json=CHAT_REQUEST).status_code == 200
    assert "ik_" not in str(upstream.requests)
    refused = client_with_key(client, create_key(client, "trainings:get")["key"]).post(
        "/v1/chat/completions", json=CHAT_REQUEST
    )
    assert (refused.status_code, refused.json()["error"]["type"]) == (403, "permission_error")
