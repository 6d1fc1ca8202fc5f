"""Tests of the experts in chats, of the router that selects an expert, and of tools."""

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.fixtures.upstream import Body, FakeUpstream, schema_name
from tests.functional.chats.helpers import QUESTION, ask, create_expert, events, logs, register, router_script


@pytest.mark.row("CH-5")
def test_the_model_receives_the_complete_files_of_an_expert(client: TestClient, upstream: FakeUpstream) -> None:
    upstream.models = [{"id": "small"}]
    register(client, upstream)
    file = {"name": "rates.txt", "content": "five percent\n" * 10_000}
    upstream.script = router_script(create_expert(client, "loans", file_context=[file]))
    ask(client, router_enabled=True)
    assert file["content"] in upstream.calls()[-1]["messages"][0]["content"]


@pytest.mark.row("CH-5", "X-10")
def test_the_router_selects_an_expert_with_its_context_and_tools(chatting: TestClient, upstream: FakeUpstream) -> None:
    tool = {"type": "function", "function": {"name": "rate", "description": "a rate", "parameters": {"type": "object"}}}
    loans = create_expert(chatting, "loans", context="You know loans.", tools=[tool])
    create_expert(chatting, "cards", context="You know cards.")
    upstream.script = router_script(loans)
    completion = ask(chatting, router_enabled=True, router_reasoning_enabled=True)
    assert completion["router"]["expert_id"] == loans
    assert completion["router"]["expert_name"] == "loans"
    assert completion["router"]["reasoning"] == "it fits"
    assert completion["usage"]["router_tokens"] > 0
    sent = upstream.calls()[-1]
    assert "You know loans." in sent["messages"][0]["content"]
    assert sent["tools"][0]["function"]["name"] == "rate"
    row = logs(chatting, type="chat")[0]
    assert (row["expert_id"], row["expert_version"]) == (loans, 1)

    chatting.put(f"/experts/{loans}", json={"context": "You know loans well."})
    ask(chatting, router_enabled=True)
    assert logs(chatting, type="chat")[0]["expert_version"] == 2


@pytest.mark.row("CH-5")
def test_the_model_is_called_without_an_expert_when_the_router_fails(
    chatting: TestClient, upstream: FakeUpstream
) -> None:
    create_expert(chatting, "loans")
    upstream.script = lambda body: "no json" if schema_name(body) == "router" else "Answered."
    completion = ask(chatting, router_enabled=True)
    assert completion["choices"][0]["message"]["content"] == "Answered."
    assert completion["router"]["expert_id"] is None
    assert "router failed" in completion["router"]["fallback"]
    assert completion["usage"]["router_tokens"] == logs(chatting, type="router")[0]["total_tokens"] > 0


@pytest.mark.row("CH-5", "EX-1")
def test_an_expert_that_is_deleted_during_routing_is_not_used(chatting: TestClient, upstream: FakeUpstream) -> None:
    loans = create_expert(chatting, "loans", context="You know loans.")
    router = router_script(loans)

    def script(body: Body) -> Any:
        if schema_name(body) == "router":
            chatting.delete(f"/experts/{loans}")
        return router(body)

    upstream.script = script
    completion = ask(chatting, router_enabled=True)
    assert completion["router"]["expert_id"] is None
    assert "deleted" in completion["router"]["fallback"]
    assert upstream.calls()[-1]["messages"] == [QUESTION]


@pytest.mark.row("X-10")
def test_the_history_records_the_versions_of_the_experts_of_each_completion(
    chatting: TestClient, upstream: FakeUpstream
) -> None:
    loans, cards = create_expert(chatting, "loans"), create_expert(chatting, "cards")
    chatting.put(f"/experts/{cards}", json={"context": "You know cards."})
    chat = ask(chatting, expert_ids=[loans, cards])
    question, completion = chatting.get(f"/chats/{chat['id']}").json()["messages"]
    assert question["expert_versions"] is None
    assert completion["expert_versions"] == [
        {"id": loans, "name": "loans", "version_number": 1},
        {"id": cards, "name": "cards", "version_number": 2},
    ]
    ask(chatting, "And?", id=chat["id"])
    assert "expert_versions" not in json.dumps(upstream.calls()[-1])


@pytest.mark.row("CH-5")
def test_a_deleted_expert_is_refused_by_id_and_not_offered_to_the_router(
    chatting: TestClient, upstream: FakeUpstream
) -> None:
    loans, cards = create_expert(chatting, "loans"), create_expert(chatting, "cards")
    assert chatting.delete(f"/experts/{loans}").status_code == 204
    refused = chatting.post("/chats", json={"messages": [QUESTION], "expert_ids": [loans]})
    assert refused.status_code == 400
    upstream.script = router_script(cards)
    ask(chatting, router_enabled=True)
    (router_call,) = upstream.calls(schema="router")
    assert router_call["response_format"]["json_schema"]["schema"]["properties"]["expert_id"]["enum"] == [cards]


def test_the_router_chooses_among_the_nearest_of_many_experts(client: TestClient, upstream: FakeUpstream) -> None:
    register(client, upstream, embedding_model="small")
    experts = {name: create_expert(client, name * 8) for name in "abcdefghijklmnopq"}
    upstream.script = router_script(experts["q"])
    completion = ask(client, "qqqqqqqq?", router_enabled=True)
    assert completion["router"]["expert_id"] == experts["q"]
    (router_call,) = upstream.calls(schema="router")
    assert len(router_call["response_format"]["json_schema"]["schema"]["properties"]["expert_id"]["enum"]) == 12
    assert logs(client, type="embedding")[0]["input_tokens"] == 3


def test_named_experts_are_applied_in_order_without_the_router(chatting: TestClient, upstream: FakeUpstream) -> None:
    loans = create_expert(chatting, "loans", context="You know loans.")
    cards = create_expert(chatting, "cards", file_context=[{"name": "rates.txt", "content": "Cards cost 5."}])
    ask(chatting, expert_ids=[loans, cards])
    (sent,) = upstream.calls()
    system = sent["messages"][0]["content"]
    assert system.index("You know loans.") < system.index("Cards cost 5.")


def test_tools_are_emulated_for_a_server_without_tool_calls(client: TestClient, upstream: FakeUpstream) -> None:
    register(client, upstream, tool_calls="emulated")
    parameters = {"type": "object", "properties": {"years": {"type": "integer"}}, "required": ["years"]}
    tool = {"type": "function", "function": {"name": "rate", "description": "a rate", "parameters": parameters}}
    loans = create_expert(client, "loans", tools=[tool])
    upstream.script = lambda _: json.dumps({"name": "rate", "arguments": {"years": 3}})
    completion = ask(client, expert_ids=[loans])
    (call,) = completion["choices"][0]["message"]["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"years": 3}
    assert completion["choices"][0]["finish_reason"] == "tool_calls"
    assert "tools" not in upstream.calls()[-1]
    streamed = events(client, expert_ids=[loans])
    deltas = [choice["delta"] for chunk in streamed[:-1] for choice in chunk["choices"]]
    assert any(delta.get("tool_calls") for delta in deltas)

    upstream.script = lambda _: json.dumps({"name": "rate", "arguments": {"years": "three"}})
    broken = client.post("/chats", json={"messages": [QUESTION], "expert_ids": [loans]})
    assert broken.status_code == 502


@pytest.mark.parametrize("reference", ["URL", "file:///etc/hostname"])
def test_a_tool_schema_with_an_external_reference_is_refused_and_the_reference_is_not_read(
    client: TestClient, upstream: FakeUpstream, reference: str
) -> None:
    register(client, upstream, tool_calls="emulated")
    parameters = {"type": "object", "properties": {"a": {"$ref": reference.replace("URL", f"{upstream.url}/models")}}}
    tool = {"type": "function", "function": {"name": "rate", "parameters": parameters}}
    refused = client.post("/experts", json={"name": "L", "description": "", "tools": [tool]})
    assert refused.status_code == 400
    refused = client.post("/v1/chat/completions", json={"model": "small", "messages": [QUESTION], "tools": [tool]})
    assert refused.status_code == 400
    # The only request reads the list of models.
    assert len(upstream.requests) == 1
