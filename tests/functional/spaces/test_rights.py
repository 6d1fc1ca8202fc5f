"""Tests of the rights of members: they are raised and lowered, and ownership is shared and passed on."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient

from shared.dynamodb.table import Table
from shared.errors import ConflictError
from shared.spaces.members import Members
from tests.fixtures.evaluations import add_member
from tests.fixtures.trainings import space_of
from tests.functional.conftest import ClientMaker


@pytest.fixture
def bob(client: TestClient, sign_in: ClientMaker, table: Table) -> TestClient:
    bob = sign_in("bob")
    add_member(table, bob, space_of(client), ["trainings:list", "trainings:get"])
    return bob


def address(client: TestClient, member: TestClient) -> str:
    return f"/spaces/{space_of(client)}/members/{id_of(member)}"


def id_of(member: TestClient) -> str:
    me: str = member.get("/me", headers={"X-Space-Id": ""}).json()["id"]
    return me


def put(client: TestClient, member: TestClient, **rights: Any) -> Any:
    return client.put(address(client, member), json=rights)


@pytest.mark.row("GV-1")
def test_an_owner_lowers_and_raises_rights(client: TestClient, bob: TestClient) -> None:
    assert bob.get("/trainings").status_code == 200
    lowered = put(client, bob, permissions=["benchmarks:list"], privileges=["actions:publish"])
    assert (lowered.json()["permissions"], lowered.json()["privileges"]) == (["benchmarks:list"], ["actions:publish"])
    assert bob.post("/trainings", json={}).status_code == 403
    me = bob.get("/me").json()
    assert (me["permissions"], me["privileges"]) == (["benchmarks:list"], ["actions:publish"])
    assert (me["spaces"][-1]["permissions"], me["spaces"][-1]["privileges"]) == (me["permissions"], me["privileges"])
    kept = put(client, bob, permissions=[])
    assert (kept.json()["permissions"], kept.json()["privileges"]) == ([], ["actions:publish"])
    stale = client.put(address(client, bob), json={"privileges": []}, headers={"If-Match": lowered.headers["ETag"]})
    assert stale.status_code == 412
    assert bob.put(address(client, bob), json={"is_owner": True}).status_code == 403
    assert client.put(f"/spaces/{space_of(client)}/members/{space_of(client)}", json={}).status_code == 404


@pytest.mark.row("GV-1")
def test_ownership_is_shared_and_passed_on_and_a_space_never_lacks_an_owner(
    client: TestClient, bob: TestClient
) -> None:
    last = put(client, client, is_owner=False)
    assert (last.status_code, last.json()["code"]) == (409, "conflict")
    assert put(client, bob, is_owner=True).json()["is_owner"]
    assert bob.put(f"/spaces/{space_of(client)}", json={"name": "Ours"}).status_code == 200
    assert bob.put(address(client, client), json={"is_owner": False}).status_code == 200
    assert client.put(f"/spaces/{space_of(client)}", json={"name": "Mine"}).status_code == 403
    assert bob.delete(address(client, bob)).status_code == 409
    assert bob.delete(address(client, client)).status_code == 200


@pytest.mark.row("GV-1")
def test_of_two_owners_who_lower_each_other_at_once_one_stays(
    client: TestClient, bob: TestClient, table: Table
) -> None:
    put(client, bob, is_owner=True).raise_for_status()
    members, space_id, ids = Members(table), space_of(client), [id_of(client), id_of(bob)]

    def lower(user_id: str) -> bool:
        try:
            members.set_rights(space_id, user_id, {"is_owner": False}, None)
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(lower, ids)) == [False, True]
    assert sum(members.membership(space_id, user_id).is_owner for user_id in ids) == 1


@pytest.mark.row("GV-1", "SP-2")
def test_an_owner_lists_the_deleted_spaces_and_restores_one(client: TestClient, bob: TestClient) -> None:
    space_id = space_of(client)
    assert client.get("/spaces", params={"deleted": True}).json()["data"] == []
    client.delete(f"/spaces/{space_id}").raise_for_status()
    page = client.get("/spaces", params={"deleted": True}).json()
    assert ([each["id"] for each in page["data"]], page["count"], page["has_more"]) == ([space_id], 1, False)
    assert page["data"][0]["deleted_at"] < page["data"][0]["restorable_until"]
    assert bob.get("/spaces", params={"deleted": True}).json()["data"] == []
    client.post(f"/spaces/{page['data'][0]['id']}/restore").raise_for_status()
    assert client.get("/spaces", params={"deleted": True}).json()["data"] == []
    assert space_id in [each["id"] for each in client.get("/spaces").json()["data"]]
