"""Tests of insights without a language model, of repeated requests and of many candidates."""

import json
import time
from typing import Any

import pytest
from fastapi.testclient import TestClient

from shared.clock import new_id
from shared.dynamodb.table import Key, Table
from shared.http.authentication import Authentication, Credentials, Identity
from shared.models.checkpoint import Checkpoint
from shared.resources import Resources
from tests.fixtures.upstream import Body, FakeUpstream, Refusal
from tests.functional.insights.helpers import CLIENT, GENERATED_TEXT, ActionMaker, decide


@pytest.mark.row("IN-1")
@pytest.mark.parametrize(
    ("script", "reason", "message"),
    [
        (lambda _: "Sure!", "error", "does not fit the requested schema"),
        (lambda _: Refusal(500), "error", "failed with status 500"),
        (
            lambda _: json.dumps({**GENERATED_TEXT, "best_channel": "pigeon post"}),
            "error",
            "does not fit the requested schema",
        ),
        (lambda body: cut_off(body), "length", "max_tokens"),
    ],
    ids=["no object", "failure", "another channel", "cut off"],
)
def test_a_decision_has_a_plain_text_when_the_language_model_fails(
    client: TestClient,
    upstream: FakeUpstream,
    model: Checkpoint,
    create_action: ActionMaker,
    script: Any,
    reason: str,
    message: str,
) -> None:
    offer = create_action("Gold card", model_id=model.id, description="No fee for a year", channel="email")
    upstream.script = script
    insight = decide(client)
    assert (insight["action_id"], insight["finish_reason"]) == (offer, reason)
    assert message in insight["error"]
    assert insight["argument"] == insight["argument_content"] == "Gold card. No fee for a year."
    assert "age (40)" in insight["insight"]
    assert (insight["best_channel"], insight["thinking"]) == ("email", "")
    (row,) = client.get("/inference-logs").json()["data"]
    assert (row["type"], row["status"]) == ("insight", "error")


def cut_off(body: Body) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": '{"thinking": "We'}, "finish_reason": "length"}
    return json.dumps({"id": "1", "model": body["model"], "choices": [choice]}).encode()


@pytest.mark.row("IN-1")
def test_an_insight_without_a_cluster_is_decided_and_logged(
    client: TestClient, model: Checkpoint, create_action: ActionMaker
) -> None:
    offer = create_action("Gold card", model_id=model.id)
    insight = decide(client)
    assert (insight["action_id"], insight["finish_reason"]) == (offer, "error")
    assert "POST /clusters" in insight["error"]
    (row,) = client.get("/inference-logs").json()["data"]
    assert (row["type"], row["status"], row["error"]) == ("insight", "error", insight["error"])


def test_the_language_model_chooses_among_the_used_channels_when_the_action_has_none(
    client: TestClient, upstream: FakeUpstream, create_action: ActionMaker
) -> None:
    winner = create_action("Gold card", priority="very_high")
    create_action("Loan", channel="email")
    create_action("Savings", channel="phone")
    upstream.script = lambda _: json.dumps({**GENERATED_TEXT, "best_channel": "phone"})
    insight = decide(client)
    assert (insight["action_id"], insight["best_channel"]) == (winner, "phone")
    (call,) = upstream.calls(schema="insight")
    schema = call["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["best_channel"] == {"enum": ["email", "phone"]}


@pytest.mark.row("IN-1")
def test_the_elapsed_time_includes_the_wait_for_the_language_model(
    client: TestClient, upstream: FakeUpstream, model: Checkpoint, create_action: ActionMaker
) -> None:
    create_action("Gold card", model_id=model.id)
    decide(client)
    upstream.delay_seconds = 1.5
    started = time.perf_counter()
    insight = decide(client)
    assert 1.5 <= insight["elapsed_time_in_seconds"] <= time.perf_counter() - started


@pytest.mark.row("IN-1")
def test_the_elapsed_time_begins_when_the_request_arrives(
    client: TestClient, model: Checkpoint, create_action: ActionMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_action("Gold card", model_id=model.id)
    enter = Authentication.enter_space

    def enter_late(authentication: Authentication, credentials: Credentials) -> Identity:
        time.sleep(0.3)
        return enter(authentication, credentials)

    monkeypatch.setattr(Authentication, "enter_space", enter_late)
    started = time.perf_counter()
    assert 0.3 <= decide(client)["elapsed_time_in_seconds"] <= time.perf_counter() - started


@pytest.mark.row("C-12")
def test_a_repeated_request_returns_the_first_insight(
    client: TestClient, upstream: FakeUpstream, model: Checkpoint, create_action: ActionMaker
) -> None:
    create_action("Gold card", model_id=model.id)
    headers = {"Idempotency-Key": "once"}
    first = client.post("/insights", json={"client": CLIENT}, headers=headers)
    again = client.post("/insights", json={"client": CLIENT}, headers=headers)
    assert again.json()["id"] == first.json()["id"]
    assert len(upstream.calls()) == 1
    assert client.post("/insights", json={"client": "other"}, headers=headers).status_code == 409


def test_a_thousand_candidates_are_listed_and_more_are_refused(
    client: TestClient, table: Table, resources: Resources
) -> None:
    space = client.headers["X-Space-Id"]
    now = resources.clock()
    common = {"created_at": now, "updated_at": now, "version": 1, "description": "d" * 200, "type": "offer"}
    ids = [new_id() for _ in range(1001)]
    fields = {**common, "priority": "low", "status": "active"}
    table.put_all([{**Key(f"action#{space}", each).values, **fields, "id": each, "name": each} for each in ids])
    refused = client.post("/insights", json={"client": CLIENT})
    assert refused.status_code == 400
    assert "must list the actions to compare" in refused.json()["error"]
    insight = decide(client, actions=ids[:1000])
    assert len(insight["candidates"]) == 1000
    assert insight["actions"].split(",") == ids[:1000]
    assert client.get(f"/insights/{insight['id']}").json()["candidates"] == insight["candidates"]


@pytest.mark.row("C-2")
def test_an_insight_of_another_space_is_unknown(client: TestClient, other_client: TestClient) -> None:
    insight = decide(client, "Likes to travel")
    assert other_client.get(f"/insights/{insight['id']}").status_code == 404
    response = other_client.post(f"/insights/{insight['id']}/reactions", json={"reaction": "accepted"})
    assert response.status_code == 404
