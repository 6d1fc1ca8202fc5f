"""Decision runs decide as single requests do, and what they reserve counts until it is released."""

import json
from datetime import timedelta
from typing import Any
from unittest.mock import Mock

import polars as pl
import pytest

from shared.runs.publishing import Publisher
from tests.fixtures.audit import Stream, deliver, watch_table
from tests.fixtures.clocks import MovableClock
from tests.functional.decision_runs.conftest import PartSize, Runs, table


def furnish(runs: Runs) -> list[str]:
    """Makes actions with and without a model, conditions and channels."""
    runs.client.put("/insights/policy", json={"currency": "EUR", "default_value": "3"}).raise_for_status()
    value = {"amount": "12.5", "currency": "EUR"}
    return [
        runs.action("Card", model_id=runs.checkpoint.id, channel="email", value=value),
        runs.action("Loan", conditions=["client.age >= 50"], channel="phone", priority="very_high"),
        runs.action("Savings", conditions=['client.city == "Lyon"'], priority="high"),
    ]


def expected(insight: dict[str, Any]) -> dict[str, Any]:
    best: dict[str, Any] = next((each for each in insight["candidates"] if each["rank"] == 1), {})
    return {
        "action_id": insight["action_id"],
        "channel": insight["best_channel"] or None,
        "score": best.get("score"),
        "propensity": best.get("propensity"),
        "checkpoint_id": best.get("checkpoint_id"),
    }


@pytest.mark.row("BD-2")
def test_each_row_of_a_run_gets_the_decision_of_a_request(runs: Runs, part_size: PartSize) -> None:
    part_size(40, 15)
    furnish(runs)
    runs.client.put(
        "/insights/policy", json={"contact_limits": [{"channel": "email", "contacts": 1, "days": 7}]}
    ).raise_for_status()
    rows = table(100)
    for number in (3, 50, 99):
        report = {"client_key": str(number), "channel": "email", "status": "sent"}
        runs.client.post("/contacts", json=report).raise_for_status()
    runs.upload("all.parquet", rows)
    online = [expected(runs.online(row)) for row in rows.to_dicts()]

    run = runs.done()

    found = runs.offers()
    assert found["client_key"].to_list() == [str(number) for number in range(1, 101)]
    assert found.select(*online[0]).to_dicts() == online
    assert len(set(found["action_id"])) > 2
    summary = runs.summary(run)
    assert (summary["customers"], summary["reserved"]) == (100, found["action_id"].count())
    assert sum(each["offers"] for each in summary["offers_by_action"]) == summary["offers"] == summary["reserved"]
    assert summary["score"] == pytest.approx(found["score"].sum())
    assert {each["rule"] for each in summary["removals"]} == {"condition", "contact_limit"}
    assert (run["progress"]["rows_written"], run["progress"]["rows_refused"]) == (100, 0)


@pytest.mark.row("BD-2")
def test_reserved_contacts_count_until_the_run_is_cancelled(runs: Runs, clock: MovableClock) -> None:
    runs.client.put("/insights/policy", json={"contact_limits": [{"contacts": 1, "days": 7}]}).raise_for_status()
    action = runs.action("Card", channel="email")
    rows = table(10)
    runs.upload("all.parquet", rows)
    run = runs.done()
    contacts = runs.offers()["contact_id"].to_list()
    customer = rows.row(0, named=True)
    clock.now += timedelta(minutes=1)
    assert runs.online(customer)["candidates"][0]["removed_by"] == "contact_limit"
    sent = {"client_key": "2", "contact_id": contacts[1], "status": "sent", "action_id": action}
    runs.client.post("/contacts", json=sent).raise_for_status()

    cancelled = runs.post(run, "cancel")

    assert cancelled.status_code == 200, cancelled.text
    assert cancelled.json()["cancelled_at"] is not None
    assert runs.online(customer)["action_id"] == action
    events = runs.client.get("/clients/1").json()["data"]
    assert [each["released_at"] for each in events if each["kind"] == "contact"] == [cancelled.json()["cancelled_at"]]
    # What was sent before stays a contact.
    assert runs.online(rows.row(1, named=True))["action_id"] is None
    assert runs.post(run, "cancel").json()["cancelled_at"] == cancelled.json()["cancelled_at"]


@pytest.mark.row("BD-2")
def test_the_first_row_of_a_customer_counts_and_the_others_are_reported(runs: Runs, part_size: PartSize) -> None:
    part_size(4, 3)
    runs.action("Card", conditions=["client.age > 0"])
    rows = table(10).with_columns(age=pl.lit(30.0))
    again = rows.head(3).with_columns(age=pl.lit(-1.0))
    runs.upload("a.parquet", pl.concat([rows, again]))
    runs.upload("b.parquet", rows.tail(1))

    summary = runs.summary(runs.done())

    assert (summary["customers"], summary["duplicates"], summary["offers"]) == (10, 4, 10)
    assert summary["duplicate_rows"][0] == {"file": "a.parquet", "row": 11, "first_file": "a.parquet", "first_row": 1}
    assert summary["duplicate_rows"][3] == {"file": "b.parquet", "row": 1, "first_file": "a.parquet", "first_row": 10}
    assert runs.offers()["client_key"].to_list() == [str(number) for number in range(1, 11)]


@pytest.mark.row("BD-2")
def test_rows_that_no_request_could_be_about_are_refused_and_the_rest_goes_on(runs: Runs) -> None:
    runs.action("Card")
    rows = table(20).with_columns(customer_id=pl.when(pl.int_range(20) == 4).then(None).otherwise(pl.int_range(20)))
    runs.upload("a.parquet", rows)
    run = runs.done(max_refused_share=0.1)
    assert run["progress"]["refused"] == {"no field of the policy's client_key names the customer": 1}
    assert run["progress"]["refused_rows"][0]["line"] == 5
    assert runs.offers().height == 19


@pytest.mark.row("BD-2")
def test_a_step_that_is_repeated_reserves_once_and_a_contact_in_between_wins(
    runs: Runs, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.action("Card", channel="email")
    runs.upload("a.parquet", table(10))
    run = runs.start()
    runs.decide(run)
    clock.now += timedelta(minutes=1)
    runs.client.post("/contacts", json={"client_key": "7", "channel": "sms", "status": "sent"}).raise_for_status()

    # The step ends after it has reserved, and before it publishes.
    with monkeypatch.context() as broken:
        broken.setattr(Publisher, "publish", Mock(side_effect=OSError("gone")))
        with pytest.raises(OSError, match="gone"):
            runs.finish(run)
    clock.now += timedelta(minutes=1)
    runs.finish(run)

    found = {row["client_key"]: row for row in runs.offers().to_dicts()}
    assert (found["7"]["reason"], found["7"]["action_id"], found["7"]["contact_id"]) == ("contacted_since", None, None)
    summary = runs.summary(run)
    assert (summary["without_offer"], summary["reserved"]) == ({"contacted_since": 1}, 9)
    events = runs.client.get("/clients/1").json()["data"]
    assert [(each["kind"], each["status"]) for each in events] == [("contact", "reserved")]


@pytest.mark.row("BD-2")
def test_a_run_that_fails_leaves_no_contact_reserved_and_a_restart_reserves_again(runs: Runs) -> None:
    runs.client.put("/insights/policy", json={"contact_limits": [{"contacts": 1, "days": 7}]}).raise_for_status()
    action = runs.action("Card", channel="email")
    rows = table(10)
    runs.upload("a.parquet", rows)
    run = runs.start()
    runs.decide(run)
    runs.lab.put(runs.target, "offers/in-the-way.txt", b"x")
    failed = runs.finish(run)
    assert (failed["status"], "in-the-way.txt" in failed["error"]) == ("failed", True)
    assert runs.online(rows.row(0, named=True))["action_id"] == action

    runs.lab.remove(runs.target, "offers/in-the-way.txt")
    restarted = runs.post(run, "restart").json()
    ended = runs.work(restarted)

    assert ended["status"] == "succeeded", ended["error"]
    assert runs.offers()["contact_id"].n_unique() == 10
    assert runs.online(rows.row(0, named=True))["action_id"] is None


@pytest.mark.row("BD-2")
def test_words_on_the_offer_are_those_of_a_request(runs: Runs) -> None:
    runs.action("Card", model_id=runs.checkpoint.id, channel="email", channel_template="Hi: {{ argument }}")
    rows = table(5)
    runs.upload("a.parquet", rows)
    online = [runs.online(row, wording="offer") for row in rows.to_dicts()]
    runs.done(wording="offer")
    wanted = ("insight", "argument", "argument_content")
    assert runs.offers().select(wanted).to_dicts() == [{name: each[name] for name in wanted} for each in online]


def test_the_manifest_names_the_columns_of_the_files(runs: Runs) -> None:
    runs.action("Card")
    runs.upload("a.parquet", table(5))
    runs.done()
    key = f"spaces/{runs.lab.space_id}/connectors/{runs.target}/offers/_manifest.json"
    manifest = json.loads(runs.lab.s3.get_object(Bucket="data", Key=key)["Body"].read())
    names = {"double": pl.Float64(), "string": pl.String()}
    assert {name: names[kind] for name, kind in manifest["columns"].items()} == runs.offers().schema


@pytest.mark.row("X-14")
def test_the_audit_log_names_who_started_and_stopped_a_run(runs: Runs) -> None:
    watch_table()
    stream = Stream()
    furnish(runs)
    runs.upload("a.parquet", table(30))
    run = runs.start()
    runs.client.post(f"/decision-runs/{run['id']}/stop").raise_for_status()
    deliver(runs.lab.resources, stream.read())

    rows = runs.client.get("/audit-logs", params={"entity": "decision_run", "limit": 100}).json()["data"]
    assert {(row["actor"], row["entity_id"]) for row in rows} == {(runs.client.get("/me").json()["id"], run["id"])}
    assert sorted(row["action"] for row in rows)[:2] == ["created", "updated"]
