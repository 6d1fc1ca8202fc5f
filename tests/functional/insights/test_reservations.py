"""Tests of decisions that reserve their contact."""

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from functions.api import build_api
from shared.dynamodb.table import Table
from shared.resources import Resources
from shared.settings import Settings
from tests.fixtures.clocks import MovableClock
from tests.fixtures.identity import Issuer
from tests.fixtures.upstream import FakeUpstream
from tests.functional.clients.test_contacts import limit, report
from tests.functional.insights.helpers import GENERATED_TEXT, ActionMaker, decide
from tests.functional.insights.test_reactions import react

CUSTOMER = {"customer_id": 7}


@pytest.mark.row("LG-3")
def test_a_reserved_contact_counts_immediately_until_it_expires_or_fails(
    client: TestClient, clock: MovableClock, create_action: ActionMaker
) -> None:
    offer, other = create_action("Card", channel="sms"), create_action("Loan", channel="SMS", priority="low")
    limit(client, {"channel": "sms", "contacts": 1, "days": 7}, reservation_minutes=60)
    first = decide(client, CUSTOMER, reserve=True)
    assert (first["action_id"], first["best_channel"]) == (offer, "sms")
    assert first["reserved_until"] is not None
    refused = decide(client, CUSTOMER, reserve=True)
    assert (refused["finish_reason"], refused["reserved_until"]) == ("no_eligible_action", None)
    assert decide(client, {"customer_id": 8}, reserve=True)["action_id"] == offer
    clock.now += timedelta(minutes=60)
    second = decide(client, CUSTOMER, actions=[other], reserve=True)
    assert second["action_id"] == other
    report(client, "failed", insight_id=second["id"])
    third = decide(client, CUSTOMER, reserve=True)
    assert third["action_id"] == offer
    report(client, "sent", insight_id=third["id"])
    clock.now += timedelta(days=6)
    assert decide(client, CUSTOMER)["action_id"] is None
    clock.now += timedelta(days=1)
    assert decide(client, CUSTOMER)["action_id"] == offer


@pytest.mark.row("LG-3")
def test_a_reaction_to_a_reserved_offer_is_the_same_contact(
    client: TestClient, clock: MovableClock, create_action: ActionMaker
) -> None:
    create_action("Card", channel="sms")
    create_action("Loan", channel="sms", priority="low")
    limit(client, {"channel": "sms", "contacts": 2, "days": 7})
    insight = decide(client, CUSTOMER, reserve=True)
    react(client, insight, "ignored")
    clock.now += timedelta(days=2)
    assert decide(client, CUSTOMER, reserve=True)["action_id"] is not None
    assert decide(client, CUSTOMER, reserve=True)["action_id"] is None


@pytest.mark.row("LG-3", "IN-1")
def test_a_reserved_offer_gets_its_words_afterwards_and_a_repeated_request_returns_them(
    client: TestClient, upstream: FakeUpstream, create_action: ActionMaker
) -> None:
    create_action("Card", channel="sms", description="No fee for a year")
    seen: list[Any] = []

    def write(_: Any) -> str:
        seen.append(decide(client, CUSTOMER)["candidates"][0])
        return json.dumps(GENERATED_TEXT)

    def write_once(body: Any) -> str:
        upstream.script = lambda _: json.dumps(GENERATED_TEXT)
        return write(body)

    upstream.script = write_once
    limit(client, {"channel": "sms", "contacts": 1, "days": 7})
    headers = {"Idempotency-Key": "once"}
    body = {"client": CUSTOMER, "reserve": True}
    first = client.post("/insights", json=body, headers=headers).json()
    assert (first["argument"], first["finish_reason"]) == (GENERATED_TEXT["argument"], "stop")
    # While the text was written, the contact was reserved already.
    assert [each["removed_by"] for each in seen] == ["contact_limit"]
    again = client.post("/insights", json=body, headers=headers).json()
    assert again == first
    assert client.get(f"/insights/{first['id']}").json() == first


@pytest.mark.row("LG-3", "LG-1")
def test_a_reservation_needs_a_customer(client: TestClient, create_action: ActionMaker) -> None:
    create_action("Card")
    for nameless in ({"age": 40}, "Likes to travel"):
        refused = client.post("/insights", json={"client": nameless, "reserve": True})
        assert refused.status_code == 400
        assert refused.json()["details"][0]["field"] == "body.client"


@pytest.mark.row("LG-3")
def test_of_a_hundred_simultaneous_decisions_under_a_limit_of_one_exactly_one_gets_the_contact(
    emulated: None, settings: Settings, issuer: Issuer
) -> None:
    resources = Resources(settings)
    client = TestClient(build_api(resources), headers={"Authorization": f"Bearer {issuer.token('alice')}"})
    client.headers["X-Space-Id"] = client.post("/spaces", json={"name": "One", "description": ""}).json()["id"]
    for name in ("Card", "Loan"):
        fields = {"description": "", "priority": "low", "type": "offer", "status": "active", "channel": "sms"}
        client.post("/actions", json={"name": name, **fields}).raise_for_status()
    limit(client, {"channel": "sms", "contacts": 1, "days": 7})

    def ask(_: int) -> str:
        insight = client.post("/insights", json={"client": CUSTOMER, "reserve": True}).json()
        return "reserved" if insight["reserved_until"] else str(insight["finish_reason"])

    with ThreadPoolExecutor(100) as pool:
        outcomes = Counter(pool.map(ask, range(100)))
    assert outcomes == {"reserved": 1, "no_eligible_action": 99}
    table: Table = resources.table
    space = client.headers["X-Space-Id"]
    stored = [item for item in table.query(f"insight#{space}") if item.get("action_id")]
    assert len(stored) == 1
