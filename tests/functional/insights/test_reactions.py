"""Tests of reactions: their counters, their effect on later offers and their export for trainings."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from functions.insights.reactions import ReactionService
from shared.clock import new_id, utc_now
from shared.dynamodb.table import Table
from shared.insights.store import first_id
from shared.models.insight import Reaction, ReactionCreate
from shared.resources import Resources
from shared.spaces.members import SpaceContext
from tests.fixtures.clocks import Meanwhile, MovableClock
from tests.fixtures.evaluations import add_member, add_model
from tests.fixtures.trained_models import packed, train_model
from tests.functional.conftest import ClientMaker

CLIENT = {"customer_id": 7, "age": 40, "city": "Lyon", "active": True, "joined": "2021-05-01"}
ActionMaker = Callable[..., str]


def reaction_service(resources: Resources) -> ReactionService:
    storages, usages = resources.connector_storages, resources.storage_usages
    return ReactionService(resources.table, resources.insights, storages, usages, resources.clock)


@pytest.fixture
def create_action(client: TestClient) -> ActionMaker:
    """Returns a function that creates an active action and returns its id."""

    def make(name: str, **fields: Any) -> str:
        offer = {"name": name, "description": "", "priority": "medium", "type": "offer", "status": "active", **fields}
        return str(client.post("/actions", json=offer).json()["id"])

    return make


def decide(client: TestClient, given: Any = CLIENT, **fields: Any) -> Any:
    response = client.post("/insights", json={"client": given, **fields})
    assert response.status_code == 200, response.text
    return response.json()


def react(client: TestClient, insight: Any, reaction: str, **fields: Any) -> Any:
    response = client.post(f"/insights/{insight['id']}/reactions", json={"reaction": reaction, **fields})
    assert response.status_code == 201, response.text
    return response.json()


def acceptance_rate(client: TestClient, action_id: str) -> Any:
    (found,) = (
        each for each in client.get("/insights/acceptance-rates").json()["data"] if each["action_id"] == action_id
    )
    return found


def reaction_counts(client: TestClient, action_id: str) -> tuple[int, int, int]:
    found = acceptance_rate(client, action_id)
    assert found["offers"] == found["accepted"] + found["rejected"] + found["ignored"]
    return found["accepted"], found["rejected"], found["ignored"]


def move_clock(clock: MovableClock, **passed: float) -> None:
    clock.now = utc_now() + timedelta(**passed)


@pytest.mark.row("X-8")
def test_an_insight_has_one_reaction_and_a_change_updates_the_counters(
    client: TestClient, create_action: ActionMaker
) -> None:
    offer = create_action("Gold card", channel="email")
    insight = decide(client)
    first = react(client, insight, "rejected", comment="Too dear")
    assert first["insight_id"] == insight["id"]
    assert (first["action_id"], first["channel"], first["comment"]) == (offer, "email", "Too dear")
    assert reaction_counts(client, offer) == (0, 1, 0)
    again = react(client, insight, "rejected", comment="Too dear")
    assert again == first | {"updated_at": again["updated_at"]}
    assert reaction_counts(client, offer) == (0, 1, 0)
    changed = react(client, insight, "accepted", channel="phone")
    assert (changed["id"], changed["created_at"], changed["channel"]) == (first["id"], first["created_at"], "phone")
    assert reaction_counts(client, offer) == (1, 0, 0)
    assert client.get(f"/insights/{insight['id']}").json()["reaction"] == changed


@pytest.mark.row("X-8")
def test_concurrent_reactions_to_an_insight_are_counted_once(
    client: TestClient, resources: Resources, create_action: ActionMaker
) -> None:
    offer, insight = create_action("Gold card"), decide(client)
    context = SpaceContext(client.headers["X-Space-Id"], "somebody")
    accepted, rejected = (ReactionCreate(reaction=reaction) for reaction in (Reaction.ACCEPTED, Reaction.REJECTED))
    faster = reaction_service(resources)
    clock = Meanwhile(lambda: faster.react(context, insight["id"], accepted))
    reaction_service(Resources(resources.settings, clock)).react(context, insight["id"], rejected)
    assert reaction_counts(client, offer) == (0, 1, 0)
    assert client.get(f"/insights/{insight['id']}").json()["reaction"]["reaction"] == "rejected"


@pytest.mark.row("X-8")
@pytest.mark.parametrize(("reaction", "days"), [("rejected", 30), ("ignored", 7), ("accepted", 90)])
def test_an_offer_is_suppressed_for_some_days_after_a_reaction(
    client: TestClient, movable_clock: MovableClock, create_action: ActionMaker, reaction: str, days: int
) -> None:
    offer, other = create_action("Gold card", priority="high"), create_action("Loan")
    react(client, decide(client), reaction)
    for time, expected in (({"seconds": 1}, other), ({"days": days, "seconds": -60}, other), ({"days": days}, offer)):
        move_clock(movable_clock, **time)
        assert decide(client)["action_id"] == expected
    move_clock(movable_clock, seconds=1)
    (removed,) = (each for each in decide(client, actions=[offer])["candidates"])
    assert removed["removed_by"] == "suppressed"
    assert f"{reaction} it" in removed["reason"]
    assert f"{days} days" in removed["reason"]
    # Other clients still get the offer.
    assert decide(client, CLIENT | {"customer_id": 8})["action_id"] == offer


@pytest.mark.row("X-8")
def test_a_client_is_not_contacted_on_a_channel_more_often_than_the_policy_allows(
    client: TestClient, movable_clock: MovableClock, create_action: ActionMaker
) -> None:
    mails = [create_action(f"Offer {number}", channel="email") for number in range(3)]
    call = create_action("Call", channel="phone", priority="low")
    limit = {"channel": "email", "contacts": 2, "days": 10}
    assert client.put("/insights/policy", json={"contact_limits": [limit]}).status_code == 200
    for expected in mails[:2]:
        insight = decide(client)
        assert insight["action_id"] == expected
        react(client, insight, "ignored")
    insight = decide(client)
    assert insight["action_id"] == call
    reasons = {each["action_id"]: each for each in insight["candidates"]}
    assert reasons[mails[2]]["removed_by"] == "contact_limit"
    assert "2 contacts in 10 days on email" in reasons[mails[2]]["reason"]
    # An action without a channel gets a channel whose limit is not reached.
    anywhere = create_action("Anywhere", priority="very_high")
    assert (decide(client)["action_id"], decide(client)["best_channel"]) == (anywhere, "phone")
    assert decide(client, actions=[anywhere, mails[2]])["finish_reason"] == "no_eligible_action"
    move_clock(movable_clock, days=10)
    assert decide(client, actions=[mails[2]])["action_id"] == mails[2]


@pytest.mark.row("X-8")
def test_the_policy_has_defaults_and_only_the_owner_changes_it(
    client: TestClient, sign_in: ClientMaker, table: Table
) -> None:
    found = client.get("/insights/policy")
    rule = found.json()["client_key"]
    assert rule["fields"][:2] == ["client_key", "customer_id"]
    assert found.json() == {
        "client_key": rule,
        "contact_limits": [],
        "currency": None,
        "default_value": "1",
        "exempt": {"actions": [], "channels": [], "groups": []},
        "require_client_key": False,
        "reservation_minutes": 1440,
        "suppression_days": {"accepted": 90, "ignored": 7, "rejected": 30},
        "time_zone": "UTC",
        "updated_at": None,
        "updated_by": None,
        "weights": {"very_low": 0.5, "low": 0.75, "medium": 1.0, "high": 1.5, "very_high": 2.0},
        "weights_version": 0,
    }
    erin = sign_in("erin")
    add_member(table, erin, client.headers["X-Space-Id"], [])
    change = {"suppression_days": {"rejected": 0, "ignored": 1, "accepted": 2}}
    assert erin.get("/insights/policy").json() == found.json()
    refused = erin.put("/insights/policy", json=change)
    assert (refused.status_code, refused.json()["code"]) == (403, "permission_denied")
    changed = client.put("/insights/policy", json=change, headers={"If-Match": found.headers["ETag"]})
    assert changed.json()["suppression_days"] == change["suppression_days"]
    assert client.get("/insights/policy").json() == changed.json()
    late = client.put("/insights/policy", json=change, headers={"If-Match": found.headers["ETag"]})
    assert late.status_code == 412
    limits = [{"channel": "email", "contacts": 1, "days": 1}]
    both = client.put(
        "/insights/policy", json={"contact_limits": limits}, headers={"If-Match": changed.headers["ETag"]}
    )
    rest = {"action_id": None, "group": None, "period": "rolling"}
    assert both.json()["contact_limits"] == [limits[0] | rest]
    assert both.json()["suppression_days"] == change["suppression_days"]
    for bad in (
        {"suppression_days": {"rejected": -1}},
        {"contact_limits": [{"channel": "", "contacts": 1, "days": 1}]},
    ):
        assert client.put("/insights/policy", json=bad).status_code == 400


@pytest.mark.row("X-8")
def test_an_action_without_a_model_is_scored_by_its_acceptance_rate_which_has_an_interval(
    client: TestClient, create_action: ActionMaker
) -> None:
    loved, other = create_action("Loved"), create_action("Other", priority="high")
    assert acceptance_rate(client, loved)["rate"] is None
    for number in range(10):
        insight = decide(client, {"id": number}, actions=[loved])
        react(client, insight, "accepted" if number < 6 else "rejected")
    found = acceptance_rate(client, loved)
    assert (found["accepted"], found["rejected"], found["offers"], found["rate"]) == (6, 4, 10, 0.6)
    # These are the bounds of the Wilson interval for 6 successes in 10 trials.
    assert (found["low"], found["high"]) == (pytest.approx(0.3127, abs=1e-4), pytest.approx(0.8318, abs=1e-4))
    assert all(band["offers"] == 0 for band in found["score_bands"])
    insight = decide(client, {"id": 99})
    assert insight["action_id"] == loved
    assert insight["candidates"][0]["propensity"] == pytest.approx(7 / 30)
    assert insight["candidates"][1]["score"] == pytest.approx(1.5 / 20)
    assert insight["candidates"][1]["action_id"] == other


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_model(tmp_path_factory.mktemp("ml"), "lightgbm")


@pytest.mark.row("X-8")
def test_reactions_are_counted_in_the_score_band_of_their_propensity(
    client: TestClient, table: Table, model_folder: Path, create_action: ActionMaker
) -> None:
    model = add_model(table, client.headers["X-Space-Id"], packed(model_folder))
    offer = create_action("Gold card", model_id=model.id)
    insight = decide(client)
    propensity = insight["candidates"][0]["propensity"]
    react(client, insight, "rejected")
    react(client, insight, "accepted")
    bands = acceptance_rate(client, offer)["score_bands"]
    assert [(band["from_score"], band["to_score"]) for band in bands][-1] == (0.9, 1.0)
    (hit,) = (band for band in bands if band["offers"])
    assert hit["from_score"] <= propensity < hit["to_score"]
    assert (hit["accepted"], hit["offers"], hit["rate"]) == (1, 1, 1.0)


@pytest.mark.row("X-8")
def test_an_invalid_reaction_is_refused(client: TestClient) -> None:
    nothing = decide(client)
    assert nothing["finish_reason"] == "no_eligible_action"
    path = f"/insights/{nothing['id']}/reactions"
    refused = client.post(path, json={"reaction": "accepted"})
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert client.post(path, json={"reaction": "loved"}).status_code == 400
    assert client.post(f"/insights/{new_id()}/reactions", json={"reaction": "accepted"}).status_code == 404


def test_the_first_id_of_a_time_sorts_before_all_later_ids() -> None:
    before = utc_now()
    made = new_id()
    after = utc_now() + timedelta(milliseconds=2)
    assert first_id(before) <= made < first_id(after)
