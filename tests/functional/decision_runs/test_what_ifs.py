"""Dry runs leave no trace, change what a what-if asks, and compare; limits hold in what runs offer."""

from collections import Counter
from decimal import Decimal
from typing import Any

import boto3
import polars as pl
import pytest
from boto3.dynamodb.types import TypeDeserializer

from tests.fixtures.aws import BUCKET, LOGS_TABLE, TABLE
from tests.functional.decision_runs.conftest import PartSize, Runs, table

# What a run is made of, and what every request leaves.
OF_THE_RUN = ("decision_run#", "decision_run_part#", "job#", "object#")


def trace(runs: Runs) -> tuple[dict[Any, Any], dict[str, str]]:
    """Returns all items of both tables but those of the run, and all objects but its plan."""
    items: dict[Any, Any] = {}
    for name in (TABLE, LOGS_TABLE):
        for page in boto3.client("dynamodb").get_paginator("scan").paginate(TableName=name):
            for item in page["Items"]:
                read = {key: TypeDeserializer().deserialize(value) for key, value in item.items()}
                if not read.get("active_uses"):
                    # A connector that nothing uses any more.
                    read.pop("active_uses", None)
                if not read["PK"].startswith(OF_THE_RUN):
                    items[name, read["PK"], read["SK"]] = read
    objects = runs.lab.s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])
    plans = ("plan.json", "tasks.json")
    return items, {each["Key"]: each["ETag"] for each in objects if not each["Key"].endswith(plans)}


def furnish(runs: Runs) -> list[str]:
    runs.client.put("/insights/policy", json={"currency": "EUR"}).raise_for_status()
    value = {"amount": "10", "currency": "EUR"}
    return [
        runs.action("Card", model_id=runs.checkpoint.id, channel="email", value=value),
        runs.action("Loan", channel="phone", value={"amount": "60", "currency": "EUR"}),
        runs.action("Savings", conditions=["client.age > 40"], priority="low", value=value),
    ]


@pytest.mark.row("BD-3")
def test_a_dry_run_leaves_no_trace(runs: Runs, part_size: PartSize) -> None:
    part_size(30, 20)
    furnish(runs)
    arms = [{"name": "control", "percentage": 20, "control": True}, {"name": "usual", "percentage": 80}]
    runs.client.put("/insights/experiments", json={"arms": arms, "salt": "s"}).raise_for_status()
    runs.upload("all.parquet", table(80))
    # A space's first run makes the item with the places of its jobs.
    runs.done(dry_run=True)
    before = trace(runs)

    run = runs.done(dry_run=True)

    items, objects = trace(runs)
    assert {key: item for key, item in items.items() if before[0].get(key) != item} == {}
    assert (items.keys(), objects) == (before[0].keys(), before[1])
    summary = runs.summary(run)
    assert (summary["customers"], summary["reserved"]) == (80, 0)
    assert summary["offers"] + summary["without_offer"]["control"] == 80
    assert runs.client.get(f"/decision-runs/{run['id']}/files").json()["count"] == 0
    refused = runs.post(run, "cancel")
    assert (refused.status_code, "dry run" in refused.json()["error"]) == (409, True)


@pytest.mark.row("BD-3")
def test_a_what_if_decides_otherwise_and_says_what_changes(runs: Runs) -> None:
    card, loan, _savings = furnish(runs)
    runs.upload("all.parquet", table(80))
    usual = runs.done(dry_run=True)
    policy = {"weights": {"low": 100}, "suppression_days": {"accepted": 1}}
    worth = {"action_id": card, "value": {"amount": "11.5", "currency": "EUR"}}
    other = runs.done(
        dry_run=True, overrides={"policy": policy, "actions": [worth, {"action_id": loan, "status": "inactive"}]}
    )

    first, second = runs.summary(usual), runs.summary(other, compare_to=usual["id"])

    assert second["arbitration"]["weights"]["low"] == 100
    assert loan not in {each["action_id"] for each in second["offers_by_action"]}
    difference = second["difference"]
    assert difference["expected_value"] == pytest.approx(second["expected_value"] - first["expected_value"])
    assert difference["offers"] == second["offers"] - first["offers"]
    moved = {each["action_id"]: each["offers"] for each in difference["offers_by_action"]}
    counts = Counter({each["action_id"]: each["offers"] for each in first["offers_by_action"]})
    assert moved[loan] == -counts[loan] < 0
    assert sum(moved.values()) == difference["offers"]
    same = runs.summary(usual, compare_to=usual["id"])["difference"]
    assert {same["score"], same["offers"], same["expected_value"], *same["removals"].values()} == {0}
    # Nothing of the space has changed.
    assert runs.client.get("/insights/policy").json()["weights"]["low"] == 0.75


@pytest.mark.row("BD-4")
def test_offers_stay_within_capacities_and_reach_minimums(runs: Runs, part_size: PartSize) -> None:
    part_size(30, 20)
    card, loan, savings = furnish(runs)
    rows = table(80)
    runs.upload("all.parquet", rows)
    limits = [
        {"channel": "phone", "capacity": 25},
        {"action_id": card, "capacity": 20},
        {"action_id": savings, "minimum": 10},
    ]

    run = runs.done(limits=limits)

    found = runs.offers()
    offers = Counter(found["action_id"].drop_nulls().to_list())
    channels = Counter(found["channel"].drop_nulls().to_list())
    assert channels["phone"] <= 25
    assert offers[card] <= 20
    assert offers[savings] >= 10
    summary = runs.summary(run)
    quality = summary["allocation"]
    assert (quality["method"], quality["gap"] < 0.005) == ("exact", True)
    assert quality["score"] == pytest.approx(summary["score"]) == pytest.approx(found["score"].sum())
    assert [each["offers"] for each in quality["limits"]] == [channels["phone"], offers[card], offers[savings]]
    assert summary["without_offer"].get("limits", 0) == found.filter(pl.col("reason") == "limits").height
    # A row's score is that of a request for this action alone.
    for row, sent in zip(found.head(5).to_dicts(), rows.head(5).to_dicts(), strict=True):
        if row["action_id"]:
            (candidate,) = [
                each
                for each in runs.online(sent, actions=[card, loan, savings])["candidates"]
                if each["action_id"] == row["action_id"]
            ]
            reserved = candidate["removed_by"] == "contact_limit"
            assert reserved or candidate["score"] == row["score"]


@pytest.mark.row("BD-4")
def test_a_minimum_that_nobody_may_get_ends_the_run_without_reservations(runs: Runs) -> None:
    *_, savings = furnish(runs)
    runs.upload("all.parquet", table(20).with_columns(age=pl.lit(20.0)))
    run = runs.work(runs.start(limits=[{"action_id": savings, "minimum": 1}]))
    assert (run["status"], "only 0 customers may get it" in run["error"]) == ("failed", True)
    assert runs.client.get("/clients/1").status_code == 404
    assert runs.client.get(f"/decision-runs/{run['id']}/summary").status_code == 409


@pytest.mark.row("BD-4")
def test_limits_that_do_not_bind_change_nothing(runs: Runs) -> None:
    card, *_ = furnish(runs)
    runs.upload("all.parquet", table(40))
    runs.done()
    usual = runs.offers()
    runs.post(runs.client.get("/decision-runs").json()["data"][0], "cancel").raise_for_status()
    run = runs.done(
        limits=[{"action_id": card, "capacity": 40}], output={"connector_id": runs.target, "folder": "limited"}
    )
    columns = ("client_key", "action_id", "channel", "score", "propensity", "score_source", "checkpoint_id")
    assert runs.offers("limited").select(columns).equals(usual.select(columns))
    assert runs.summary(run)["allocation"]["method"] == "none"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"dry_run": True, "output": {"connector_id": "x"}}, "output is not for a dry run"),
        ({"output": None}, "output is missing"),
        ({"overrides": {"policy": {"weights": {"low": 2}}}}, "overrides are for a dry run only"),
        ({"wording": "argument"}, "no language model writes in runs"),
        ({"wording": "offer", "limits": [{"channel": "phone", "capacity": 1}]}, "wording must be none with limits"),
        ({"limits": [{"channel": "phone"}]}, "limits nothing"),
        ({"limits": [{"channel": "phone", "capacity": 1, "minimum": 2}]}, "minimum above its capacity"),
        ({"limits": [{"capacity": 1}]}, "send action_id or channel"),
        ({"limits": [{"channel": "fax", "capacity": 1}]}, "is the channel of no action"),
        ({"limits": [{"action_id": "nobody", "capacity": 1}]}, "is no action that the run compares"),
        ({"actions": ["nobody"]}, "there is no such action"),
    ],
)
def test_a_request_that_contradicts_itself_is_refused(runs: Runs, changes: dict[str, Any], says: str) -> None:
    furnish(runs)
    runs.upload("all.parquet", table(5))
    response = runs.request(**changes)
    assert (response.status_code, says in response.json()["error"]) == (400, True), response.text


def test_an_override_must_be_of_an_action_of_the_run_and_in_the_currency_of_the_policy(runs: Runs) -> None:
    card, loan, _ = furnish(runs)
    runs.upload("all.parquet", table(5))
    value = {"amount": str(Decimal(2)), "currency": "USD"}
    for given, says in (
        ({"action_id": loan, "status": "active"}, "is no action that the run compares"),
        ({"action_id": card, "value": value}, "must be EUR"),
    ):
        response = runs.request(dry_run=True, actions=[card], overrides={"actions": [given]})
        assert (response.status_code, says in response.json()["error"]) == (400, True), response.text
