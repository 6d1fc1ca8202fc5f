"""Tests of the right to publish: only its holders make actions active, and change or delete active ones."""

import pytest
from fastapi.testclient import TestClient

from shared.dynamodb.table import Table
from tests.fixtures.evaluations import add_member
from tests.fixtures.trainings import space_of
from tests.functional.conftest import ClientMaker

OFFER = {"name": "Card", "description": "", "priority": "high", "type": "offer"}


@pytest.mark.row("GV-1", "AC-4")
def test_a_member_prepares_actions_and_needs_the_right_for_active_ones(
    client: TestClient, sign_in: ClientMaker, table: Table
) -> None:
    bob = sign_in("bob")
    add_member(table, bob, space_of(client), [])
    draft = f"/actions/{bob.post('/actions', json=OFFER).json()['id']}"
    live = f"/actions/{client.post('/actions', json=OFFER | {'status': 'active'}).json()['id']}"
    assert bob.put(draft, json={"name": "Loan", "status": "inactive"}).status_code == 200
    refused = [
        bob.post("/actions", json=OFFER | {"status": "active"}),
        bob.put(draft, json={"status": "active"}),
        bob.patch(live, json={"priority": "low"}),
        bob.put(live, json={"status": "archived"}),
        bob.delete(live),
    ]
    assert {(each.status_code, each.json()["code"]) for each in refused} == {(403, "permission_denied")}
    assert all("actions:publish" in each.json()["error"] for each in refused)
    assert client.get(live).json()["priority"] == "high"
    assert bob.delete(draft).status_code == 200

    member = f"/spaces/{space_of(client)}/members/{bob.get('/me').json()['id']}"
    client.put(member, json={"privileges": ["actions:publish"]}).raise_for_status()
    assert bob.patch(live, json={"priority": "low"}).status_code == 200
    assert bob.post("/actions", json=OFFER | {"status": "active"}).status_code == 201
    scopes = ["write", "actions:publish"]
    keys = [bob.post("/api-keys", json={"name": "k", "scopes": scopes[: count + 1]}).json()["key"] for count in (0, 1)]
    programs = [TestClient(client.app, headers={"Authorization": f"Bearer {key}"}) for key in keys]
    assert [each.patch(live, json={"priority": "low"}).status_code for each in programs] == [403, 200]
