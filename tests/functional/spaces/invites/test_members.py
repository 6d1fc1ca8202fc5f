"""Members of a space and their permissions."""

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

# --- members


@pytest.mark.row("X-14")
def test_members_are_listed_and_may_be_removed_or_leave(client: TestClient, sign_in: ClientMaker) -> None:
    place = f"/spaces/{space_of(client)}/members"
    names = ("bob", "carol", "dave")
    invite(client, *(f"{name}@example.com" for name in names))
    people = {name: sign_in(name) for name in names}
    for person in people.values():
        accept(person)
    ids = {name: person.get("/me").json()["id"] for name, person in people.items()}
    page = people["bob"].get(place, params={"limit": 100}).json()
    assert page["count"] == 4
    assert {(each["email"], each["is_owner"], tuple(each["permissions"])) for each in page["data"]} == {
        ("alice@example.com", True, ()),
        *((f"{name}@example.com", False, tuple(ROLES)) for name in names),
    }
    walked: list[str] = []
    for size in itertools.repeat(1, 4):
        walked += [
            e["id"] for e in client.get(place, params={"limit": size, "after": "".join(walked[-1:])}).json()["data"]
        ]
    assert walked == [each["id"] for each in page["data"]]

    assert people["bob"].delete(f"{place}/{ids['carol']}").status_code == 403
    assert client.delete(f"{place}/{ids['carol']}").json() == {"id": ids["carol"]}
    assert client.delete(f"{place}/{ids['carol']}").status_code == 404
    assert people["dave"].delete(f"{place}/{ids['dave']}").status_code == 200
    assert people["carol"].get("/trainings", headers={"X-Space-Id": space_of(client)}).status_code == 404
    assert (spaces_of(people["carol"]), spaces_of(people["dave"])) == ({}, {})
    assert client.get(place).json()["count"] == 2

    owner_id = client.get("/me").json()["id"]
    owner_leaves = client.delete(f"{place}/{owner_id}")
    assert (owner_leaves.status_code, owner_leaves.json()["code"]) == (409, "conflict")
    assert people["bob"].delete(f"{place}/{owner_id}").status_code == 403

    invite(client, "carol@example.com")
    assert accept(people["carol"]).status_code == 200
    assert client.get(place).json()["count"] == 3


# --- permissions


@pytest.mark.row("US-3")
def test_the_owner_adds_to_what_a_member_may_do_and_takes_nothing(
    client: TestClient, sign_in: ClientMaker, table: Table
) -> None:
    bob = sign_in("bob")
    add_member(table, bob, space_of(client), ["trainings:get"])
    bob_id = bob.get("/me").json()["id"]
    place = f"/users/{bob_id}/permissions"
    for permissions, wanted in (
        (["data-models:list", "trainings:list"], ["trainings:get", "trainings:list", "data-models:list"]),
        (["data-models:list", "data-models:list"], ["trainings:get", "trainings:list", "data-models:list"]),
        ([], ["trainings:get", "trainings:list", "data-models:list"]),
    ):
        answer = client.post(place, json={"permissions": permissions})
        assert (answer.status_code, answer.json()) == (200, {"permissions": wanted})
    assert bob.get("/me").json()["permissions"] == wanted
    assert bob.get("/data-models").status_code == 200
    assert client.post(place, json={"permissions": ["spaces:own"]}).status_code == 400
    owner = client.post(f"/users/{client.get('/me').json()['id']}/permissions", json={"permissions": []})
    assert owner.json() == {"permissions": [each.value for each in UserPermission]}


@pytest.mark.row("US-3")
def test_nobody_raises_their_own_rights(
    client: TestClient, other_client: TestClient, sign_in: ClientMaker, table: Table
) -> None:
    mallory, bob = sign_in("mallory"), sign_in("bob")
    add_member(table, mallory, space_of(client), ["trainings:get"])
    mallory_id, owner_id = (each.get("/me").json()["id"] for each in (mallory, client))
    everything = {"permissions": [each.value for each in UserPermission]}
    forged = {**everything, "is_owner": True, "role": "owner", "user_id": owner_id, "space_id": space_of(client)}
    own_space = mallory.post("/spaces", json={"name": "Mine", "description": ""}).json()["id"]

    # In the space where they are no owner, for themselves, for others, and with what they wish they were.
    for target in (mallory_id, owner_id, bob.get("/me").json()["id"]):
        refused = mallory.post(f"/users/{target}/permissions", json=forged)
        assert (refused.status_code, refused.json()["code"]) == (403, "permission_denied")
    # As the owner of another space, which is not where the rights would count.
    inside = mallory.post(f"/users/{mallory_id}/permissions", json=forged, headers={"X-Space-Id": own_space})
    assert inside.status_code == 200
    # Through somebody who owns another space, and through a space they do not belong to.
    assert other_client.post(f"/users/{mallory_id}/permissions", json=everything).status_code == 404
    outside = mallory.post(
        f"/users/{mallory_id}/permissions", json=everything, headers={"X-Space-Id": space_of(other_client)}
    )
    assert outside.status_code == 404
    # Through one's own profile, and by inviting oneself.
    mallory.put("/me", json=forged)
    assert invite(mallory, "mallory@example.com").status_code == 403

    assert spaces_of(mallory)[space_of(client)] == ["trainings:get"]
    assert mallory.put(f"/spaces/{space_of(client)}", json={"name": "Mine"}).status_code == 403
    assert client.post("/users/unknown/permissions", json=everything).status_code == 404


@pytest.mark.row("US-3")
def test_two_additions_at_once_are_both_kept(client: TestClient, sign_in: ClientMaker, table: Table) -> None:
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
