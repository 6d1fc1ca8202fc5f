"""Tests of the acceptance of invites."""

from datetime import timedelta

import pytest
from fastapi.testclient import TestClient

from shared.dynamodb.table import Table
from shared.models.space import UserPermission
from shared.spaces.invites import Invites
from shared.spaces.members import Members
from tests.fixtures.clocks import MovableClock
from tests.fixtures.evaluations import add_member
from tests.fixtures.interrupted_table import InterruptedTable
from tests.fixtures.trainings import space_of
from tests.functional.conftest import ClientMaker
from tests.functional.spaces.invites.helpers import ROLES, accept, invite, spaces_of


@pytest.mark.row("US-4")
def test_an_accepted_invite_gives_a_membership_with_its_permissions(client: TestClient, sign_in: ClientMaker) -> None:
    invite(client, "bob@example.com")
    bob = sign_in("bob", email="BOB@example.com")
    response = accept(bob)
    assert response.status_code == 200
    assert response.json()["error"] == ""
    assert spaces_of(bob) == {space_of(client): ROLES}
    assert bob.get("/trainings").status_code == 200
    assert bob.get("/spaces").json()["count"] == 1
    again = accept(bob)
    assert (again.status_code, again.json()["code"]) == (409, "conflict")
    assert again.json()["error"]


@pytest.mark.row("US-4")
def test_an_invite_is_valid_for_its_own_verified_address_and_for_a_week(
    client: TestClient, sign_in: ClientMaker, clock: MovableClock
) -> None:
    invite(client, "bob@example.com")
    for claims in ({"email_verified": False}, {"email_verified": None}, {"email": None}, {"email_verified": "no"}):
        unverified = accept(sign_in("bob", **claims))
        assert (unverified.status_code, unverified.json()["code"]) == (403, "permission_denied")
    nobody = accept(sign_in("mallory"))
    assert (nobody.status_code, nobody.json()["code"]) == (404, "not_found")
    clock.now += timedelta(days=7)
    late = accept(sign_in("bob"))
    assert (late.status_code, late.json()["code"]) == (410, "gone")
    for response in (unverified, nobody, late):
        assert response.json()["error"]
    assert spaces_of(sign_in("bob")) == {}


@pytest.mark.row("US-4")
def test_one_request_accepts_all_invites_of_an_address_except_invites_to_deleted_spaces(
    client: TestClient, other_client: TestClient, sign_in: ClientMaker
) -> None:
    gone = sign_in("erin")
    gone.headers["X-Space-Id"] = gone.post("/spaces", json={"name": "Gone", "description": ""}).json()["id"]
    for owner in (client, other_client, gone):
        assert invite(owner, "carol@example.com").status_code == 200
    path = f"/spaces/{space_of(gone)}"
    gone.delete(path)
    carol = sign_in("carol")
    assert set(accept(carol).json()["spaces"]) == {space_of(client), space_of(other_client)}
    assert set(spaces_of(carol)) == {space_of(client), space_of(other_client)}
    gone.post(f"{path}/restore")
    assert accept(carol).json()["spaces"] == [space_of(gone)]


@pytest.mark.row("US-4")
def test_an_invite_of_a_member_adds_permissions_and_removes_none(
    client: TestClient, sign_in: ClientMaker, table: Table
) -> None:
    bob = sign_in("bob")
    add_member(table, bob, space_of(client), ["data-models:get"])
    invite(client, "bob@example.com", "alice@example.com", roles=["trainings:get"])
    accept(bob)
    accept(client)
    assert spaces_of(bob) == {space_of(client): ["trainings:get", "data-models:get"]}
    assert len(spaces_of(client)[space_of(client)]) == len(UserPermission)
    assert client.get(f"/spaces/{space_of(client)}/members").json()["count"] == 2


@pytest.mark.row("US-4")
def test_two_concurrent_acceptances_create_one_membership(
    client: TestClient, sign_in: ClientMaker, table: Table
) -> None:
    invite(client, "bob@example.com")
    bob = sign_in("bob")
    user_id = bob.get("/me").json()["id"]
    [(space_id, found)] = Invites(table).of("bob@example.com")
    slow = Invites(InterruptedTable(table, lambda: accept(bob)))
    assert slow.accept(space_id, found, user_id) is False
    assert Members(table).memberships.count(user_id) == 1
    assert client.get(f"/spaces/{space_id}/members").json()["count"] == 2
    assert spaces_of(bob) == {space_id: ROLES}


@pytest.mark.row("US-4", "SP-2")
def test_an_acceptance_respects_a_concurrent_membership_and_a_concurrent_deletion(
    client: TestClient, sign_in: ClientMaker, table: Table
) -> None:
    invite(client, "bob@example.com", "carol@example.com")
    bob, carol = sign_in("bob"), sign_in("carol")
    [(space_id, found)] = Invites(table).of("bob@example.com")
    bob_id, carol_id = (each.get("/me").json()["id"] for each in (bob, carol))
    joins = InterruptedTable(table, lambda: add_member(table, bob, space_id, ["data-models:get"]))
    assert Invites(joins).accept(space_id, found, bob_id)
    assert spaces_of(bob) == {space_id: [*ROLES, "data-models:get"]}

    [(_, found)] = Invites(table).of("carol@example.com")
    ends = InterruptedTable(table, lambda: client.delete(f"/spaces/{space_id}"))
    assert Invites(ends).accept(space_id, found, carol_id) is False
    assert Members(table).memberships.count(carol_id) == 0
