"""What is reported or happens while a run works counts until the run reserves."""

from datetime import timedelta
from typing import Any

import pytest

from tests.fixtures.clocks import MovableClock
from tests.functional.decision_runs.conftest import Runs, table

pytestmark = pytest.mark.row("BD-2")


@pytest.fixture
def started(runs: Runs, clock: MovableClock) -> dict[str, Any]:
    """Returns a run that began a minute ago, with a limit of one mail in a week."""
    limit = {"channel": "email", "contacts": 1, "days": 7}
    runs.client.put("/insights/policy", json={"contact_limits": [limit]}).raise_for_status()
    runs.action("Card", channel="email")
    runs.upload("a.parquet", table(10))
    run = runs.start()
    clock.now += timedelta(minutes=1)
    return run


def report(runs: Runs, key: str, clock: MovableClock, days: float, **fields: Any) -> None:
    happened = (clock.now - timedelta(days=days)).isoformat()
    body = {"client_key": key, "channel": "email", "status": "sent", "occurred_at": happened, **fields}
    runs.client.post("/contacts", json=body).raise_for_status()


def without_offer(runs: Runs) -> dict[str, str]:
    return {row["client_key"]: row["reason"] for row in runs.offers().to_dicts() if row["action_id"] is None}


def test_a_contact_of_before_the_run_that_is_reported_while_it_works_counts(
    runs: Runs, started: dict[str, Any], clock: MovableClock
) -> None:
    report(runs, "2", clock, days=1)
    runs.decide(started)
    report(runs, "3", clock, days=1)
    # These forbid nothing: it is too long ago, or on another channel.
    report(runs, "4", clock, days=8)
    report(runs, "5", clock, days=1, channel="sms")

    runs.finish(started)

    assert without_offer(runs) == {"2": "no_eligible_action", "3": "contacted_since"}
    assert runs.summary(started)["reserved"] == 8


def test_a_customer_who_was_contacted_after_the_moment_gets_no_offer_whenever_that_is_seen(
    runs: Runs, started: dict[str, Any], clock: MovableClock
) -> None:
    report(runs, "2", clock, days=0, channel="sms")
    runs.decide(started)
    report(runs, "3", clock, days=0, channel="sms")

    runs.finish(started)

    assert without_offer(runs) == {"2": "contacted_since", "3": "contacted_since"}


def test_a_row_is_reported_as_a_contact(runs: Runs) -> None:
    action = runs.action("Card", channel="email")
    runs.upload("a.parquet", table(10))
    runs.done()
    row = runs.offers().row(0, named=True)

    sent = {name: row[name] for name in ("client_key", "contact_id", "action_id")}
    for status in ("sent", "seen"):
        runs.client.post("/contacts", json={**sent, "status": status}).raise_for_status()
    events = runs.client.get(f"/clients/{row['client_key']}").json()["data"]
    assert [(each["id"], each["status"], each["action_id"]) for each in events] == [(row["contact_id"], "seen", action)]
