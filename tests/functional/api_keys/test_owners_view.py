"""Tests of what owners see of the keys in their space, and of the bounds of keys."""

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError
from fastapi.testclient import TestClient

from functions.api_keys.service import ApiKeyService
from shared.dynamodb.table import Table
from shared.errors import ConflictError
from shared.http.authentication import caller_address
from shared.models.api_key import ApiKeyCreate, BroadScope
from shared.models.base import format_timestamp
from shared.resources import Resources
from shared.spaces.api_keys import KEPT, MAX_KEYS
from shared.spaces.members import Members
from tests.fixtures.clocks import MovableClock
from tests.fixtures.evaluations import add_member
from tests.fixtures.grants import CALLS
from tests.fixtures.interrupted_table import InterruptedTable
from tests.fixtures.operations import operations
from tests.fixtures.trainings import space_of
from tests.functional.api_keys.helpers import client_with_key, create_key
from tests.functional.conftest import ClientMaker


def listed(owner: TestClient, **query: Any) -> list[dict[str, Any]]:
    response = owner.get(f"/spaces/{space_of(owner)}/api-keys", params={"limit": 100, **query})
    assert response.status_code == 200, response.text
    page: dict[str, Any] = response.json()
    return list(page["data"])


@pytest.fixture
def bob(client: TestClient, sign_in: ClientMaker, table: Table) -> TestClient:
    bob = sign_in("bob")
    add_member(table, bob, space_of(client), [])
    return bob


@pytest.mark.row("SE-3")
def test_owners_see_whose_each_key_is_what_it_may_do_and_its_last_use(
    client: TestClient, bob: TestClient, clock: MovableClock
) -> None:
    mine, theirs = create_key(client, "write"), create_key(bob, "read", valid_until="2100-01-01")
    expired = create_key(bob, "chat", valid_until=format_timestamp(clock() + timedelta(minutes=1)))
    clock.now += timedelta(minutes=2)
    user = TestClient(client.app, client=("203.0.113.7", 1234))
    user.headers["Authorization"] = f"Bearer {theirs['key']}"
    assert user.get("/actions").status_code == 200
    shown = {each["id"]: each for each in listed(client)}
    assert list(shown) == [expired["id"], theirs["id"], mine["id"]]
    assert shown[theirs["id"]] == {
        **{name: value for name, value in theirs.items() if name != "key"},
        "user_id": bob.get("/me").json()["id"],
        "email": "bob@example.com",
        "state": "active",
        "revoked_at": None,
        "last_used_at": format_timestamp(clock()),
        "last_used_address": "203.0.113.7",
    }
    assert (shown[mine["id"]]["email"], shown[mine["id"]]["last_used_at"]) == ("alice@example.com", None)
    assert shown[expired["id"]]["state"] == "expired"
    assert [each["id"] for each in listed(client, limit=1, after=expired["id"])] == [theirs["id"]]
    assert not {"secret_hash", "generation", "deleted_at", "key"} & shown[mine["id"]].keys()
    assert bob.get(f"/spaces/{space_of(client)}/api-keys").status_code == 403


@pytest.mark.row("SE-3")
def test_owners_revoke_any_key_and_see_it_for_a_while(
    client: TestClient, bob: TestClient, sign_in: ClientMaker, clock: MovableClock
) -> None:
    key = create_key(bob, "read")
    path, holder = f"/spaces/{space_of(client)}/api-keys/{key['id']}", client_with_key(client, key["key"])
    holder.get("/actions")
    for stranger, status in ((bob, 403), (sign_in("mallory"), 404), (holder, 403)):
        assert stranger.delete(path).status_code == status
    assert client.delete(path).json() == {"id": key["id"]}
    assert holder.get("/actions").status_code == 401
    assert bob.get(f"/api-keys/{key['id']}").status_code == 404
    assert [client.delete(path).status_code, bob.delete(f"/api-keys/{key['id']}").status_code] == [404, 404]
    [shown] = listed(client)
    assert (shown["state"], shown["revoked_at"]) == ("revoked", format_timestamp(clock()))
    assert shown["last_used_at"] is not None
    clock.now += KEPT
    assert client.get(f"/spaces/{space_of(client)}/api-keys").json() == {"count": 0, "data": [], "has_more": False}


@pytest.mark.row("SE-3")
def test_a_use_is_written_once_in_five_minutes(client: TestClient, clock: MovableClock) -> None:
    holder = client_with_key(client, create_key(client, "read")["key"])
    assert listed(client)[0]["last_used_at"] is None
    started, writes = clock(), CALLS["dynamodb:UpdateItem"]
    for seconds in (0, 1, 298, 0.5):
        clock.now += timedelta(seconds=seconds)
        assert holder.get("/actions").status_code == 200
    assert CALLS["dynamodb:UpdateItem"] - writes == 1
    assert listed(client)[0]["last_used_at"] == format_timestamp(started)
    clock.now += timedelta(seconds=0.5)
    holder.get("/actions")
    assert CALLS["dynamodb:UpdateItem"] - writes == 2
    assert listed(client)[0]["last_used_at"] == format_timestamp(clock())


@pytest.mark.row("SE-3")
def test_a_request_succeeds_if_its_use_cannot_be_written(
    client: TestClient, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = create_key(client, "read")

    def fail(*_: Any, **__: Any) -> None:
        raise ClientError({"Error": {"Code": "ProvisionedThroughputExceededException"}}, "UpdateItem")

    monkeypatch.setattr(resources.table, "write", fail)
    assert client_with_key(client, key["key"]).get("/actions").status_code == 200


@pytest.mark.row("SE-3")
def test_every_group_notes_the_use_of_a_key(client: TestClient, clock: MovableClock) -> None:
    holder = client_with_key(client, create_key(client, "benchmarks:create")["key"])
    groups = {operation.path.split("/")[1]: operation for operation in operations()}
    for operation in groups.values():
        clock.now += timedelta(minutes=6)
        holder.request(operation.method, operation.address(), content=b"{broken")
        assert listed(client)[0]["last_used_at"] == format_timestamp(clock()), str(operation)


@pytest.mark.row("SE-3")
def test_nobody_has_more_keys_than_the_limit_not_even_with_simultaneous_requests(
    client: TestClient, bob: TestClient, table: Table
) -> None:
    ids = [create_key(client, "read")["id"] for _ in range(MAX_KEYS - 1)]
    body = ApiKeyCreate(name="Last", scopes=[BroadScope.READ])
    context = Members(table).context(client.get("/me").json()["id"], space_of(client))
    with pytest.raises(ConflictError, match=str(MAX_KEYS)):
        ApiKeyService(InterruptedTable(table, lambda: create_key(client, "read"))).create(context, body)
    full = client.post("/api-keys", json={"name": "More", "scopes": ["read"]})
    assert (full.status_code, full.json()["code"]) == (409, "conflict")
    assert str(MAX_KEYS) in full.json()["error"]
    assert client.get("/api-keys").json()["count"] == MAX_KEYS
    create_key(bob, "read")
    client.delete(f"/api-keys/{ids[0]}")
    client.delete(f"/spaces/{space_of(client)}/api-keys/{ids[1]}")
    assert [client.post("/api-keys", json={"name": "n", "scopes": ["read"]}).status_code for _ in range(3)] == [
        201,
        201,
        409,
    ]


class Called:
    """What a request has of an address."""

    def __init__(self, peer: str | None, context: str | None = None) -> None:
        self.client = None if peer is None else type("Peer", (), {"host": peer})
        self.headers = {} if context is None else {"x-amzn-request-context": context}


def from_gateway(address: Any) -> str:
    return json.dumps({"identity": {"sourceIp": address}})


def addresses() -> Iterator[tuple[Called, str]]:
    yield Called("203.0.113.7"), "203.0.113.7"
    yield Called("203.0.113.7", from_gateway("198.51.100.1")), "203.0.113.7"
    yield Called("127.0.0.1", from_gateway("2001:DB8::1")), "2001:db8::1"
    yield Called("::1", from_gateway("198.51.100.1")), "198.51.100.1"
    for broken in ("null", "[]", "{", '{"identity": null}', from_gateway("<script>"), from_gateway(7)):
        yield Called("127.0.0.1", broken), "127.0.0.1"
    yield Called("testclient"), ""
    yield Called(None), ""


@pytest.mark.row("SE-3")
def test_the_address_is_the_callers_and_no_header_of_a_client_changes_it() -> None:
    for request, address in addresses():
        assert caller_address(request) == address  # type: ignore[arg-type]
