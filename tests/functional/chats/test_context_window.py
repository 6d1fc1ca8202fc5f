"""Tests of the context window of chats and of token counts."""

import pytest
from fastapi.testclient import TestClient

from tests.fixtures.upstream import FakeUpstream
from tests.functional.chats.helpers import QUESTION, ask, create_expert, register


@pytest.mark.row("CH-8")
def test_the_window_contains_the_newest_messages_that_fit_and_starts_with_a_user_message(
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
    contents = [each["content"] for each in window[1:]]
    assert contents == [each["content"] for each in messages[-len(contents) :]]
    assert 2 <= len(contents) < 40

    client.put(f"/chats/{chat['id']}", json={"messages": messages[:3]})
    assert len(client.get(f"/chats/{chat['id']}/window").json()["messages"]) == 3


@pytest.mark.row("CH-8")
def test_tokens_are_counted_by_the_tokenizer_of_the_server_or_estimated_without_one(
    chatting: TestClient, upstream: FakeUpstream
) -> None:
    """The model reads 1,000 tokens, of which 512 are reserved for the completion. The estimate for 400 words is 667."""
    text = "one two " * 200
    upstream.has_tokenizer = True
    assert chatting.post("/chats", json={"messages": [{"role": "user", "content": text}]}).status_code == 201
    upstream.has_tokenizer = False
    upstream.requests.clear()
    assert chatting.post("/chats", json={"messages": [{"role": "user", "content": text}]}).status_code == 400
    assert [path for path, _, _ in upstream.requests] == ["/tokenize"]


@pytest.mark.row("CH-8")
def test_tools_use_tokens_of_the_window(chatting: TestClient, upstream: FakeUpstream) -> None:
    tool = {"type": "function", "function": {"name": "rate", "description": "rate " * 400}}
    loans = create_expert(chatting, "loans", tools=[tool])
    refused = chatting.post("/chats", json={"messages": [QUESTION], "expert_ids": [loans]})
    assert (refused.status_code, refused.json()["code"]) == (400, "context_length_exceeded")
    assert upstream.calls() == []


def test_a_turn_that_is_too_long_for_the_model_is_refused(chatting: TestClient, upstream: FakeUpstream) -> None:
    refused = chatting.post("/chats", json={"messages": [{"role": "user", "content": "word " * 3000}]})
    assert refused.status_code == 400
    assert refused.json()["code"] == "context_length_exceeded"
    assert upstream.calls() == []
