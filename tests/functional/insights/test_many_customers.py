"""Decides for generated customers together, and compares each decision with the response for that customer alone."""

import random
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import boto3
import pytest
from fastapi.testclient import TestClient

from shared.checkpoints.aliases import CheckpointAliases
from shared.decisions.customers import CustomerDecider, Decided
from shared.decisions.moments import Moments
from shared.decisions.scoring import PropensityScorer
from shared.dynamodb.table import Table
from shared.models.checkpoint import Checkpoint
from shared.models.insight import Client
from shared.propensity.checkpoints import Scorer
from shared.propensity.scorers import Scorers
from shared.resources import Resources
from tests.fixtures.clocks import MovableClock
from tests.fixtures.evaluations import add_model
from tests.fixtures.trained_models import customers, packed, train_model
from tests.functional.insights.helpers import ActionMaker, decide

CUSTOMERS = 40
CITIES = ("Lyon", "Paris", "Nice", "Brest", "", None, 3)
CONDITIONS = (
    "client.age >= 30",
    'client.city == "Lyon" || client.city == "Paris"',
    "has(client.active) && client.active",
    "client.unknown > 3",
    'now > timestamp("2020-01-01T00:00:00Z")',
)
CHANNELS = ("email", "E-Mail", "sms", "phone", None, None)


def policy(dice: random.Random, actions: list[str]) -> dict[str, Any]:
    limits = [{"contacts": dice.randint(0, 3), "days": dice.randint(1, 20), "channel": "email"}]
    limits += [{"contacts": dice.randint(1, 4), "days": 9, "action_id": dice.choice(actions)}]
    limits += [{"contacts": 1, "days": dice.randint(5, 15), "period": "calendar"}]
    return {
        "contact_limits": limits,
        "currency": "EUR",
        "default_value": str(Decimal(dice.randint(1, 400)) / 100),
        "exempt": {"actions": actions[:1]},
        "suppression_days": {"accepted": 60, "ignored": dice.randint(0, 9), "rejected": 20},
        "time_zone": "Europe/Paris",
        "weights": {"high": dice.randint(1, 9)},
    }


def offer(dice: random.Random, models: list[str | None], groups: list[str]) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "channel": dice.choice(CHANNELS),
        "conditions": dice.sample(CONDITIONS, dice.choice((0, 0, 1, 2))),
        "model_id": dice.choice(models),
        "priority": dice.choice(("low", "medium", "high")),
        "group": dice.choice((*groups, None)),
    }
    if dice.random() < 0.7:
        fields["value"] = {"amount": f"{dice.uniform(0, 90):.2f}", "currency": "EUR"}
    return {name: value for name, value in fields.items() if value is not None}


def customer(dice: random.Random, number: int) -> dict[str, Any]:
    row: dict[str, Any] = {
        "age": dice.choice((dice.uniform(18, 90), dice.randint(18, 90), str(dice.randint(18, 90)), None, "old")),
        "city": dice.choice(CITIES),
        "active": dice.choice((True, False, "true", None)),
        "joined": dice.choice(("2021-05-01", "2023-11-30", None, "soon")),
        "customer_id": f"C-{number}" if dice.random() < 0.9 else None,
    }
    if dice.random() < 0.1:
        row["city"] = ["Lyon"]
    if dice.random() < 0.1:
        del row[dice.choice(("age", "city"))]
    return row


def contact(client: TestClient, clock: MovableClock, dice: random.Random, number: int, actions: list[str]) -> None:
    """Reports what happened to a customer in the last days."""
    now = clock.now
    for _ in range(dice.choice((0, 0, 1, 3))):
        clock.now = now - timedelta(hours=dice.randint(1, 500))
        report = {
            "client_key": f"c-{number}",
            "action_id": dice.choice(actions),
            "status": dice.choice(("sent", "seen")),
        }
        client.post("/contacts", json=report).raise_for_status()
    if dice.random() < 0.4:
        clock.now = now - timedelta(hours=dice.randint(1, 400))
        made = decide(client, {"customer_id": f"C-{number}"}, wording="none")
        reaction = {"reaction": dice.choice(("accepted", "rejected", "ignored"))}
        if made["action_id"] or made["withheld_action_id"]:
            client.post(f"/insights/{made['id']}/reactions", json=reaction).raise_for_status()
    clock.now = now


def experiment(dice: random.Random, models: list[str | None]) -> dict[str, Any]:
    limit = {"contacts": dice.randint(0, 2), "days": 30}
    arms = [
        {"name": "control", "percentage": 10, "control": True},
        {"name": "bold", "percentage": 40, "policy": {"contact_limits": [limit], "weights": {"low": 5}}},
        {"name": "other", "percentage": 20, "checkpoint": models[0]},
        {"name": "usual", "percentage": 30},
    ]
    return {"arms": arms, "salt": str(dice.random())}


def described(decided: Decided, row: int) -> dict[str, Any]:
    """Returns what the response for one customer says about the same."""
    rules, ranking = decided.rules, decided.ranking(row)
    arm = rules.arm
    is_control = arm is not None and arm.control
    best = decided.best[row]
    action = rules.actions[best] if best is not None else None
    removed = {
        each.id: (removal.rule.value, removal.condition, removal.reason)
        for each, removal in zip(rules.actions, decided.removals[row], strict=True)
        if removal
    }
    sources = decided.propensities_of(row)
    return {
        "action": action.id if action and not is_control else None,
        "withheld": action.id if action and is_control else None,
        "arm": arm.name if arm else None,
        "channel": next(iter(decided.engagements[row].usable_channels(action)), "")
        if action and not is_control
        else "",
        "ranking": [
            (each.action_id, each.score, each.propensity, each.weight, str(each.value), sources[each.action_id].note)
            for each in ranking
        ],
        "removed": removed,
        "version": rules.arbitration.version,
    }


def responded(insight: dict[str, Any]) -> dict[str, Any]:
    ranked = [each for each in insight["candidates"] if each["rank"]]
    removed = [each for each in insight["candidates"] if not each["rank"]]
    prefixes = ("Its propensity is its acceptance rate, because ", ".")

    def note(text: str | None) -> str | None:
        return text.removeprefix(prefixes[0]).removesuffix(prefixes[1]) if text else None

    return {
        "action": insight["action_id"],
        "withheld": insight["withheld_action_id"],
        "arm": insight["arm"],
        "channel": insight["best_channel"],
        "ranking": [
            (
                each["action_id"],
                each["score"],
                each["propensity"],
                each["weight"],
                str(each["value"]),
                note(each["note"]),
            )
            for each in ranked
        ],
        "removed": {each["action_id"]: (each["removed_by"], each["condition"], each["reason"]) for each in removed},
        "version": insight["arbitration"]["version"],
    }


@pytest.fixture(scope="module")
def other_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_model(tmp_path_factory.mktemp("other"), "auto")


@pytest.mark.row("BD-2")
@pytest.mark.parametrize("seed", range(3))
def test_customers_decided_together_get_what_each_would_get_alone(
    client: TestClient,
    resources: Resources,
    table: Table,
    clock: MovableClock,
    create_action: ActionMaker,
    model: Checkpoint,
    other_folder: Path,
    seed: int,
) -> None:
    dice, space = random.Random(seed), client.headers["X-Space-Id"]  # noqa: S311
    second = add_model(table, space, packed(other_folder), name="Loans")
    models: list[str | None] = [model.id, second.id, None, None]
    group = {"name": "g", "description": "", "conditions": ["client.age > 25"]}
    groups = [client.post("/action-groups", json={**group, "name": str(at)}).json()["id"] for at in range(2)]
    client.put("/insights/policy", json={"currency": "EUR"}).raise_for_status()
    actions = [create_action(f"Offer {at}", **offer(dice, models, groups)) for at in range(12)]
    create_action("Not yet", start_date="2099-01-01")
    client.put("/insights/policy", json=policy(dice, actions)).raise_for_status()
    for number in range(CUSTOMERS):
        contact(client, clock, dice, number, actions)
    if seed:
        client.put("/insights/experiments", json=experiment(dice, models)).raise_for_status()
    rows = [customer(dice, number) for number in range(CUSTOMERS)]

    scorer = PropensityScorer(CheckpointAliases(table, clock), boto3.client("s3"), Scorers(), resources.insights)
    moment = Moments(table, clock).read(space, [])
    clients = [Client.of(row, moment.policy.client_keys) for row in rows]
    together: dict[int, dict[str, Any]] = {}
    for decided in CustomerDecider(resources.insights.ledger, scorer).decide(space, moment, clients):
        together |= {place: described(decided, row) for row, place in enumerate(decided.places)}

    alone = [responded(decide(client, row, wording="none")) for row in rows]
    assert [together[place] for place in range(CUSTOMERS)] == alone
    rules = {rule for each in alone for rule, *_ in each["removed"].values()}
    assert rules > {"ineligible", "condition"}


@pytest.mark.row("BD-2")
def test_a_model_gives_a_customer_the_same_probability_alone_and_among_thousands(
    model_folder: Path, other_folder: Path
) -> None:
    rows = customers(3000, seed=9).to_dicts()
    for folder in (model_folder, other_folder):
        scorer = Scorer(folder)
        matrix = scorer.checkpoint.features.encode_rows(rows)
        together = scorer.probabilities(matrix).tolist()
        alone = [scorer.probabilities(scorer.checkpoint.features.encode_rows([row]))[0] for row in rows]
        assert together == alone
