"""Routers, experts and tools in chats."""

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.fixtures.upstream import Body, FakeUpstream, schema_name
from tests.functional.chats.helpers import QUESTION, ask, events, logs, make_expert, register, routing


@pytest.mark.row("CH-5")
def test_the_files_of_an_expert_reach_the_model_whole(client: TestClient, upstream: FakeUpstream) -> None:
    upstream.models = [{"id": "small"}]
    register(client, upstream)
    file = {"name": "rates.txt", "content": "five percent\n" * 10_000}
    upstream.script = routing(make_expert(client, "loans", file_context=[file]))
    ask(client, router_enabled=True)
    assert file["content"] in upstream.calls()[-1]["messages"][0]["content"]


@pytest.mark.row("CH-5", "X-10")
def test_the_router_picks_an_expert_who_brings_context_and_tools(chatting: TestClient, upstream: FakeUpstream) -> None:
    tool = {"type": "function", "function": {"name": "rate", "description": "a rate", "parameters": {"type": "object"}}}
    loans = make_expert(chatting, "loans", context="You know loans.", tools=[tool])
    make_expert(chatting, "cards", context="You know cards.")
    upstream.script = routing(loans)
    answer = ask(chatting, router_enabled=True, router_reasoning_enabled=True)
    assert answer["router"]["expert_id"] == loans
    assert answer["router"]["expert_name"] == "loans"
    assert answer["router"]["reasoning"] == "it fits"
    assert answer["usage"]["router_tokens"] > 0
    sent = upstream.calls()[-1]
    assert "You know loans." in sent["messages"][0]["content"]
    assert sent["tools"][0]["function"]["name"] == "rate"
    row = logs(chatting, type="chat")[0]
    assert (row["expert_id"], row["expert_version"]) == (loans, 1)

    chatting.put(f"/experts/{loans}", json={"context": "You know loans well."})
    ask(chatting, router_enabled=True)
    assert logs(chatting, type="chat")[0]["expert_version"] == 2


@pytest.mark.row("CH-5")
def test_the_plain_model_answers_when_the_router_fails_and_says_so(
    chatting: TestClient, upstream: FakeUpstream
) -> None:
    make_expert(chatting, "loans")
    upstream.script = lambda body: "no json" if schema_name(body) == "router" else "Answered."
    answer = ask(chatting, router_enabled=True)
    assert answer["choices"][0]["message"]["content"] == "Answered."
    assert answer["router"]["expert_id"] is None
    assert "router failed" in answer["router"]["fallback"]
    assert answer["usage"]["router_tokens"] == logs(chatting, type="router")[0]["total_tokens"] > 0


@pytest.mark.row("CH-5", "EX-1")
def test_an_expert_that_is_deleted_while_the_router_picks_it_is_not_used(
    chatting: TestClient, upstream: FakeUpstream
) -> None:
    loans = make_expert(chatting, "loans", context="You know loans.")
    pick = routing(loans)

    def script(body: Body) -> Any:
        if schema_name(body) == "router":
            chatting.delete(f"/experts/{loans}")
        return pick(body)

    upstream.script = script
    answer = ask(chatting, router_enabled=True)
    assert answer["router"]["expert_id"] is None
    assert "deleted" in answer["router"]["fallback"]
    assert upstream.calls()[-1]["messages"] == [QUESTION]


@pytest.mark.row("X-10")
def test_the_history_says_which_version_of_which_experts_answered(chatting: TestClient, upstream: FakeUpstream) -> None:
    loans, cards = make_expert(chatting, "loans"), make_expert(chatting, "cards")
    chatting.put(f"/experts/{cards}", json={"context": "You know cards."})
    chat = ask(chatting, expert_ids=[loans, cards])
    question, answer = chatting.get(f"/chats/{chat['id']}").json()["messages"]
    assert question["expert_versions"] is None
    assert answer["expert_versions"] == [
        {"id": loans, "name": "loans", "version_number": 1},
        {"id": cards, "name": "cards", "version_number": 2},
    ]
    ask(chatting, "And?", id=chat["id"])
    assert "expert_versions" not in json.dumps(upstream.calls()[-1])


@pytest.mark.row("CH-5")
def test_an_unknown_expert_is_refused_and_a_deleted_one_never_routed_to(
    chatting: TestClient, upstream: FakeUpstream
) -> None:
    loans, cards = make_expert(chatting, "loans"), make_expert(chatting, "cards")
    assert chatting.delete(f"/experts/{loans}").status_code == 204
    refused = chatting.post("/chats", json={"messages": [QUESTION], "expert_ids": [loans]})
    assert refused.status_code == 400
    upstream.script = routing(cards)
    ask(chatting, router_enabled=True)
    (asked,) = upstream.calls(schema="router")
    assert asked["response_format"]["json_schema"]["schema"]["properties"]["expert_id"]["enum"] == [cards]


def test_of_many_experts_the_nearest_by_embedding_are_shown_to_the_router(
    client: TestClient, upstream: FakeUpstream
) -> None:
    register(client, upstream, embedding_model="small")
    experts = {name: make_expert(client, name * 8) for name in "abcdefghijklmnopq"}
    upstream.script = routing(experts["q"])
    answer = ask(client, "qqqqqqqq?", router_enabled=True)
    assert answer["router"]["expert_id"] == experts["q"]
    (asked,) = upstream.calls(schema="router")
    assert len(asked["response_format"]["json_schema"]["schema"]["properties"]["expert_id"]["enum"]) == 12
    assert logs(client, type="embedding")[0]["input_tokens"] == 3


def test_without_the_router_the_named_experts_are_all_applied_in_order(
    chatting: TestClient, upstream: FakeUpstream
) -> None:
    loans = make_expert(chatting, "loans", context="You know loans.")
    cards = make_expert(chatting, "cards", file_context=[{"name": "rates.txt", "content": "Cards cost 5."}])
    ask(chatting, expert_ids=[loans, cards])
    (sent,) = upstream.calls()
    system = sent["messages"][0]["content"]
    assert system.index("You know loans.") < system.index("Cards cost 5.")


def test_tools_are_emulated_where_the_server_lacks_them(client: TestClient, upstream: FakeUpstream) -> None:
    register(client, upstream, tool_calls="emulated")
    parameters = {"type": "object", "properties": {"years": {"type": "integer"}}, "required": ["years"]}
    tool = {"type": "function", "function": {"name": "rate", "description": "a rate", "parameters": parameters}}
    loans = make_expert(client, "loans", tools=[tool])
    upstream.script = lambda _: json.dumps({"name": "rate", "arguments": {"years": 3}})
    answer = ask(client, expert_ids=[loans])
    (call,) = answer["choices"][0]["message"]["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"years": 3}
    assert answer["choices"][0]["finish_reason"] == "tool_calls"
    assert "tools" not in upstream.calls()[-1]
    streamed = events(client, expert_ids=[loans])
    deltas = [choice["delta"] for chunk in streamed[:-1] for choice in chunk["choices"]]
    assert any(delta.get("tool_calls") for delta in deltas)

    upstream.script = lambda _: json.dumps({"name": "rate", "arguments": {"years": "three"}})
    broken = client.post("/chats", json={"messages": [QUESTION], "expert_ids": [loans]})
    assert broken.status_code == 502


@pytest.mark.parametrize("reference", ["URL", "file:///etc/hostname"])
def test_a_tool_s_schema_that_refers_elsewhere_is_refused_and_not_followed(
    client: TestClient, upstream: FakeUpstream, reference: str
) -> None:
    register(client, upstream, tool_calls="emulated")
    parameters = {"type": "object", "properties": {"a": {"$ref": reference.replace("URL", f"{upstream.url}/models")}}}
    tool = {"type": "function", "function": {"name": "rate", "parameters": parameters}}
    refused = client.post("/experts", json={"name": "L", "description": "", "tools": [tool]})
    assert refused.status_code == 400
    asked = client.post("/v1/chat/completions", json={"model": "small", "messages": [QUESTION], "tools": [tool]})
    assert asked.status_code == 400
    assert len(upstream.requests) == 1  # for the list of models, by us
