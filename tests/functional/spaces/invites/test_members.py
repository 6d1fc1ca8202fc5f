"""Tests of the members of a space and of their permissions."""

import itertools
from typing import Any

import pytest
from fastapi.testclient import TestClient

from shared.dynamodb.table import Table
from shared.models.space import UserPermission
from shared.spaces.members import Members
from tests.fixtures.evaluations import add_member
from tests.fixtures.trainings import space_of
from tests.functional.conftest import ClientMaker
from tests.functional.spaces.invites.helpers import ROLES, accept, invite, spaces_of


@pytest.mark.row("X-14")
def test_the_owner_lists_and_removes_members_and_members_may_leave(client: TestClient, sign_in: ClientMaker) -> None:
    path = f"/spaces/{space_of(client)}/members"
    names = ("bob", "carol", "dave")
    invite(client, *(f"{name}@example.com" for name in names))
    people = {name: sign_in(name) for name in names}
    for person in people.values():
        accept(person)
    ids = {name: person.get("/me").json()["id"] for name, person in people.items()}
    page = people["bob"].get(path, params={"limit": 100}).json()
    assert page["count"] == 4
    assert {(each["email"], each["is_owner"], tuple(each["permissions"])) for each in page["data"]} == {
        ("alice@example.com", True, ()),
        *((f"{name}@example.com", False, tuple(ROLES)) for name in names),
    }
    listed: list[str] = []
    for size in itertools.repeat(1, 4):
        listed += [
            e["id"] for e in client.get(path, params={"limit": size, "after": "".join(listed[-1:])}).json()["data"]
        ]
    assert listed == [each["id"] for each in page["data"]]

    assert people["bob"].delete(f"{path}/{ids['carol']}").status_code == 403
    assert client.delete(f"{path}/{ids['carol']}").json() == {"id": ids["carol"]}
    assert client.delete(f"{path}/{ids['carol']}").status_code == 404
    assert people["dave"].delete(f"{path}/{ids['dave']}").status_code == 200
    assert people["carol"].get("/trainings", headers={"X-Space-Id": space_of(client)}).status_code == 404
    assert (spaces_of(people["carol"]), spaces_of(people["dave"])) == ({}, {})
    assert client.get(path).json()["count"] == 2

    owner_id = client.get("/me").json()["id"]
    owner_leaves = client.delete(f"{path}/{owner_id}")
    assert (owner_leaves.status_code, owner_leaves.json()["code"]) == (409, "conflict")
    assert people["bob"].delete(f"{path}/{owner_id}").status_code == 403

    invite(client, "carol@example.com")
    assert accept(people["carol"]).status_code == 200
    assert client.get(path).json()["count"] == 3


@pytest.mark.row("US-3")
def test_the_owner_adds_permissions_to_a_member_and_removes_none(
    client: TestClient, sign_in: ClientMaker, table: Table
) -> None:
    bob = sign_in("bob")
    add_member(table, bob, space_of(client), ["trainings:get"])
    bob_id = bob.get("/me").json()["id"]
    path = f"/users/{bob_id}/permissions"
    for permissions, wanted in (
        (["data-models:list", "trainings:list"], ["trainings:get", "trainings:list", "data-models:list"]),
        (["data-models:list", "data-models:list"], ["trainings:get", "trainings:list", "data-models:list"]),
        ([], ["trainings:get", "trainings:list", "data-models:list"]),
    ):
        response = client.post(path, json={"permissions": permissions})
        assert (response.status_code, response.json()) == (200, {"permissions": wanted})
    assert bob.get("/me").json()["permissions"] == wanted
    assert bob.get("/data-models").status_code == 200
    assert client.post(path, json={"permissions": ["spaces:own"]}).status_code == 400
    owner = client.post(f"/users/{client.get('/me').json()['id']}/permissions", json={"permissions": []})
    assert owner.json() == {"permissions": [each.value for each in UserPermission]}


@pytest.mark.row("US-3")
def test_a_member_cannot_extend_their_own_permissions(
    client: TestClient, other_client: TestClient, sign_in: ClientMaker, table: Table
) -> None:
    mallory, bob = sign_in("mallory"), sign_in("bob")
    add_member(table, mallory, space_of(client), ["trainings:get"])
    mallory_id, owner_id = (each.get("/me").json()["id"] for each in (mallory, client))
    everything = {"permissions": [each.value for each in UserPermission]}
    forged = {**everything, "is_owner": True, "role": "owner", "user_id": owner_id, "space_id": space_of(client)}
    own_space = mallory.post("/spaces", json={"name": "Mine", "description": ""}).json()["id"]

    # Mallory sends a forged role to Alice's space, for herself and for others.
    for target in (mallory_id, owner_id, bob.get("/me").json()["id"]):
        refused = mallory.post(f"/users/{target}/permissions", json=forged)
        assert (refused.status_code, refused.json()["code"]) == (403, "permission_denied")
    # Mallory owns another space, but permissions in that space do not apply to Alice's space.
    inside = {"X-Space-Id": own_space}
    assert mallory.post(f"/users/{mallory_id}/permissions", json=forged, headers=inside).status_code == 400
    assert mallory.post(f"/users/{mallory_id}/permissions", json=everything, headers=inside).status_code == 200
    # Mallory is not a member of Bob's space, so neither Bob nor Mallory can change her permissions there.
    assert other_client.post(f"/users/{mallory_id}/permissions", json=everything).status_code == 404
    outside = mallory.post(
        f"/users/{mallory_id}/permissions", json=everything, headers={"X-Space-Id": space_of(other_client)}
    )
    assert outside.status_code == 404
    # Mallory sends the forged role with her profile, and invites herself.
    mallory.put("/me", json=forged)
    assert invite(mallory, "mallory@example.com").status_code == 403

    assert spaces_of(mallory)[space_of(client)] == ["trainings:get"]
    assert mallory.put(f"/spaces/{space_of(client)}", json={"name": "Mine"}).status_code == 403
    assert client.post("/users/unknown/permissions", json=everything).status_code == 404


@pytest.mark.row("US-3")
def test_two_concurrent_additions_of_permissions_are_both_kept(
    client: TestClient, sign_in: ClientMaker, table: Table
) -> None:
    bob = sign_in("bob")
    add_member(table, bob, space_of(client), [])
    bob_id = bob.get("/me").json()["id"]

    class Slow(Table):
        def write(self, action: Any) -> Any:
            client.post(f"/users/{bob_id}/permissions", json={"permissions": ["trainings:get"]})
            return super().write(action)

    slow = Members(Slow(table._client, table.name))
    slow.add_permissions(space_of(client), bob_id, [UserPermission.TRAININGS_LIST])
    assert bob.get("/me").json()["permissions"] == ["trainings:get", "trainings:list"]
