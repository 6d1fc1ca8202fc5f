"""Spaces belong to their members; the first call makes the user."""

import pytest
from fastapi.testclient import TestClient

from tests.functional.conftest import ClientMaker


@pytest.mark.row("SP-1", "C-2")
def test_only_ones_own_spaces_are_seen_and_the_creator_owns_them(sign_in: ClientMaker) -> None:
    alice, bob = sign_in("alice"), sign_in("bob")
    made = alice.post("/spaces", json={"name": "Bank", "description": "ours"})
    assert made.status_code == 201
    space = made.json()
    assert space["created_by"] == space["updated_by"] == alice.get("/me").json()["id"]
    bob.post("/spaces", json={"name": "Bob's", "description": ""})

    assert [each["name"] for each in alice.get("/spaces").json()["data"]] == ["Bank"]
    assert [each["name"] for each in bob.get("/spaces").json()["data"]] == ["Bob's"]
    place = f"/spaces/{space['id']}"
    for answer in (bob.get(place), bob.put(place, json={"name": "Stolen"})):
        assert answer.status_code == 404
    assert alice.get(place).json() == space

    renamed = alice.put(place, json={"name": "Bank 2"}).json()
    assert (renamed["name"], renamed["description"]) == ("Bank 2", "ours")
    assert alice.get("/me").json()["spaces"][0] | {"permissions": []} == {
        "id": space["id"],
        "name": "Bank 2",
        "is_owner": True,
        "permissions": [],
    }


@pytest.mark.row("SP-1", "C-7")
def test_spaces_are_listed_newest_first(sign_in: ClientMaker) -> None:
    alice = sign_in("alice")
    made = [alice.post("/spaces", json={"name": str(i), "description": ""}).json()["id"] for i in range(5)]
    seen, after = [], ""
    while True:
        page = alice.get("/spaces", params={"limit": 2, "after": after}).json()
        assert page["count"] == 5
        seen += [space["id"] for space in page["data"]]
        after = seen[-1]
        if not page["has_more"]:
            break
    assert seen == made[::-1]


@pytest.mark.row("US-1")
def test_the_first_call_makes_the_user_from_the_token(sign_in: ClientMaker) -> None:
    me = sign_in("frank").get("/me").json()
    assert me["email"] == "frank@example.com"
    assert (me["external_id"], me["first_name"], me["last_name"]) == ("frank", "Frank", "Example")
    assert (me["role"], me["spaces"], me["permissions"]) == ("developer", [], [])
    assert sign_in("frank").get("/me").json() == me


def test_a_changed_email_of_the_token_is_followed(sign_in: ClientMaker) -> None:
    first = sign_in("grace").get("/me").json()
    later = sign_in("grace", email="new@example.com").get("/me").json()
    assert (later["id"], later["email"]) == (first["id"], "new@example.com")


@pytest.mark.row("US-2")
def test_a_user_changes_names_and_role_but_neither_email_nor_identity_nor_rights(client: TestClient) -> None:
    before = client.get("/me").json()
    changed = client.put(
        "/me",
        json={"first_name": "Ally", "role": "designer", "email": "x@y.z", "external_id": "root", "permissions": ["a"]},
    )
    assert changed.status_code == 200
    after = client.get("/me").json()
    assert (after["first_name"], after["role"]) == ("Ally", "designer")
    for name in ("id", "email", "external_id", "last_name", "permissions", "spaces"):
        assert after[name] == before[name]
    assert client.put("/me", json={"role": "owner"}).status_code == 400


def test_me_shows_the_permissions_of_the_selected_space(sign_in: ClientMaker, client: TestClient) -> None:
    space = client.headers["X-Space-Id"]
    assert "trainings:create" in client.get("/me").json()["permissions"]
    stranger = sign_in("heidi", space=space).get("/me")
    assert stranger.status_code == 404
