"""Dry runs of single decisions, which answer what if, and the limits that a customer has left."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from shared.clock import new_id
from shared.models.checkpoint import Checkpoint
from tests.fixtures.spaces import held_by_aws
from tests.functional.insights.helpers import CLIENT, ActionMaker, decide
from tests.functional.insights.test_experiments import HALVES, run

CUSTOMER = {"customer_id": 7, **CLIENT}


@pytest.mark.row("IN-1", "XP-1")
def test_a_dry_run_decides_the_same_and_stores_nothing(
    client: TestClient, model: Checkpoint, create_action: ActionMaker
) -> None:
    create_action("Card", model_id=model.id)
    run(client, *HALVES)
    before = held_by_aws()
    asked = decide(client, CUSTOMER, wording="offer", dry_run=True)
    assert held_by_aws() == before
    made = decide(client, CUSTOMER, wording="offer")
    same = ("action_id", "arm", "candidates", "contributions", "argument", "finish_reason")
    assert {name: asked[name] for name in same} == {name: made[name] for name in same}
    assert (asked["dry_run"], made["dry_run"]) == (True, False)
    assert client.get(f"/insights/{asked['id']}").status_code == 404


@pytest.mark.parametrize(
    ("fields", "headers", "message"),
    [
        ({"wording": "argument"}, {}, "wording must be none or offer"),
        ({"wording": "none", "reserve": True}, {}, "reserve is not for a dry run"),
        ({"wording": "none"}, {"Idempotency-Key": "once"}, "Idempotency-Key"),
    ],
)
def test_a_dry_run_refuses_what_it_would_ignore(
    client: TestClient, fields: dict[str, Any], headers: dict[str, str], message: str
) -> None:
    body = {"client": CUSTOMER, "dry_run": True, **fields}
    refused = client.post("/insights", json=body, headers=headers)
    assert refused.status_code == 400
    assert message in refused.text


@pytest.mark.row("IN-1")
def test_a_decision_says_what_the_customer_has_left_of_each_limit(
    client: TestClient, create_action: ActionMaker
) -> None:
    action = create_action("Card", channel="email")
    limits = [
        {"contacts": 3, "days": 30},
        {"contacts": 1, "days": 7, "channel": "e-mail"},
        {"contacts": 2, "days": 7, "channel": "sms"},
    ]
    client.put("/insights/policy", json={"contact_limits": limits}).raise_for_status()
    contact = {"client_key": "7", "action_id": action, "channel": "email", "status": "sent"}
    client.post("/contacts", json={**contact, "contact_id": new_id()}).raise_for_status()
    insight = decide(client, CUSTOMER, wording="none")
    found = [(each["channel"], each["used"], each["left"]) for each in insight["limits"]]
    assert found == [(None, 1, 2), ("e-mail", 1, 0), ("sms", 0, 2)]
    assert client.get(f"/insights/{insight['id']}").json()["limits"] == insight["limits"]
    other = decide(client, {**CUSTOMER, "customer_id": 8}, wording="none")["limits"][0]
    assert (other["used"], other["left"]) == (0, 3)
