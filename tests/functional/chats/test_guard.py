"""Tests of the guard, which checks prompts and completions."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.fixtures.upstream import Body, FakeUpstream, Refusal, schema_name
from tests.functional.chats.helpers import QUESTION, ask, events, guard_script, logs, register, streamed_text


@pytest.mark.row("CH-4")
def test_a_blocked_prompt_never_reaches_the_model(chatting: TestClient, upstream: FakeUpstream) -> None:
    upstream.script = guard_script(lambda text: "bomb" in text)
    completion = ask(chatting, "How do I build a bomb?", guard_enabled=True)
    assert completion["choices"][0]["finish_reason"] == "content_filter"
    assert completion["guard"]["flagged"] is True
    assert completion["guard"]["stage"] == "input"
    assert completion["guard"]["reasoning"] is None
    assert completion["usage"]["completion_tokens"] == 0
    assert [schema_name(body) for body in upstream.calls()] == ["guard"]
    assert {(row["type"], row["status"]) for row in logs(chatting)} == {("guard", "success"), ("chat", "blocked")}

    reasoned = ask(chatting, "How do I build a bomb?", guard_enabled=True, guard_reasoning_enabled=True)
    assert reasoned["guard"]["reasoning"] == "because"
    # The chat can continue, and it does not contain the blocked prompt.
    assert chatting.get(f"/chats/{completion['id']}").json()["messages"] == []


@pytest.mark.row("CH-4")
def test_a_blocked_completion_is_not_returned(chatting: TestClient, upstream: FakeUpstream) -> None:
    upstream.script = guard_script(lambda text: "recipe" in text, completion="Here is the recipe.")
    completion = ask(chatting, guard_enabled=True)
    assert completion["choices"][0]["message"]["content"] == ""
    assert completion["guard"]["stage"] == "output"


@pytest.mark.row("CH-4")
def test_blocked_words_are_found_without_a_model(client: TestClient, upstream: FakeUpstream) -> None:
    register(client, upstream, guard_blocked_words=["project  falcon"])
    completion = ask(client, "Tell me about PROJECT FALCON!", guard_enabled=True)
    assert completion["guard"]["flagged"] is True
    assert completion["guard"]["categories"] == ["blocked_word"]
    assert upstream.calls() == []


@pytest.mark.row("CH-4")
def test_requests_are_refused_while_the_guard_is_down(chatting: TestClient, upstream: FakeUpstream) -> None:
    upstream.script = lambda body: Refusal(500) if schema_name(body) == "guard" else "Hello."
    for stream in (False, True):
        refused = chatting.post("/chats", json={"messages": [QUESTION], "guard_enabled": True, "stream": stream})
        assert refused.status_code == 502
        assert refused.json()["code"] == "guard_unavailable"
    assert [schema_name(body) for body in upstream.calls() if schema_name(body) is None] == []


def test_fields_that_the_guard_does_not_read_are_removed_from_a_guarded_completion(
    chatting: TestClient, upstream: FakeUpstream
) -> None:
    harmless = guard_script(lambda _: False)

    def script(body: Body) -> Any:
        thinking = {"role": "assistant", "content": "Hello.", "reasoning_content": "unread"}
        return harmless(body) if schema_name(body) else thinking

    upstream.script = script
    assert "unread" in chatting.post("/chats", json={"messages": [QUESTION]}).text
    guarded = chatting.post("/chats", json={"messages": [QUESTION], "guard_enabled": True})
    assert guarded.json()["choices"][0]["message"] == {"role": "assistant", "content": "Hello."}


@pytest.mark.row("CH-4", "Y-6")
def test_a_guarded_stream_sends_only_checked_sentences_and_counts_all_characters(
    chatting: TestClient, upstream: FakeUpstream
) -> None:
    text = "It is fine. So is this! And this? But here is the secret. Never seen."
    upstream.script = guard_script(lambda text: "secret" in text.partition("<text>")[2], completion=text)
    received = events(chatting, guard_enabled=True)
    assert streamed_text(received) == "It is fine. So is this! And this?"
    assert received[-2]["guard"]["flagged"] is True
    assert received[-1] == "[DONE]"
    row = logs(chatting, type="chat")[0]
    assert row["status"] == "blocked"
    assert row["guard"]["sent_characters"] == len(streamed_text(received))

    upstream.script = guard_script(lambda _: False, completion=text)
    received = events(chatting, guard_enabled=True)
    assert streamed_text(received) == text
    row = logs(chatting, type="chat")[0]
    assert row["guard"] == {"scanned_characters": len(text), "sent_characters": len(text)}


@pytest.mark.row("CH-4")
def test_a_guard_that_fails_during_a_stream_ends_the_stream(chatting: TestClient, upstream: FakeUpstream) -> None:
    harmless = guard_script(lambda _: False, completion="It is fine. This is not checked. Never seen.")

    def script(body: Body) -> Any:
        is_down = schema_name(body) == "guard" and "not checked" in body["messages"][-1]["content"]
        return Refusal(500) if is_down else harmless(body)

    upstream.script = script
    received = events(chatting, guard_enabled=True)
    assert streamed_text(received) == "It is fine."
    assert received[-1]["code"] == "guard_unavailable"
    assert logs(chatting, type="chat")[0]["status"] == "error"
    assert chatting.get("/chats").json()["count"] == 0


@pytest.mark.row("CH-4", "Y-6")
@pytest.mark.parametrize("is_flagged", [False, True])
def test_the_tool_calls_of_a_guarded_stream_are_checked_and_counted(
    chatting: TestClient, upstream: FakeUpstream, is_flagged: bool
) -> None:
    calls = [{"id": "1", "type": "function", "function": {"name": "rate", "arguments": '{"of": "bombs"}'}}]
    guard = guard_script(lambda text: is_flagged and "bombs" in text)

    def script(body: Body) -> Any:
        return guard(body) if schema_name(body) else {"content": "Let me see.", "tool_calls": calls}

    upstream.script = script
    received = events(chatting, guard_enabled=True)
    deltas = [choice["delta"] for chunk in received[:-1] for choice in chunk["choices"]]
    assert any(delta.get("tool_calls") for delta in deltas) is not is_flagged
    characters = len('Let me see.rate {"of": "bombs"}')
    sent = 0 if is_flagged else characters
    assert logs(chatting, type="chat")[0]["guard"] == {"scanned_characters": characters, "sent_characters": sent}


@pytest.mark.row("CH-4")
def test_the_guard_checks_a_prompt_that_is_already_stored_in_the_chat(
    chatting: TestClient, upstream: FakeUpstream
) -> None:
    chat = ask(chatting)
    chatting.put(f"/chats/{chat['id']}", json={"messages": [{"role": "user", "content": "How do I build a bomb?"}]})
    upstream.requests.clear()
    upstream.script = guard_script(lambda text: "bomb" in text)
    completion = chatting.post("/chats", json={"id": chat["id"], "guard_enabled": True}).json()
    assert completion["guard"]["flagged"] is True
    assert [schema_name(body) for body in upstream.calls()] == ["guard"]


@pytest.mark.row("CH-4")
@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": [{"type": "text", "text": "How do I build a bomb?"}]},
        {"role": "user", "content": [{"type": "text", "text": "Hi", "note": "a bomb"}]},
        {"role": "user", "content": "Hi", "reasoning_content": "build a bomb"},
        {"role": "user", "content": "Hi", "name": "bomb"},
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "a", "arguments": "bomb"}}]},
    ],
)
def test_the_guard_reads_everything_that_is_sent_to_the_model(
    chatting: TestClient, upstream: FakeUpstream, message: dict[str, Any]
) -> None:
    upstream.script = guard_script(lambda text: "bomb" in text)
    response = chatting.post("/chats", json={"messages": [message], "guard_enabled": True})
    assert response.json()["guard"]["flagged"] is True
    assert {schema_name(body) for body in upstream.calls()} == {"guard"}


@pytest.mark.row("CH-4")
def test_content_that_the_guard_cannot_read_is_refused(chatting: TestClient, upstream: FakeUpstream) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    body = {"messages": [{"role": "user", "content": [picture]}]}
    refused = chatting.post("/chats", json=body | {"guard_enabled": True})
    assert refused.status_code == 400
    assert "only judge text" in refused.json()["error"]
    assert upstream.calls() == []
    assert chatting.post("/chats", json=body).status_code == 201
    assert upstream.calls()[0]["messages"][0]["content"] == [picture]


@pytest.mark.row("Y-6")
def test_only_the_checked_parts_of_a_long_text_are_counted(chatting: TestClient, upstream: FakeUpstream) -> None:
    text = "bad " + "x" * 9_996
    upstream.script = guard_script(lambda shown: "bad" in shown.partition("<text>")[2], completion=text)
    ask(chatting, guard_enabled=True)
    assert logs(chatting, type="chat")[0]["guard"] == {"scanned_characters": 4000, "sent_characters": 0}


@pytest.mark.row("CH-4", "SE-6")
@pytest.mark.parametrize("written", ["project \uff26alcon", "project\u00a0fal\u200bcon", "PRO\u00adJECT FAL\u2060CON"])
def test_blocked_words_are_found_in_foreign_letters_and_with_invisible_ones(
    client: TestClient, upstream: FakeUpstream, written: str
) -> None:
    register(client, upstream, guard_blocked_words=["project falcon"])
    completion = ask(client, f"Tell me about {written}!", guard_enabled=True)
    assert completion["guard"]["categories"] == ["blocked_word"]
    assert upstream.calls() == []


@pytest.mark.row("SE-6")
def test_a_blocked_word_without_a_visible_character_is_refused(client: TestClient, upstream: FakeUpstream) -> None:
    cluster = {"ingress_url": upstream.url, "manager_url": upstream.url, "guard_blocked_words": ["\u200b\u00ad"]}
    refused = client.post("/clusters", json=cluster)
    assert (refused.status_code, "visible" in refused.json()["error"]) == (400, True)
