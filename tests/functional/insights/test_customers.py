"""Tests of who is one customer, and of what the response says about it."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from functions import migration
from shared.clock import new_id, utc_now
from shared.dynamodb.table import Key, Table
from shared.models.base import format_timestamp
from shared.models.client_key import digest_of
from tests.functional.insights.helpers import ActionMaker, decide
from tests.functional.insights.test_reactions import react


def persona_of(client: TestClient, data: dict[str, Any] | None) -> str:
    body = {"name": "Ada", "birthdate": "1990-01-02", "notes": "", "data": data}
    return str(client.post("/personas", json=body).json()["id"])


def only_candidate(insight: Any) -> Any:
    (found,) = insight["candidates"]
    return found


@pytest.mark.row("LG-1", "X-8")
def test_a_rejected_offer_stays_away_under_every_spelling_of_the_customer(
    client: TestClient, create_action: ActionMaker
) -> None:
    offer = create_action("Gold card")
    react(client, decide(client, {"customer_id": 4, "age": 40}), "rejected")
    persona = persona_of(client, {"customerId": "4"})
    spellings = [{"customerId": 4}, {"customer_number": "4"}, {"id": 4.0, "age": 41}, {"id": 9, "customer_id": 4}]
    for given in (*spellings, persona):
        insight = decide(client, given, actions=[offer])
        assert only_candidate(insight)["removed_by"] == "suppressed", given
        assert insight["client_key"] == "4"
    assert decide(client, {"id": 4, "customer_id": 9}, actions=[offer])["action_id"] == offer


@pytest.mark.row("LG-1")
def test_the_response_says_which_key_was_used_or_that_there_was_none(
    client: TestClient, create_action: ActionMaker
) -> None:
    create_action("Gold card")
    named = decide(client, {"Client ID": "C-7", "age": 40})
    assert (named["client_key"], named["client_key_field"], named["client_key_note"]) == ("c-7", "Client ID", None)
    assert client.get(f"/insights/{named['id']}").json()["client_key"] == "c-7"
    persona = persona_of(client, None)
    alone = decide(client, persona)
    assert (alone["client_key"], alone["client_key_field"]) == (persona, "persona")
    for given in ({"age": 40}, "Likes to travel"):
        nameless = decide(client, given)
        assert (nameless["client_key"], nameless["client_key_field"]) == (None, None)
        assert "customer_id" in nameless["client_key_note"]


@pytest.mark.row("LG-1")
def test_a_policy_may_require_a_key_and_say_which_field_has_it(client: TestClient, create_action: ActionMaker) -> None:
    create_action("Gold card")
    change = {"client_key": {"fields": ["iban"], "ignore_separators": True}, "require_client_key": True}
    changed = client.put("/insights/policy", json=change).json()
    assert changed["client_key"] == {
        "fields": ["iban"],
        "ignore_case": True,
        "ignore_leading_zeros": False,
        "ignore_separators": True,
    }
    assert decide(client, {"IBAN": "DE89 3704"})["client_key"] == "de893704"
    for given in ({"customer_id": 4}, "Likes to travel"):
        refused = client.post("/insights", json={"client": given})
        assert refused.status_code == 400
        (detail,) = refused.json()["details"]
        assert detail["field"] == "body.client"
        assert "iban" in detail["message"]
    assert client.put("/insights/policy", json={"client_key": {"fields": []}}).status_code == 400


@pytest.mark.row("LG-1", "X-8")
def test_reactions_hold_after_the_rule_of_the_key_changes(client: TestClient, create_action: ActionMaker) -> None:
    offer = create_action("Gold card")
    react(client, decide(client, {"customer_id": "DE-1"}), "rejected")
    for separators in (True, False, True):
        client.put("/insights/policy", json={"client_key": {"ignore_separators": separators}}).raise_for_status()
        found = only_candidate(decide(client, {"customer_id": "DE-1"}, actions=[offer]))
        assert found["removed_by"] == "suppressed"


@pytest.mark.row("LG-1", "X-8")
@pytest.mark.parametrize("field", ["id", "client_id", "customer_id"])
def test_reactions_that_were_stored_before_the_policy_had_a_key_still_suppress(
    client: TestClient, table: Table, create_action: ActionMaker, field: str
) -> None:
    offer, space = create_action("Gold card"), client.headers["X-Space-Id"]
    persona = persona_of(client, {"age": 3})
    for key in (digest_of("object", "C-4"), persona):
        place = Key(f"insight_contact#{space}#{key}", new_id())
        values = {"action_id": offer, "reaction": "rejected", "created_at": format_timestamp(utc_now())}
        table.put_all([{**place.values, **values}])
    assert migration.main([table.name]) == 0
    for given in ({field: "C-4", "age": 40}, {"customerNumber": "C-4"}, persona):
        assert only_candidate(decide(client, given, actions=[offer]))["removed_by"] == "suppressed", given


@pytest.mark.row("LG-6")
def test_a_limit_on_a_channel_counts_all_its_spellings(client: TestClient, create_action: ActionMaker) -> None:
    first = create_action("First", channel="E-Mail", priority="high")
    second = create_action("Second", channel="Email")
    anywhere = create_action("Anywhere", priority="very_low")
    limit = {"channel": "email", "contacts": 1, "days": 7}
    client.put("/insights/policy", json={"contact_limits": [limit]}).raise_for_status()
    assert decide(client, {"id": 1}, actions=[anywhere, second, first])["action_id"] == first
    react(client, decide(client, {"id": 1}, actions=[first]), "ignored")
    insight = decide(client, {"id": 1}, actions=[first, second, anywhere])
    assert {each["removed_by"] for each in insight["candidates"]} == {"suppressed", "contact_limit"}
