"""Tests of service accounts: members that are no persons, with API keys that outlive people."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from shared.dynamodb.table import Table
from tests.fixtures.evaluations import add_member
from tests.fixtures.trainings import space_of
from tests.functional.conftest import ClientMaker


def account_of(owner: TestClient, **rights: Any) -> str:
    body = {"name": "Nightly", **rights}
    made = owner.post(f"/spaces/{space_of(owner)}/service-accounts", json=body)
    assert made.status_code == 201, made.text
    assert made.json()["service_account"] == "Nightly"
    account: str = made.json()["id"]
    return account


def program_of(owner: TestClient, account: str, *scopes: str) -> tuple[TestClient, str]:
    """Returns a client with a new key of the account, and the key's id."""
    body = {"name": "Batch", "scopes": list(scopes)}
    key = owner.post(f"/spaces/{space_of(owner)}/service-accounts/{account}/api-keys", json=body)
    assert key.status_code == 201, key.text
    return TestClient(owner.app, headers={"Authorization": f"Bearer {key.json()['key']}"}), key.json()["id"]


@pytest.mark.row("GV-5")
def test_a_key_of_a_service_account_outlives_the_owner_who_made_it(
    client: TestClient, sign_in: ClientMaker, table: Table
) -> None:
    bob, members = sign_in("bob"), f"/spaces/{space_of(client)}/members"
    add_member(table, bob, space_of(client), [])
    bob_id = bob.get("/me").json()["id"]
    client.put(f"{members}/{bob_id}", json={"is_owner": True}).raise_for_status()
    account = account_of(bob, permissions=["trainings:list"])
    program, key_id = program_of(bob, account, "read")
    own = bob.post("/api-keys", json={"name": "Mine", "scopes": ["read"]}).json()["key"]
    client.delete(f"{members}/{bob_id}").raise_for_status()
    assert TestClient(client.app, headers={"Authorization": f"Bearer {own}"}).get("/actions").status_code == 401
    assert program.get("/trainings").status_code == 200
    assert program.get("/benchmarks").status_code == 403

    keys = client.get(f"/spaces/{space_of(client)}/api-keys").json()["data"]
    assert (key_id, account, "active") in [(each["id"], each["user_id"], each["state"]) for each in keys]
    client.delete(f"/spaces/{space_of(client)}/api-keys/{key_id}").raise_for_status()
    assert program.post("/actions", json={}).status_code == 401


@pytest.mark.row("GV-5", "GV-1")
def test_the_rights_of_a_service_account_change_and_end_with_it(client: TestClient) -> None:
    account, members = account_of(client), f"/spaces/{space_of(client)}/members"
    program, _ = program_of(client, account, "write", "aliases:promote")
    promotion = {"checkpoint_id": "unknown"}
    assert program.put("/checkpoints/aliases/best", json=promotion).status_code == 403
    client.put(f"{members}/{account}", json={"privileges": ["aliases:promote"]}).raise_for_status()
    assert program.put("/checkpoints/aliases/best", json=promotion).status_code == 400
    without, _ = program_of(client, account, "write")
    assert without.put("/checkpoints/aliases/best", json=promotion).status_code == 403
    listed = {each["id"]: each for each in client.get(members).json()["data"]}
    assert (listed[account]["service_account"], listed[account]["email"]) == ("Nightly", "")
    client.delete(f"{members}/{account}").raise_for_status()
    assert program.put("/checkpoints/aliases/best", json=promotion).status_code == 401


@pytest.mark.row("GV-5", "GV-3")
def test_a_service_account_owns_no_space_and_approves_no_argument(client: TestClient) -> None:
    account, members = account_of(client), f"/spaces/{space_of(client)}/members"
    for rights, field in (({"is_owner": True}, "is_owner"), ({"privileges": ["arguments:approve"]}, "privileges")):
        refused = client.put(f"{members}/{account}", json=rights)
        assert (refused.status_code, refused.json()["details"][0]["field"]) == (400, f"body.{field}")
    body = {"name": "Reviewer", "privileges": ["arguments:approve"]}
    assert client.post(f"/spaces/{space_of(client)}/service-accounts", json=body).status_code == 400


@pytest.mark.row("GV-5")
def test_only_owners_make_service_accounts_and_their_keys_and_persons_have_their_own(
    client: TestClient, sign_in: ClientMaker, table: Table
) -> None:
    account, accounts = account_of(client), f"/spaces/{space_of(client)}/service-accounts"
    bob = sign_in("bob")
    add_member(table, bob, space_of(client), [])
    key = {"name": "Batch", "scopes": ["read"]}
    assert bob.post(accounts, json={"name": "Mine"}).status_code == 403
    assert bob.post(f"{accounts}/{account}/api-keys", json=key).status_code == 403
    assert client.post(f"{accounts}/{bob.get('/me').json()['id']}/api-keys", json=key).status_code == 404
    past = client.post(f"{accounts}/{account}/api-keys", json=key | {"valid_until": "2020-01-01"})
    assert (past.status_code, past.json()["details"][0]["field"]) == (400, "body.valid_until")
