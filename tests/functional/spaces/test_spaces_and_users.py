"""Tests of spaces and users."""

import pytest
from fastapi.testclient import TestClient

from tests.functional.conftest import ClientMaker


@pytest.mark.row("SP-1", "C-2")
def test_a_user_owns_the_spaces_they_create_and_sees_no_others(sign_in: ClientMaker) -> None:
    alice, bob = sign_in("alice"), sign_in("bob")
    created = alice.post("/spaces", json={"name": "Bank", "description": "ours"})
    assert created.status_code == 201
    space = created.json()
    assert space["created_by"] == space["updated_by"] == alice.get("/me").json()["id"]
    bob.post("/spaces", json={"name": "Bob's", "description": ""})

    assert [each["name"] for each in alice.get("/spaces").json()["data"]] == ["Bank"]
    assert [each["name"] for each in bob.get("/spaces").json()["data"]] == ["Bob's"]
    path = f"/spaces/{space['id']}"
    for response in (bob.get(path), bob.put(path, json={"name": "Stolen"})):
        assert response.status_code == 404
    assert alice.get(path).json() == space

    renamed = alice.put(path, json={"name": "Bank 2"}).json()
    assert (renamed["name"], renamed["description"]) == ("Bank 2", "ours")
    assert alice.get("/me").json()["spaces"][0] | {"permissions": []} == {
        "id": space["id"],
        "name": "Bank 2",
        "is_owner": True,
        "permissions": [],
        "privileges": ["actions:publish", "aliases:promote", "arguments:approve"],
    }


@pytest.mark.row("SP-1", "C-7")
def test_spaces_are_listed_newest_first(sign_in: ClientMaker) -> None:
    alice = sign_in("alice")
    created = [alice.post("/spaces", json={"name": str(i), "description": ""}).json()["id"] for i in range(5)]
    seen, after = [], ""
    while True:
        page = alice.get("/spaces", params={"limit": 2, "after": after}).json()
        assert page["count"] == 5
        seen += [space["id"] for space in page["data"]]
        after = seen[-1]
        if not page["has_more"]:
            break
    assert seen == created[::-1]


@pytest.mark.row("US-1")
def test_the_first_request_creates_the_user_from_the_token(sign_in: ClientMaker) -> None:
    me = sign_in("frank").get("/me").json()
    assert me["email"] == "frank@example.com"
    assert (me["external_id"], me["first_name"], me["last_name"]) == ("frank", "Frank", "Example")
    assert (me["role"], me["spaces"], me["permissions"]) == ("developer", [], [])
    assert sign_in("frank").get("/me").json() == me


def test_a_new_email_in_the_token_changes_the_user(sign_in: ClientMaker) -> None:
    first = sign_in("grace").get("/me").json()
    later = sign_in("grace", email="new@example.com").get("/me").json()
    assert (later["id"], later["email"]) == (first["id"], "new@example.com")


@pytest.mark.row("US-2")
def test_a_user_can_change_only_their_names_and_their_role(client: TestClient) -> None:
    before = client.get("/me").json()
    for field, value in (("email", "x@y.z"), ("external_id", "root"), ("permissions", ["a"])):
        refused = client.put("/me", json={"first_name": "Eve", field: value})
        assert (refused.status_code, refused.json()["details"][0]["field"]) == (400, f"body.{field}")
    changed = client.put("/me", json={"first_name": "Ally", "role": "designer"})
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
