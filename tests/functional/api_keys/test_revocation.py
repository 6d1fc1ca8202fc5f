"""Tests that a key ends with its user's membership, for good."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import boto3
import pytest
from fastapi.testclient import TestClient

from functions.api import build_api
from functions.api_keys.service import ApiKeyService
from functions.spaces.removals import MemberRemovals
from shared.clock import utc_now
from shared.dynamodb.table import Key, Table, delete, update
from shared.errors import NotFoundError
from shared.models.api_key import ApiKeyCreate, BroadScope
from shared.resources import Resources
from shared.settings import Settings
from shared.spaces.members import Members
from tests.fixtures.aws import TABLE
from tests.fixtures.clocks import MovableClock
from tests.fixtures.evaluations import add_member
from tests.fixtures.interrupted_table import InterruptedTable
from tests.fixtures.trainings import space_of
from tests.functional.api_keys.helpers import client_with_key, create_key
from tests.functional.conftest import ClientMaker
from tests.functional.spaces.invites.helpers import accept, invite


@pytest.fixture
def bob(client: TestClient, sign_in: ClientMaker) -> TestClient:
    """Returns a client of Bob, whom Alice invited to her space."""
    bob = sign_in("bob")
    join(client, bob)
    return bob


def join(owner: TestClient, user: TestClient) -> None:
    assert invite(owner, "bob@example.com").status_code == 200
    assert accept(user).status_code == 200
    user.headers["X-Space-Id"] = space_of(owner)


def id_of(user: TestClient) -> str:
    return str(user.get("/me", headers={"X-Space-Id": ""}).json()["id"])


def remove(owner: TestClient, user: TestClient, *, by: TestClient | None = None) -> None:
    response = (by or owner).delete(f"/spaces/{space_of(owner)}/members/{id_of(user)}")
    assert response.status_code == 200, response.text


def rejoin(owner: TestClient, user: TestClient) -> None:
    join(owner, user)


def rejoin_with_more_rights(owner: TestClient, user: TestClient) -> None:
    join(owner, user)
    granted = owner.post(f"/users/{id_of(user)}/permissions", json={"permissions": ["data-models:list"]})
    assert granted.status_code == 200


def rejoin_before_a_deletion(owner: TestClient, user: TestClient) -> None:
    join(owner, user)
    delete_and_restore(owner, user)


def delete_and_restore(owner: TestClient, _: TestClient) -> None:
    owner.delete(f"/spaces/{space_of(owner)}")
    assert owner.post(f"/spaces/{space_of(owner)}/restore").status_code == 200


@pytest.mark.row("SE-3")
@pytest.mark.parametrize("leaves", [False, True], ids=["removed", "left"])
@pytest.mark.parametrize("afterwards", [rejoin, rejoin_with_more_rights, rejoin_before_a_deletion, delete_and_restore])
def test_a_key_of_a_former_member_never_works_again(
    client: TestClient, bob: TestClient, leaves: bool, afterwards: Callable[[TestClient, TestClient], None]
) -> None:
    key = create_key(bob, "read", "write")
    holder = client_with_key(client, key["key"])
    assert holder.get("/actions").status_code == 200
    remove(client, bob, by=bob if leaves else None)
    assert holder.get("/actions").status_code == 401
    afterwards(client, bob)
    for response in (holder.get("/actions"), holder.post("/action-groups", json={"name": "a", "description": ""})):
        assert (response.status_code, response.json()["code"]) == (401, "unauthenticated")


@pytest.mark.row("SE-3")
def test_who_joins_again_starts_without_keys_and_can_make_new_ones(client: TestClient, bob: TestClient) -> None:
    old = create_key(bob, "read")
    remove(client, bob)
    join(client, bob)
    assert bob.get("/api-keys").json() == {"count": 0, "data": [], "has_more": False}
    path = f"/api-keys/{old['id']}"
    for response in (bob.get(path), bob.patch(path, json={"name": "Mine"}), bob.patch(path, json={}), bob.delete(path)):
        assert response.status_code == 404, response.text
    new = create_key(bob, "read")
    assert client_with_key(client, new["key"]).get("/actions").status_code == 200
    assert [each["id"] for each in bob.get("/api-keys").json()["data"]] == [new["id"]]


@pytest.mark.row("SE-3")
def test_a_key_of_a_former_membership_is_refused_even_if_it_was_not_recorded_as_revoked(
    client: TestClient, bob: TestClient, table: Table
) -> None:
    """A worker may die between the end of a membership and the record of its keys."""
    key, space, user = create_key(bob, "read"), space_of(client), id_of(bob)
    membership = Members(table).membership(space, user)
    Members(table).remove(space, user, membership)
    join(client, bob)
    assert client_with_key(client, key["key"]).get("/actions").status_code == 401
    assert bob.get("/api-keys").json()["count"] == 0
    [listed] = client.get(f"/spaces/{space}/api-keys").json()["data"]
    assert (listed["id"], listed["state"], listed["revoked_at"]) == (key["id"], "revoked", None)


@pytest.mark.row("SE-3")
def test_the_keys_of_those_who_stay_work_again_after_a_restore(client: TestClient, bob: TestClient) -> None:
    holders = [client_with_key(client, create_key(each, "read")["key"]) for each in (client, bob)]
    client.delete(f"/spaces/{space_of(client)}")
    assert [each.get("/actions").status_code for each in holders] == [401, 401]
    client.post(f"/spaces/{space_of(client)}/restore")
    assert [each.get("/actions").status_code for each in holders] == [200, 200]


@pytest.mark.row("SE-3")
def test_a_key_that_is_made_while_its_user_is_removed_does_not_come_into_being(
    client: TestClient, bob: TestClient, table: Table
) -> None:
    def removed_and_back() -> None:
        remove(client, bob)
        join(client, bob)

    context = Members(table).context(id_of(bob), space_of(client))
    keys = ApiKeyService(InterruptedTable(table, removed_and_back))
    with pytest.raises(NotFoundError):
        keys.create(context, ApiKeyCreate(name="Late", scopes=[BroadScope.READ]))
    assert bob.get("/api-keys").json()["count"] == 0
    assert client.get(f"/spaces/{space_of(client)}/api-keys").json()["count"] == 0


@pytest.mark.row("SE-3")
def test_cached_authentication_ends_ten_seconds_after_the_last_check_and_does_not_return(
    client: TestClient, bob: TestClient, settings: Settings, clock: MovableClock
) -> None:
    app = build_api(Resources(settings.model_copy(update={"admission_seconds": 10}), clock))
    cached = client_with_key(TestClient(app), create_key(bob, "read", "chat")["key"])
    assert cached.get("/actions").status_code == 200
    clock.now += timedelta(seconds=4)
    remove(client, bob)
    join(client, bob)
    clock.now += timedelta(seconds=5)
    assert cached.get("/actions").status_code == 200, "the documented bound"
    assert cached.post("/action-groups", json={"name": "a", "description": ""}).status_code == 401
    for _ in range(3):
        clock.now += timedelta(seconds=2)
        assert cached.get("/actions").status_code == 401


@pytest.mark.row("SE-3", "US-4")
@pytest.mark.parametrize("address", ["bob@example.com", "robert@example.com"], ids=["joined with", "signed in with"])
def test_an_open_invite_of_a_former_member_does_not_let_them_back_in(
    client: TestClient, bob: TestClient, sign_in: ClientMaker, address: str
) -> None:
    bob_id = id_of(bob)
    assert id_of(sign_in("bob", email="robert@example.com")) == bob_id
    assert invite(client, address, "carol@example.com").status_code == 200
    assert client.delete(f"/spaces/{space_of(client)}/members/{bob_id}").status_code == 200
    for person in (sign_in("bob", email=address), sign_in("second-account", email=address)):
        assert accept(person).status_code in (404, 409)
        assert person.get("/actions", headers={"X-Space-Id": space_of(client)}).status_code == 404
    states = {each["email"]: each["state"] for each in client.get(f"/spaces/{space_of(client)}/invites").json()["data"]}
    assert (states[address], states["carol@example.com"]) == ("revoked", "pending")
    assert invite(client, address).status_code == 200
    assert accept(sign_in("bob", email=address)).status_code == 200


@pytest.mark.row("SE-3", "US-4")
@pytest.mark.parametrize("invited_before", [False, True])
def test_an_invite_that_is_made_during_a_removal_is_revoked(
    client: TestClient, bob: TestClient, sign_in: ClientMaker, table: Table, invited_before: bool
) -> None:
    if not invited_before:
        add_member(table, carol := sign_in("carol"), space_of(client), [])
    else:
        carol = sign_in("carol")
        invite(client, "carol@example.com")
        accept(carol)
    slow = MemberRemovals(InterruptedTable(table, lambda: invite(client, "carol@example.com")), utc_now)
    slow.remove(space_of(client), id_of(carol))
    assert accept(carol).status_code in (404, 409)


@pytest.mark.row("SE-3")
def test_stored_keys_and_memberships_without_a_generation_are_used_and_end_like_others(
    client: TestClient, bob: TestClient, table: Table
) -> None:
    key = create_key(bob, "read")
    for each in stored("membership#", f"api_key#{space_of(client)}"):
        table.write(update(each, {"generation": None}))
    for each in stored("api_key_entry#", f"api_key#{space_of(client)}#{id_of(bob)}#places"):
        table.write(delete(each))
    holder, path = client_with_key(client, key["key"]), f"/spaces/{space_of(client)}/api-keys"
    listed = client.get(path).json()
    assert [(each["id"], each["email"], each["state"]) for each in listed["data"]] == [
        (key["id"], "bob@example.com", "active")
    ]
    assert holder.get("/actions").status_code == 200
    assert [each["id"] for each in bob.get("/api-keys").json()["data"]] == [key["id"]]
    second = create_key(bob, "read")
    assert client_with_key(client, second["key"]).get("/actions").status_code == 200
    assert table.get(Key(f"api_key#{space_of(client)}#{id_of(bob)}#places", "first")) == {
        "PK": f"api_key#{space_of(client)}#{id_of(bob)}#places",
        "SK": "first",
        "taken": 2,
    }
    remove(client, bob)
    join(client, bob)
    for ended in (key, second):
        assert client_with_key(client, ended["key"]).get("/actions").status_code == 401
    assert {each["state"] for each in client.get(path).json()["data"]} == {"revoked"}


def stored(*prefixes: str) -> list[Key]:
    items: list[Any] = boto3.client("dynamodb").scan(TableName=TABLE)["Items"]
    keys = [Key(item["PK"]["S"], item["SK"]["S"]) for item in items]
    return [key for key in keys if key.pk.startswith(prefixes) and not key.pk.endswith("#count")]
