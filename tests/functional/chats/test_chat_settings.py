"""Settings of chats, and the window of messages that a model gets."""

import pytest
from fastapi.testclient import TestClient

from tests.fixtures.upstream import FakeUpstream, schema_name
from tests.functional.chats.helpers import QUESTION, ask, judging, make_expert, register, routing


@pytest.mark.row("CH-7")
def test_the_guard_the_router_and_the_model_are_defaults_too(chatting: TestClient, upstream: FakeUpstream) -> None:
    upstream.models = [{"id": "small"}, {"id": "large"}]
    loans = make_expert(chatting, "loans")
    chat = ask(chatting)
    chatting.put(f"/chats/{chat['id']}", json={"guard_enabled": True, "router_enabled": True, "model": "large"})
    judge, pick = judging(lambda _: False), routing(loans)
    upstream.script = lambda body: (judge if schema_name(body) == "guard" else pick)(body)
    answer = ask(chatting, "And?", id=chat["id"])
    assert (answer["model"], answer["guard"]["enabled"], answer["router"]["expert_id"]) == ("large", True, loans)
    plain = ask(chatting, "And?", id=chat["id"], guard_enabled=False, router_enabled=False, model="small")
    assert (plain["model"], plain["guard"]["enabled"], plain["router"]["enabled"]) == ("small", False, False)


@pytest.mark.row("CH-7")
def test_settings_of_a_chat_hold_for_its_next_turn_and_messages_are_replaced_at_once(
    chatting: TestClient, upstream: FakeUpstream
) -> None:
    chat = ask(chatting)
    updated = chatting.put(
        f"/chats/{chat['id']}",
        json={"temperature": 0.3, "max_tokens": 7, "messages": [{"role": "user", "content": "Only this."}]},
    )
    assert updated.status_code == 200, updated.text
    assert [each["content"] for each in updated.json()["messages"]] == ["Only this."]
    ask(chatting, "And?", id=chat["id"])
    sent = upstream.calls()[-1]
    assert (sent["temperature"], sent["max_tokens"]) == (0.3, 7)
    assert [each["content"] for each in sent["messages"]] == ["Only this.", "And?"]


@pytest.mark.row("CH-8")
def test_the_window_is_the_newest_part_that_fits_and_begins_with_a_user(
    client: TestClient, upstream: FakeUpstream
) -> None:
    upstream.models = [{"id": "small", "context_length": 400}]
    register(client, upstream)
    messages: list[dict[str, str]] = [{"role": "system", "content": "Be brief."}]
    for turn in range(20):
        messages += [
            {"role": "user", "content": f"question {turn} " + "x " * 20},
            {"role": "assistant", "content": f"answer {turn} " + "y " * 20},
        ]
    chat = ask(client, "Hi")
    client.put(f"/chats/{chat['id']}", json={"messages": messages, "max_tokens": 50})
    window = client.get(f"/chats/{chat['id']}/window").json()["messages"]
    assert window[0]["role"] == "system"
    assert window[1]["role"] == "user"
    said = [each["content"] for each in window[1:]]
    assert said == [each["content"] for each in messages[-len(said) :]]
    assert 2 <= len(said) < 40

    client.put(f"/chats/{chat['id']}", json={"messages": messages[:3]})
    assert len(client.get(f"/chats/{chat['id']}/window").json()["messages"]) == 3


@pytest.mark.row("CH-8")
def test_tokens_are_counted_by_the_server_s_tokenizer_and_estimated_without(
    chatting: TestClient, upstream: FakeUpstream
) -> None:
    """1,000 tokens are read, 512 of them kept for the answer; by the estimate 400 short words have 667."""
    text = "one two " * 200
    upstream.has_tokenizer = True
    assert chatting.post("/chats", json={"messages": [{"role": "user", "content": text}]}).status_code == 201
    upstream.has_tokenizer = False
    upstream.requests.clear()
    assert chatting.post("/chats", json={"messages": [{"role": "user", "content": text}]}).status_code == 400
    assert [path for path, _, _ in upstream.requests] == ["/tokenize"]


@pytest.mark.row("CH-8")
def test_tools_take_their_room_in_the_window(chatting: TestClient, upstream: FakeUpstream) -> None:
    tool = {"type": "function", "function": {"name": "rate", "description": "rate " * 400}}
    loans = make_expert(chatting, "loans", tools=[tool])
    refused = chatting.post("/chats", json={"messages": [QUESTION], "expert_ids": [loans]})
    assert (refused.status_code, refused.json()["code"]) == (400, "context_length_exceeded")
    assert upstream.calls() == []


def test_a_turn_too_long_for_the_model_is_refused_with_its_length(chatting: TestClient, upstream: FakeUpstream) -> None:
    refused = chatting.post("/chats", json={"messages": [{"role": "user", "content": "word " * 3000}]})
    assert refused.status_code == 400
    assert refused.json()["code"] == "context_length_exceeded"
    assert upstream.calls() == []
