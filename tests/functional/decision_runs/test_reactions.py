"""Customers react to what a run offered: this counts as a reaction to a single decision does."""

from typing import Any

import polars as pl
import pytest

from functions.workflows.decision_run.settling import Settling
from shared.models.insight import SCORE_BANDS
from tests.functional.decision_runs.conftest import Runs, table

ARMS = [{"name": "control", "percentage": 40, "control": True}, {"name": "usual", "percentage": 60}]


def react(runs: Runs, row: dict[str, Any], reaction: str = "accepted", **fields: Any) -> Any:
    body = {"client_key": row["client_key"], "reaction": reaction, **fields}
    return runs.client.post(f"/insights/{row['insight_id']}/reactions", json=body)


def recorded(runs: Runs, row: dict[str, Any], reaction: str = "accepted", **fields: Any) -> dict[str, Any]:
    response = react(runs, row, reaction, **fields)
    assert response.status_code == 201, response.text
    found: dict[str, Any] = response.json()
    return found


def refused(runs: Runs, row: dict[str, Any], status: int, **fields: Any) -> str:
    response = react(runs, row, **fields)
    assert response.status_code == status, response.text
    return str(response.json()["error"])


def rate(runs: Runs, action_id: str) -> dict[str, Any]:
    rates = runs.client.get("/insights/acceptance-rates").json()["data"]
    return next(each for each in rates if each["action_id"] == action_id)


def arms(runs: Runs) -> dict[str, tuple[int, int]]:
    found = runs.client.get("/insights/uplift").json()["arms"]
    return {each["arm"]: (each["customers"], each["conversions"]) for each in found}


@pytest.fixture
def action_id(runs: Runs) -> str:
    runs.upload("a.parquet", table(30))
    return runs.action("Gold", model_id=runs.checkpoint.id, channel="email")


@pytest.mark.row("BD-2")
def test_a_reaction_to_an_offer_of_a_run_counts_as_one_to_a_single_decision(runs: Runs, action_id: str) -> None:
    run = runs.done()
    row = runs.offers().row(0, named=True)
    assert row["insight_id"] == row["contact_id"]

    reaction = recorded(runs, row, comment="on the phone")

    assert (reaction["action_id"], reaction["channel"], reaction["insight_id"]) == (
        action_id,
        "email",
        row["insight_id"],
    )
    counted = rate(runs, action_id)
    assert (counted["offers"], counted["accepted"]) == (1, 1)
    band = counted["score_bands"][min(int(row["propensity"] * SCORE_BANDS), SCORE_BANDS - 1)]
    assert (band["offers"], band["accepted"]) == (1, 1)
    insight = runs.client.get(f"/insights/{row['insight_id']}").json()
    assert (insight["decision_run_id"], insight["client_key"], insight["action_id"]) == (run["id"], "1", action_id)
    assert insight["reaction"]["reaction"] == "accepted"
    lineage = runs.client.get(f"/insights/{row['insight_id']}/lineage").json()
    assert lineage["checkpoint_id"] == runs.checkpoint.id
    history = runs.client.get("/clients/1").json()["data"]
    assert {each["kind"] for each in history} == {"contact", "insight", "reaction"}
    assert [each["status"] for each in history if each["kind"] == "contact"] == ["seen"]
    again = runs.online(table(1).row(0, named=True))
    assert again["candidates"][0]["removed_by"] == "suppressed"


def test_a_later_reaction_to_an_offer_of_a_run_replaces_the_first(runs: Runs, action_id: str) -> None:
    runs.done()
    row = runs.offers().row(0, named=True)
    first = recorded(runs, {**row, "client_key": " 1.0"}, "ignored")
    second = recorded(runs, row, "accepted")
    # The insight is there by now.
    third = runs.client.post(f"/insights/{row['insight_id']}/reactions", json={"reaction": "rejected"}).json()
    assert first["id"] == second["id"] == third["id"]
    counted = rate(runs, action_id)
    assert (counted["offers"], counted["accepted"], counted["rejected"], counted["ignored"]) == (1, 0, 1, 0)


def test_only_the_customer_of_a_row_reacts_to_its_offer(runs: Runs, action_id: str) -> None:
    runs.done()
    row, other = runs.offers().head(2).iter_rows(named=True)
    assert "send the row's `client_key`" in str(
        runs.client.post(f"/insights/{row['insight_id']}/reactions", json={"reaction": "accepted"}).json()["error"]
    )
    stranger = {**row, "client_key": other["client_key"]}
    assert "no decision run made this customer its offer" in refused(runs, stranger, 404)
    assert "names no customer" in refused(runs, {**row, "client_key": "  "}, 400)
    recorded(runs, row)
    assert "is not the customer of this insight" in refused(runs, stranger, 400)
    assert rate(runs, action_id)["offers"] == 1


def test_another_space_cannot_react_to_an_offer_of_a_run(runs: Runs, action_id: str, other_client: Any) -> None:
    runs.done()
    row = runs.offers().row(0, named=True)
    body = {"client_key": row["client_key"], "reaction": "accepted"}
    assert other_client.post(f"/insights/{row['insight_id']}/reactions", json=body).status_code == 404
    assert rate(runs, action_id)["offers"] == 0


def test_a_key_is_found_by_the_rule_of_the_run_after_the_policy_has_changed(runs: Runs, action_id: str) -> None:
    runs.upload("a.parquet", table(1).with_columns(customer_id=pl.lit("C-1")))
    runs.done()
    row = runs.offers().row(0, named=True)
    rule = {"fields": ["customer_id"], "ignore_separators": True}
    runs.client.patch("/insights/policy", json={"client_key": rule}).raise_for_status()
    assert recorded(runs, {**row, "client_key": "C-1"})["action_id"] == action_id


def test_offers_of_a_cancelled_run_get_reactions_only_if_they_were_sent(runs: Runs, action_id: str) -> None:
    run = runs.done()
    sent, unsent = runs.offers().head(2).iter_rows(named=True)
    contact = {"status": "sent", **{name: sent[name] for name in ("client_key", "contact_id", "action_id")}}
    runs.client.post("/contacts", json=contact).raise_for_status()
    assert runs.post(run, "cancel").status_code == 200
    assert "was cancelled" in refused(runs, unsent, 409)
    assert recorded(runs, sent)["action_id"] == action_id


def test_an_erased_customer_cannot_react_to_what_a_run_offered(runs: Runs, action_id: str) -> None:
    runs.done()
    first, second = runs.offers().head(2).iter_rows(named=True)
    recorded(runs, first)
    for row in (first, second):
        runs.client.delete(f"/clients/{row['client_key']}").raise_for_status()
        refused(runs, row, 404)
    assert runs.client.get("/clients/1").status_code == 404


@pytest.mark.row("BD-2")
def test_customers_of_a_run_count_once_in_their_arms_and_conversions_in_both(
    runs: Runs, action_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.client.put("/insights/experiments", json={"arms": ARMS, "salt": "s"}).raise_for_status()
    # One of them was counted before.
    runs.online(table(1).row(0, named=True))
    run = runs.start()
    runs.decide(run)
    end = Settling.expose

    def die(*given: Any) -> None:
        end(*given)
        raise OSError("gone")

    with monkeypatch.context() as dying:
        dying.setattr(Settling, "expose", die)
        with pytest.raises(OSError, match="gone"):
            runs.finish(run)
    assert runs.finish(run)["status"] == "succeeded"
    rows = runs.offers()
    control, usual = (rows.filter(pl.col("arm") == name) for name in ("control", "usual"))
    assert control.height > 3
    assert usual.height > 3
    assert control["contact_id"].null_count() == control.height
    assert arms(runs) == {"control": (control.height, 0), "usual": (usual.height, 0)}

    recorded(runs, usual.row(0, named=True))
    recorded(runs, control.row(0, named=True))
    recorded(runs, control.row(1, named=True))
    recorded(runs, control.row(1, named=True), "rejected")

    assert arms(runs) == {"control": (control.height, 1), "usual": (usual.height, 1)}
    # What the control arm withheld is no offer of the action.
    assert rate(runs, action_id)["offers"] == 1
    withheld = runs.client.get(f"/insights/{control['insight_id'][0]}").json()
    assert (withheld["withheld_action_id"], withheld["finish_reason"]) == (action_id, "control")


def test_a_dry_run_and_a_failed_run_count_nobody_in_the_experiment(
    runs: Runs, action_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.client.put("/insights/experiments", json={"arms": ARMS, "salt": "s"}).raise_for_status()
    runs.done(dry_run=True)
    assert arms(runs) == {"control": (0, 0), "usual": (0, 0)}
    limit = {"action_id": action_id, "minimum": 31}
    assert runs.work(runs.start(limits=[limit]))["status"] == "failed"
    assert arms(runs) == {"control": (0, 0), "usual": (0, 0)}
