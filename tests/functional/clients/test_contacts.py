"""Tests of reports about contacts, and of what limits make of them."""

from datetime import timedelta
from itertools import permutations
from typing import Any

import pytest
from fastapi.testclient import TestClient

from shared.clock import new_id
from shared.models.base import format_timestamp
from tests.fixtures.clocks import MovableClock
from tests.functional.insights.helpers import ActionMaker, decide
from tests.functional.insights.test_reactions import react


def report(client: TestClient, status: str, **fields: Any) -> Any:
    response = client.post("/contacts", json={"status": status, **fields})
    assert response.status_code == 201, response.text
    return response.json()


def limit(client: TestClient, *limits: dict[str, Any], **policy: Any) -> None:
    response = client.put("/insights/policy", json={"contact_limits": limits, **policy})
    assert response.status_code == 200, response.text


def may_be_offered(client: TestClient, action_id: str, **customer: Any) -> bool:
    found = decide(client, customer or {"customer_id": 7}, actions=[action_id])["candidates"]
    assert found[0]["removed_by"] in (None, "contact_limit")
    return found[0]["removed_by"] is None


def ago(clock: MovableClock, **passed: float) -> str:
    return format_timestamp(clock.now - timedelta(**passed))


@pytest.mark.row("LG-2")
def test_a_reported_contact_counts_by_the_time_at_which_it_happened(
    client: TestClient, clock: MovableClock, create_action: ActionMaker
) -> None:
    offer = create_action("Gold card", channel="sms")
    limit(client, {"channel": "SMS", "contacts": 1, "days": 7})
    report(client, "sent", client_key="7", action_id=offer, occurred_at=ago(clock, days=7))
    assert may_be_offered(client, offer)
    report(client, "sent", client_key=" 7 ", action_id=offer, occurred_at=ago(clock, days=6, hours=23))
    assert not may_be_offered(client, offer, customerNumber=7.0)
    assert may_be_offered(client, offer, customer_id=8)
    clock.now += timedelta(hours=1)
    assert may_be_offered(client, offer)


@pytest.mark.row("LG-2")
def test_reports_about_a_contact_may_arrive_in_any_order_and_several_times(
    client: TestClient, clock: MovableClock, create_action: ActionMaker
) -> None:
    offer = create_action("Gold card", channel="sms")
    history = [
        ("reserved", ago(clock, hours=3)),
        ("failed", ago(clock, hours=2)),
        ("sent", ago(clock, hours=1)),
        ("seen", ago(clock)),
    ]
    for number, order in enumerate(permutations(history)):
        for status, moment in (*order, order[0]):
            fields = {"client_key": "7", "action_id": offer, "contact_id": f"m-{number}"}
            found = report(client, status, occurred_at=moment, **fields)
        assert (found["status"], found["occurred_at"]) == ("seen", history[2][1])


@pytest.mark.row("LG-2")
def test_the_same_report_without_an_id_is_one_contact(
    client: TestClient, clock: MovableClock, create_action: ActionMaker
) -> None:
    offer = create_action("Gold card", channel="sms")
    limit(client, {"contacts": 2, "days": 7})
    fields = {"client_key": "7", "action_id": offer, "occurred_at": ago(clock, hours=1)}
    first, again = (report(client, "sent", **fields) for _ in range(2))
    assert again == first
    assert may_be_offered(client, offer)
    report(client, "sent", **{**fields, "occurred_at": ago(clock, hours=2)})
    assert not may_be_offered(client, offer)


@pytest.mark.row("LG-4")
def test_limits_hold_over_all_channels_by_action_and_by_group(
    client: TestClient, clock: MovableClock, create_action: ActionMaker
) -> None:
    group = client.post("/action-groups", json={"name": "Cards", "description": ""}).json()["id"]
    card = create_action("Card", channel="sms", group=group)
    other = create_action("Other card", channel="email", group=group)
    loan = create_action("Loan", channel="letter")
    report(client, "sent", client_key="7", action_id=card, occurred_at=ago(clock, hours=1))
    for fields, allowed in (
        ({}, (False, False, False)),
        ({"channel": "sms"}, (False, True, True)),
        ({"action_id": card}, (False, True, True)),
        ({"group": group}, (False, False, True)),
        ({"group": group, "channel": "email"}, (True, True, True)),
    ):
        limit(client, {"contacts": 1, "days": 7, **fields})
        assert tuple(may_be_offered(client, action) for action in (card, other, loan)) == allowed, fields
    limit(client, {"contacts": 1, "days": 7}, exempt={"groups": [group]})
    assert all(may_be_offered(client, action) for action in (card, other, loan))


@pytest.mark.row("LG-4")
def test_calendar_days_begin_at_midnight_in_the_time_zone_of_the_space(
    client: TestClient, clock: MovableClock, create_action: ActionMaker
) -> None:
    offer = create_action("Gold card", channel="sms")
    # One in the morning of the day after the clocks went forward in Berlin.
    clock.now = clock.now.replace(year=2026, month=3, day=29, hour=23, minute=0)
    report(client, "sent", client_key="7", action_id=offer, occurred_at=ago(clock, hours=2))
    for zone, allowed in (("Europe/Berlin", True), ("America/New_York", False), ("UTC", False)):
        limit(client, {"contacts": 1, "days": 1, "period": "calendar"}, time_zone=zone)
        assert may_be_offered(client, offer) is allowed, zone
    for unknown in ("Europe/Berlino", "../etc/passwd", ""):
        assert client.put("/insights/policy", json={"time_zone": unknown}).status_code == 400


@pytest.mark.row("LG-2", "X-8")
def test_a_reaction_counts_when_it_happened_and_a_contact_that_was_sent_counts_once(
    client: TestClient, clock: MovableClock, create_action: ActionMaker
) -> None:
    offer, other = create_action("Gold card", channel="sms"), create_action("Loan", channel="sms", priority="low")
    limit(client, {"channel": "sms", "contacts": 2, "days": 7})
    insight = decide(client, {"customer_id": 7}, actions=[offer])
    sent = report(client, "sent", insight_id=insight["id"], occurred_at=ago(clock, days=3))
    assert (sent["contact_id"], sent["action_id"], sent["channel"]) == (insight["id"], offer, "sms")
    found = react(client, insight, "rejected", occurred_at=ago(clock, days=29))
    assert found["occurred_at"] == ago(clock, days=29)
    assert may_be_offered(client, other)
    refused = decide(client, {"customer_id": 7}, actions=[offer])["candidates"][0]
    assert refused["removed_by"] == "suppressed"
    clock.now += timedelta(days=1)
    assert may_be_offered(client, offer)
    # A later reaction replaces the first one, also its time.
    react(client, insight, "rejected", occurred_at=ago(clock, days=1))
    assert decide(client, {"customer_id": 7}, actions=[offer])["candidates"][0]["removed_by"] == "suppressed"


@pytest.mark.row("LG-2")
def test_an_invalid_report_is_refused(
    client: TestClient, other_client: TestClient, clock: MovableClock, create_action: ActionMaker
) -> None:
    offer = create_action("Gold card")
    insight = decide(client, {"customer_id": 7})["id"]
    for who, fields, where in (
        (client, {}, "body"),
        (client, {"client_key": "7", "insight_id": insight}, "body"),
        (client, {"client_key": "7", "action_id": new_id()}, "body.action_id"),
        (client, {"client_key": "\x07"}, "body.client_key"),
        (client, {"client_key": "7", "occurred_at": ago(clock, hours=-1)}, "body.occurred_at"),
        (client, {"insight_id": new_id()}, "body.insight_id"),
        (client, {"insight_id": insight, "action_id": new_id()}, "body.action_id"),
        (other_client, {"insight_id": insight}, "body.insight_id"),
        (other_client, {"client_key": "7", "action_id": offer}, "body.action_id"),
    ):
        refused = who.post("/contacts", json={"status": "sent", **fields})
        assert refused.status_code == 400, fields
        assert refused.json()["details"][0]["field"] == where
    report(client, "sent", client_key="7", contact_id="m", channel="sms")
    for fields in ({"channel": "email"}, {"channel": "sms", "action_id": offer}):
        response = client.post("/contacts", json={"status": "seen", "client_key": "7", "contact_id": "m", **fields})
        assert response.status_code == (409 if fields["channel"] == "email" else 201)
    future = client.post(f"/insights/{insight}/reactions", json={"reaction": "accepted", "occurred_at": "2999-01-01"})
    assert (future.status_code, future.json()["details"][0]["field"]) == (400, "body.occurred_at")
