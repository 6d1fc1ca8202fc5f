"""Conditions of actions and of their groups decide who gets an offer."""

import pytest
from fastapi.testclient import TestClient

from tests.fixtures.upstream import FakeUpstream
from tests.functional.insights.helpers import ActionMaker, decide

ADULT = "client.age >= 18"
NEAR = 'client.country in ["DE", "AT"]'


def test_a_mistake_in_a_condition_is_a_400_with_its_position(client: TestClient, create_action: ActionMaker) -> None:
    group = client.post("/action-groups", json={"name": "Cards", "description": ""}).json()["id"]
    action = create_action("Card")
    wrong = {"conditions": [ADULT, "client.age >= old(3)"]}
    offer = {"name": "Loan", "description": "", "priority": "high", "type": "offer"}
    for response in (
        client.post("/actions", json=offer | wrong),
        client.put(f"/actions/{action}", json=wrong),
        client.post("/action-groups", json={"name": "Loans", "description": ""} | wrong),
        client.put(f"/action-groups/{group}", json=wrong),
    ):
        assert response.status_code == 400, response.text
        (detail,) = response.json()["details"]
        assert detail["field"] == "body.conditions[1]"
        assert detail["message"].startswith("line 1, column 18: undeclared reference to 'old'")


@pytest.mark.row("EL-1")
def test_a_removal_names_the_condition_and_the_client_s_value(
    client: TestClient, upstream: FakeUpstream, create_action: ActionMaker
) -> None:
    cards = client.post("/action-groups", json={"name": "Cards", "description": "", "conditions": [NEAR]}).json()
    assert cards["conditions"] == [NEAR]
    gold = create_action("Gold card", conditions=[ADULT], group=cards["id"], priority="high")
    saving = create_action("Savings")

    assert decide(client, {"id": 1, "age": 18, "country": "AT"})["action_id"] == gold

    young = decide(client, {"id": 2, "age": 17, "country": "AT"})
    assert young["action_id"] == saving
    removed = young["candidates"][-1]
    assert (removed["removed_by"], removed["condition"]) == ("condition", ADULT)
    assert removed["reason"] == f"Its condition `{ADULT}` does not hold: client.age is 17."

    far = decide(client, {"id": 3, "age": 50, "country": "FR"})["candidates"][-1]
    assert (far["removed_by"], far["condition"]) == ("condition", NEAR)
    assert far["reason"] == f'Its group\'s condition `{NEAR}` does not hold: client.country is "FR".'

    unknown = decide(client, "A client from Berlin")["candidates"][-1]
    assert unknown["reason"] == f"Its condition `{ADULT}` cannot be decided: client.age is missing."


def test_a_changed_or_removed_condition_holds_for_the_next_decision(
    client: TestClient, upstream: FakeUpstream, create_action: ActionMaker
) -> None:
    group = client.post("/action-groups", json={"name": "Cards", "description": "", "conditions": [NEAR]}).json()["id"]
    action = create_action("Card", conditions=[ADULT], group=group)
    minor = {"id": 1, "age": 12, "country": "FR"}
    assert decide(client, minor)["action_id"] is None
    assert client.put(f"/actions/{action}", json={"conditions": None}).status_code == 400
    assert client.put(f"/actions/{action}", json={"conditions": ["client.age > 10"]}).status_code == 200
    assert decide(client, minor)["candidates"][0]["condition"] == NEAR
    # An action of a deleted group has no group.
    assert client.delete(f"/action-groups/{group}").status_code == 200
    assert decide(client, minor)["action_id"] == action


def test_a_persona_is_tested_by_its_data_and_its_birth_date(
    client: TestClient, upstream: FakeUpstream, create_action: ActionMaker
) -> None:
    action = create_action("Card", conditions=['client.birthdate < "2000-01-01"', ADULT])
    persona = client.post(
        "/personas", json={"name": "Ann", "birthdate": "1990-05-01", "data": {"age": 36}, "notes": ""}
    ).json()
    young = client.post(
        "/personas", json={"name": "Bea", "birthdate": "2001-05-01", "data": {"age": 25}, "notes": ""}
    ).json()
    assert decide(client, persona["id"])["action_id"] == action
    assert 'client.birthdate is "2001-05-01"' in decide(client, young["id"])["candidates"][0]["reason"]
