"""Tests of the rates and budgets for calls of language models."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from shared.dynamodb.table import Table
from tests.fixtures.clocks import MovableClock
from tests.fixtures.evaluations import add_member
from tests.fixtures.upstream import Body, FakeUpstream, Refusal, argument_about, connected, schema_name
from tests.functional.api_keys.helpers import client_with_key, create_key
from tests.functional.arguments.test_arguments import FACTS
from tests.functional.conftest import ClientMaker

CHAT = {"messages": [{"role": "user", "content": "Which offer suits Ada?"}], "max_tokens": 5}
OPENAI = "/v1/chat/completions"
OFFER = {"name": "Card", "description": "", "priority": "high", "type": "offer", "status": "active"}


def complete(body: Body) -> str:
    """Returns a valid completion for each kind of request."""
    if schema_name(body) == "argument":
        return argument_about(body)
    return {
        "persona": '{"message": "Done."}',
        "guard": '{"categories": [], "flagged": false}',
    }.get(schema_name(body) or "", "Hello there.")


@pytest.fixture
def upstream(client: TestClient) -> Iterator[FakeUpstream]:
    with connected(client, FakeUpstream(script=complete)) as upstream:
        yield upstream


def limits_path(client: TestClient) -> str:
    return f"/spaces/{client.headers['X-Space-Id']}/limits"


def set_limits(client: TestClient, **space: Any) -> None:
    response = client.put(limits_path(client), json={"space": space, "prices": {"small": {"input": 1, "output": 10}}})
    assert response.status_code == 200, response.text


def usage(client: TestClient, name: str) -> Any:
    return client.get(limits_path(client)).json()["space_usage"][name]


@pytest.mark.row("X-5")
def test_a_token_budget_is_exceeded_by_at_most_one_call(
    client: TestClient, upstream: FakeUpstream, clock: MovableClock
) -> None:
    set_limits(client, tokens_per_day=15)
    responses = [client.post("/chats", json=CHAT) for _ in range(4)]
    assert [each.status_code for each in responses] == [201, 201, 201, 429]
    assert usage(client, "tokens_per_day") | {"resets_at": ""} == {
        "limit": 15, "used": 18, "reserved": 0, "resets_at": ""
    }  # fmt: skip
    refused = responses[-1].json()
    assert refused["code"] == "budget_exceeded"
    assert "tokens_per_day of the space" in refused["error"]
    assert int(responses[-1].headers["Retry-After"]) <= 24 * 3600
    assert len(upstream.calls()) == 3
    row = client.get("/inference-logs").json()["data"][0]
    assert (row["status"], row["error"], row["total_tokens"]) == ("error", refused["error"], 0)


@pytest.mark.row("X-5")
def test_costs_follow_from_the_prices_and_the_openai_routes_return_errors_in_their_format(
    client: TestClient, upstream: FakeUpstream
) -> None:
    set_limits(client, cost_per_month=0.00004)
    request = {"model": "small", **CHAT}
    statuses = [client.post(OPENAI, json=request).status_code for _ in range(2)]
    # Each call costs 4 input tokens at 1 per million and 2 output tokens at 10 per million.
    assert usage(client, "cost_per_month")["used"] == pytest.approx(2 * 24 / 10**6)
    refused = client.post(OPENAI, json={**request, "stream": True})
    assert (statuses, refused.status_code) == ([200, 200], 429)
    assert refused.json()["error"]["code"] == "budget_exceeded"
    assert refused.headers["Retry-After"]


@pytest.mark.row("X-5")
def test_a_stream_uses_tokens_of_the_budget_and_a_failed_call_uses_none(
    client: TestClient, upstream: FakeUpstream
) -> None:
    set_limits(client, tokens_per_day=1000, concurrent_calls=1)
    client.post("/chats", json={**CHAT, "stream": True})
    assert usage(client, "tokens_per_day")["used"] == 6
    upstream.script = lambda _: Refusal(500)
    assert client.post("/chats", json=CHAT).status_code == 502
    assert usage(client, "tokens_per_day")["used"] == 6
    assert usage(client, "concurrent_calls")["reserved"] == 0


@pytest.mark.row("X-5", "C-15")
def test_a_request_over_the_rate_is_refused_until_the_minute_ends(
    client: TestClient, upstream: FakeUpstream, clock: MovableClock
) -> None:
    clock.now = clock.now.replace(second=30, microsecond=0)
    set_limits(client, requests_per_minute=2)
    # The calls of the guard belong to the same request.
    responses = [client.post("/chats", json={**CHAT, "guard_enabled": True}) for _ in range(3)]
    assert [each.status_code for each in responses] == [201, 201, 429]
    assert (responses[-1].json()["code"], responses[-1].headers["Retry-After"]) == ("rate_limited", "30")
    clock.now = clock.now.replace(second=59)
    assert client.post("/chats", json=CHAT).status_code == 429
    clock.now += timedelta(seconds=1)
    assert client.post("/chats", json=CHAT).status_code == 201


@pytest.mark.row("X-5")
def test_users_and_keys_have_their_own_limits(
    client: TestClient, sign_in: ClientMaker, upstream: FakeUpstream, table: Table
) -> None:
    space = client.headers["X-Space-Id"]
    erin = sign_in("erin", space=space)
    add_member(table, erin, space, [])
    erin_id = erin.get("/me").json()["id"]
    key = create_key(client, "chat", limits={"requests_per_minute": 1})
    body = {"each_user": {"requests_per_minute": 2}, "users": {erin_id: {"requests_per_minute": 0}}}
    client.put(limits_path(client), json=body)
    holder = client_with_key(client, key["key"])
    assert [holder.post("/chats", json=CHAT).status_code for _ in range(2)] == [201, 429]
    refused = erin.post("/chats", json=CHAT)
    assert (refused.status_code, "this user" in refused.json()["error"]) == (429, True)
    # The call with the key also counts for the user of the key.
    assert [client.post("/chats", json=CHAT).status_code for _ in range(2)] == [201, 429]
    assert client.get(limits_path(client)).json()["own_usage"]["requests_per_minute"]["used"] == 2


@pytest.mark.row("X-5")
def test_every_call_of_a_model_over_the_budget_is_refused_and_an_insight_is_decided_without_a_model(
    client: TestClient, upstream: FakeUpstream
) -> None:
    set_limits(client, tokens_per_month=0)
    client.post("/actions", json=OFFER)
    argument = {**FACTS, "model": "small"}
    persona = {"current_persona": {"name": "Ada"}, "history": [], "prompt": "Call her Eve"}
    for address, body in (("/arguments", argument), ("/personas/completions", persona), ("/chats", CHAT)):
        response = client.post(address, json=body)
        assert (response.status_code, response.json()["code"]) == (429, "budget_exceeded"), (address, response.text)
    guarded = client.post("/chats", json={**CHAT, "guard_enabled": True})
    assert guarded.json()["code"] == "budget_exceeded"
    insight = client.post("/insights", json={"client": "Likes to travel"}).json()
    assert insight["action_id"]
    assert insight["finish_reason"] == "error"
    assert "tokens_per_month" in insight["error"]
    assert upstream.calls() == []
    assert {row["type"] for row in client.get("/inference-logs").json()["data"]} == {
        "argument", "chat", "guard", "insight", "persona"
    }  # fmt: skip


@pytest.mark.row("X-5")
def test_only_the_owner_sets_limits_and_members_see_them(
    client: TestClient, sign_in: ClientMaker, table: Table
) -> None:
    set_limits(client, tokens_per_day=10)
    erin = sign_in("erin")
    add_member(table, erin, client.headers["X-Space-Id"], [])
    assert erin.get(limits_path(client)).json()["space"]["tokens_per_day"] == 10
    assert erin.put(limits_path(client), json={}).status_code == 403
    shown = client.get(limits_path(client))
    stale = client.put(limits_path(client), json={}, headers={"If-Match": '"1"'})
    assert (shown.headers["ETag"], stale.status_code) == ('"2"', 412)
    refused: list[dict[str, Any]] = [
        {"space": {"tokens_per_day": -1}},
        {"space": {"cost_per_day": "free"}},
        {"space": {"tokens_per_day": False}},
        {"prices": {"a": {"input": -1}}},
    ]
    for wrong in refused:
        assert client.put(limits_path(client), json=wrong).status_code == 400
    assert client.put(limits_path(client), json={}).json()["space"]["tokens_per_day"] is None


@pytest.mark.row("X-5")
def test_a_call_in_a_space_without_limits_stores_no_usage(
    client: TestClient, upstream: FakeUpstream, table: Table
) -> None:
    assert client.post("/chats", json=CHAT).status_code == 201
    assert list(table.query(f"limit_usage#{client.headers['X-Space-Id']}")) == []
