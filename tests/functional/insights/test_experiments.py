"""Tests of experiments: arms decide, the control arm holds offers back, and conversions count once for a customer."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient

from shared.clock import new_id
from shared.dynamodb.table import Table
from shared.insights.ledger import ledger_partition
from shared.models.checkpoint import Checkpoint
from shared.models.client_key import ClientName
from tests.fixtures.evaluations import add_model
from tests.fixtures.trained_models import packed
from tests.functional.insights.helpers import CLIENT, ActionMaker, decide
from tests.functional.insights.test_reactions import react

HALVES: list[dict[str, Any]] = [
    {"name": "control", "percentage": 50, "control": True},
    {"name": "offer", "percentage": "50"},
]


def run(client: TestClient, *arms: dict[str, Any], **fields: Any) -> Any:
    replaced = client.put("/insights/experiments", json={"arms": arms, "salt": "s", **fields})
    assert replaced.status_code == 200, replaced.text
    return replaced.json()


def decisions(client: TestClient, customers: int, **fields: Any) -> list[Any]:
    return [decide(client, {"customer_id": each}, wording="none", **fields) for each in range(customers)]


def results(client: TestClient) -> dict[str, Any]:
    return {each["arm"]: each for each in client.get("/insights/uplift").json()["arms"]}


@pytest.mark.row("XP-1", "XP-2")
def test_the_control_arm_gets_no_offer_and_the_uplift_counts_each_customer_once(
    client: TestClient, create_action: ActionMaker
) -> None:
    action = create_action("Card")
    experiment = run(client, *HALVES)
    first = decisions(client, 20)
    again = decisions(client, 20, actions=[action])
    assert [each["arm"] for each in first] == [each["arm"] for each in again]
    control = [each for each in first if each["arm"] == "control"]
    offered = [each for each in first if each["arm"] == "offer"]
    assert len(control) + len(offered) == 20
    assert min(len(control), len(offered)) > 3
    for each in control:
        assert (each["action_id"], each["finish_reason"]) == (None, "control")
        assert (each["withheld_action_id"], each["selection_probability"]) == (action, None)
        assert each["candidates"][0]["rank"] == 1
    assert {(each["action_id"], each["selection_probability"]) for each in offered} == {(action, 1.0)}
    assert {each["experiment_id"] for each in first} == {experiment["id"]}
    assert client.get(f"/insights/{control[0]['id']}").json()["arm"] == "control"

    for each in (*offered[:3], control[0]):
        react(client, each, "accepted")
    second = next(each for each in again if each["client_key"] == offered[0]["client_key"])
    react(client, second, "accepted")
    react(client, offered[2], "rejected")
    found = results(client)
    assert (found["offer"]["customers"], found["offer"]["conversions"]) == (len(offered), 2)
    assert (found["control"]["customers"], found["control"]["conversions"]) == (len(control), 1)
    assert found["offer"]["uplift"] == pytest.approx(2 / len(offered) - 1 / len(control))
    assert found["offer"]["uplift_low"] < found["offer"]["uplift"] < found["offer"]["uplift_high"]
    assert found["control"]["uplift"] is None
    uplift = client.get("/insights/uplift").json()
    assert (uplift["baseline"], uplift["experiment_id"]) == ("control", experiment["id"])
    assert uplift["sample_ratio"]["mismatch"] is False
    # What control customers did says nothing about the action, and is no contact.
    rates = client.get("/insights/acceptance-rates").json()["data"][0]
    assert (rates["accepted"], rates["offers"]) == (3, 4)
    assert decide(client, {"customer_id": control[0]["client_key"]}, wording="none")["withheld_action_id"] == action


@pytest.mark.row("XP-1")
def test_an_arm_may_have_another_policy_or_another_checkpoint(
    client: TestClient, table: Table, model: Checkpoint, model_folder: Any, create_action: ActionMaker
) -> None:
    other = add_model(table, client.headers["X-Space-Id"], packed(model_folder), name="Challenger")
    loan, card = create_action("Loan", priority="high"), create_action("Card", priority="low")
    scored = create_action("Scored", model_id=model.id)
    run(client, {"name": "low first", "percentage": 100, "policy": {"weights": {"low": 9, "high": 1}}})
    insight = decide(client, {"customer_id": 1, **CLIENT}, wording="none", actions=[loan, card])
    assert (insight["action_id"], insight["arbitration"]["weights"]["low"]) == (card, 9)
    assert client.get("/insights/policy").json()["weights"]["low"] == 0.75

    for replaces, used in ((None, other.id), (model.id, other.id), (other.id, model.id)):
        run(client, {"name": "challenger", "percentage": 100, "checkpoint": other.id, "replaces": replaces})
        (found,) = decide(client, {"customer_id": 1, **CLIENT}, wording="none", actions=[scored])["candidates"]
        assert found["checkpoint_id"] == used


@pytest.mark.row("XP-1")
def test_other_arms_begin_a_new_experiment_and_an_empty_list_ends_it(
    client: TestClient, create_action: ActionMaker
) -> None:
    create_action("Card")
    assert client.get("/insights/experiments").json()["arms"] == []
    assert client.get("/insights/uplift").json()["arms"] == []
    first = run(client, *HALVES)
    decisions(client, 3)
    same = run(client, *HALVES, explore=True)
    assert same["id"] == first["id"]
    assert sum(each["customers"] for each in results(client).values()) == 3
    assert run(client, *HALVES, salt="t")["id"] != first["id"]
    assert sum(each["customers"] for each in results(client).values()) == 0
    etag = client.get("/insights/experiments").headers["ETag"]
    run(client)
    stale = client.put("/insights/experiments", json={"arms": HALVES}, headers={"If-Match": etag})
    assert (stale.status_code, stale.json()["code"]) == (412, "precondition_failed")
    (insight,) = decisions(client, 1)
    assert (insight["arm"], insight["experiment_id"], insight["selection_probability"]) == (None, None, None)


def test_an_experiment_that_cannot_run_is_refused(client: TestClient) -> None:
    arm = {"name": "a", "percentage": 100}
    limit = {"contacts": 1, "days": 7, "group": new_id()}
    for arms, message in (
        ([arm | {"percentage": 99.5}], "add up to 100"),
        ([arm | {"percentage": 0}], "greater than 0"),
        ([arm | {"percentage": 50}] * 2, "same name"),
        ([arm | {"control": True, "checkpoint": "champion"}], "makes no offer"),
        ([arm | {"replaces": "champion"}], "name the checkpoint"),
        ([arm | {"checkpoint": "champion"}], "no such checkpoint"),
        ([arm | {"policy": {"contact_limits": [limit]}}], "no such action group"),
        ([arm | {"policy": {"time_zone": "UTC"}}], "time_zone"),
    ):
        refused = client.put("/insights/experiments", json={"arms": arms})
        assert refused.status_code == 400, arms
        assert message in refused.text, refused.text


@pytest.mark.row("XP-3")
def test_exploration_draws_for_actions_without_a_model_and_states_the_probability(
    client: TestClient, model: Checkpoint, create_action: ActionMaker
) -> None:
    new, scored = create_action("New"), create_action("Scored", model_id=model.id, priority="very_low")
    other = create_action("Other")
    run(client, explore=True)
    chosen = set()
    for _ in range(12):
        insight = decide(client, {"age": 40}, wording="none", actions=[new, other])
        chosen.add(insight["action_id"])
        # Both are equally unknown.
        assert insight["selection_probability"] == pytest.approx(0.5, abs=0.001)
        assert {each["score_source"] for each in insight["candidates"]} == {"exploration"}
    assert chosen == {new, other}
    sure = decide(client, {"customer_id": 1, **CLIENT}, wording="none", actions=[scored])
    assert (sure["candidates"][0]["score_source"], sure["selection_probability"]) == ("model", 1.0)


@pytest.mark.row("XP-1")
def test_simultaneous_first_decisions_count_a_customer_once(client: TestClient, create_action: ActionMaker) -> None:
    create_action("Card")
    run(client, {"name": "all", "percentage": 100})
    with ThreadPoolExecutor(8) as pool:
        made = pool.map(lambda _: decide(client, {"customer_id": 1}, wording="none"), range(8))
        assert {each["arm"] for each in made} == {"all"}
    assert results(client)["all"]["customers"] == 1


@pytest.mark.row("LG-5")
def test_an_erased_customer_leaves_no_trace_in_the_experiment(
    client: TestClient, table: Table, create_action: ActionMaker
) -> None:
    create_action("Card")
    run(client, {"name": "all", "percentage": 100})
    react(client, decide(client, {"customer_id": "customer-77"}, wording="none"), "accepted")
    space = client.headers["X-Space-Id"]
    partition = ledger_partition(space, ClientName("customer_id", "customer-77").digest)
    assert [item["arm"] for item in table.query(partition) if item["SK"].startswith("~arm#")] == ["all"]
    assert client.delete("/clients/customer-77").status_code == 200
    assert list(table.query(partition)) == []
    # The sums name nobody, so they stay.
    assert "customer-77" not in str(list(table.query(f"insight_experiment#{space}")))
    assert results(client)["all"]["conversions"] == 1
