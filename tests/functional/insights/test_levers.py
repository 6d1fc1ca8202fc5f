"""Tests of values, weights, the best offers, reasons on demand, and decisions without words."""

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from shared.clock import new_id
from shared.models.checkpoint import Checkpoint
from tests.fixtures.upstream import FakeUpstream
from tests.functional.insights.helpers import CLIENT, ActionMaker, decide

CUSTOMER = {"customer_id": 7, **CLIENT}


def set_policy(client: TestClient, **changes: Any) -> Any:
    changed = client.put("/insights/policy", json=changes)
    assert changed.status_code == 200, changed.text
    return changed.json()


@pytest.mark.row("EL-2")
def test_values_and_weights_decide_and_the_insight_states_the_formula(
    client: TestClient, create_action: ActionMaker
) -> None:
    set_policy(client, currency="EUR", default_value="10")
    card = create_action("Card", value={"amount": "250.00", "currency": "EUR"})
    loan = create_action("Loan", value={"amount": 240, "currency": "EUR"}, priority="high")
    advice = create_action("Advice", priority="very_high")

    insight = decide(client, CUSTOMER, wording="none")

    assert insight["actions"].split(",") == [loan, card, advice]
    assert insight["arbitration"] == {
        "version": "2.1",
        "formula": "score = propensity * value * weight of the priority",
        "weights": {"very_low": 0.5, "low": 0.75, "medium": 1.0, "high": 1.5, "very_high": 2.0},
        "currency": "EUR",
        "default_value": "10",
    }
    best = insight["candidates"][0]
    assert (float(best["value"]), best["weight"], best["score"]) == (240, 1.5, pytest.approx(0.05 * 240 * 1.5))
    assert best["reason"].endswith("18.0000 = 0.0500 * 240 EUR * 1.5 for its priority, high.")
    assert insight["candidates"][2]["score"] == pytest.approx(0.05 * 10 * 2)

    changed = set_policy(client, weights={"medium": 1.6, "high": 1.5})
    assert (changed["weights_version"], changed["weights"]["low"]) == (2, 0.75)
    again = decide(client, CUSTOMER, wording="none")
    assert (again["action_id"], again["arbitration"]["version"]) == (card, "2.2")
    assert client.get(f"/insights/{insight['id']}").json()["arbitration"] == insight["arbitration"]
    # Other fields leave the version of the scores alone.
    assert set_policy(client, time_zone="Europe/Berlin")["weights_version"] == 2


@pytest.mark.row("EL-2")
def test_a_value_in_another_currency_is_refused_or_removes_the_action(
    client: TestClient, create_action: ActionMaker
) -> None:
    offer = {"name": "Card", "description": "", "priority": "high", "type": "offer"}
    worth = {"value": {"amount": "5", "currency": "EUR"}}
    without = client.post("/actions", json=offer | worth)
    assert (without.status_code, without.json()["details"][0]["field"]) == (400, "body.value.currency")
    assert "PUT /insights/policy" in without.json()["error"]
    set_policy(client, currency="EUR")
    action = create_action("Card", **worth)
    assert client.get(f"/actions/{action}").json()["value"] == worth["value"]
    for wrong in ({"amount": "5", "currency": "USD"}, {"amount": "-5", "currency": "EUR"}, {"amount": "5"}):
        assert client.put(f"/actions/{action}", json={"value": wrong}).status_code == 400, wrong
    set_policy(client, currency="USD")
    (removed,) = decide(client, CUSTOMER, wording="none")["candidates"]
    assert removed["reason"] == "Its value is in EUR, not in USD, the currency of the policy."
    assert client.put(f"/actions/{action}", json={"value": None}).json()["value"] is None
    assert decide(client, CUSTOMER, wording="none")["action_id"] == action


@pytest.mark.row("EL-2")
def test_top_lists_the_best_offers_with_their_channels(client: TestClient, create_action: ActionMaker) -> None:
    loan, card = create_action("Loan", priority="high", channel="email"), create_action("Card", channel="sms")
    advice = create_action("Advice", priority="low")
    create_action("Later", start_date="2099-01-01")
    insight = decide(client, CUSTOMER, wording="none", top=2)
    assert [(each["rank"], each["action_id"], each["channel"]) for each in insight["offers"]] == [
        (1, loan, "email"),
        (2, card, "sms"),
    ]
    assert [each["score"] for each in insight["offers"]] == [each["score"] for each in insight["candidates"][:2]]
    assert len(insight["candidates"]) == 4
    everything = decide(client, CUSTOMER, wording="none", top=1000)["offers"]
    assert [each["action_id"] for each in everything] == [loan, card, advice]
    assert decide(client, CUSTOMER, wording="none")["offers"] == []
    for wrong in (0, 1001, "two"):
        assert client.post("/insights", json={"client": CUSTOMER, "top": wrong}).status_code == 400


@pytest.mark.row("EL-2", "Y-4")
def test_reason_codes_of_all_candidates_come_on_demand(
    client: TestClient, model: Checkpoint, create_action: ActionMaker
) -> None:
    create_action("Loan", model_id=model.id)
    create_action("Card", model_id=model.id, priority="low")
    create_action("Advice", priority="very_low")
    quiet = decide(client, CUSTOMER, wording="none")
    assert [each["reason_codes"] for each in quiet["candidates"]] == [[], [], []]
    first, second, third = decide(client, CUSTOMER, wording="none", reason_codes="all")["candidates"]
    assert first["reason_codes"] == second["reason_codes"] == quiet["reason_codes"] != []
    assert third["reason_codes"] == []


@pytest.mark.row("EL-2")
@pytest.mark.parametrize(("wording", "reason"), [("none", "no_wording"), ("offer", "plain")])
def test_a_decision_without_a_language_model_calls_none(
    client: TestClient, upstream: FakeUpstream, create_action: ActionMaker, wording: str, reason: str
) -> None:
    action = create_action("Card", channel="email", description="No fee for a year")
    insight = decide(client, CUSTOMER, wording=wording, reserve=True)
    assert (insight["action_id"], insight["finish_reason"], insight["error"]) == (action, reason, None)
    assert insight["best_channel"] == "email"
    assert insight["argument"] == ("Card. No fee for a year." if wording == "offer" else "")
    assert bool(insight["insight"]) is (wording == "offer")
    assert upstream.calls() == []
    assert client.get("/inference-logs").json()["count"] == 0
    # What only a language model uses would be ignored.
    refused = client.post("/insights", json={"client": CUSTOMER, "wording": wording, "model": "small"})
    assert refused.status_code == 400
    assert "model" in refused.json()["error"]


@pytest.mark.row("IN-1")
@pytest.mark.parametrize("text", ["Thinking", "It is just right, really.", "…"])
def test_generated_words_that_say_nothing_are_replaced_by_reasons_and_facts(
    client: TestClient, upstream: FakeUpstream, create_action: ActionMaker, text: str
) -> None:
    create_action("Card", description="No fee for a year")
    words = {"thinking": "", "insight": text, "argument_thinking": "", "argument": text, "best_time": "now"}
    upstream.script = lambda _: json.dumps({**words, "timeliness": "later"})
    insight = decide(client, CUSTOMER)
    assert (insight["argument"], insight["finish_reason"]) == ("Card. No fee for a year.", "error")
    assert "not used" in insight["error"]
    assert "best score of all offers" in insight["insight"]
    (row,) = client.get("/inference-logs").json()["data"]
    assert row["status"] == "error"


def test_limits_and_exemptions_of_actions_and_groups_that_do_not_exist_are_refused(
    client: TestClient, create_action: ActionMaker
) -> None:
    action = create_action("Card")
    group = client.post("/action-groups", json={"name": "Cards", "description": ""}).json()["id"]
    known = {"contacts": 1, "days": 7, "action_id": action, "group": group}
    set_policy(client, contact_limits=[known], exempt={"actions": [action], "groups": [group]})
    for change, field in (
        ({"contact_limits": [known, known | {"action_id": new_id()}]}, "contact_limits[1].action_id"),
        ({"contact_limits": [known | {"group": new_id()}]}, "contact_limits[0].group"),
        ({"exempt": {"actions": [action, "nowhere"]}}, "exempt.actions[1]"),
        ({"exempt": {"groups": [action]}}, "exempt.groups[0]"),
    ):
        refused = client.put("/insights/policy", json=change)
        assert (refused.status_code, refused.json()["details"][0]["field"]) == (400, f"body.{field}")
