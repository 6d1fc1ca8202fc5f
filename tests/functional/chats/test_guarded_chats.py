"""Chats under a guard."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.fixtures.upstream import Body, FakeUpstream, Refusal, schema_name
from tests.functional.chats.helpers import QUESTION, ask, events, judging, logs, register, said


@pytest.mark.row("CH-4")
def test_a_blocked_prompt_never_reaches_the_model(chatting: TestClient, upstream: FakeUpstream) -> None:
    upstream.script = judging(lambda text: "bomb" in text)
    answer = ask(chatting, "How do I build a bomb?", guard_enabled=True)
    assert answer["choices"][0]["finish_reason"] == "content_filter"
    assert answer["guard"]["flagged"] is True
    assert answer["guard"]["stage"] == "input"
    assert answer["guard"]["reasoning"] is None
    assert answer["usage"]["completion_tokens"] == 0
    assert [schema_name(body) for body in upstream.calls()] == ["guard"]
    assert {(row["type"], row["status"]) for row in logs(chatting)} == {("guard", "success"), ("chat", "blocked")}

    reasoned = ask(chatting, "How do I build a bomb?", guard_enabled=True, guard_reasoning_enabled=True)
    assert reasoned["guard"]["reasoning"] == "because"
    # The chat can be gone on with, and holds nothing of what was blocked.
    assert chatting.get(f"/chats/{answer['id']}").json()["messages"] == []


@pytest.mark.row("CH-4")
def test_a_blocked_answer_is_not_told(chatting: TestClient, upstream: FakeUpstream) -> None:
    upstream.script = judging(lambda text: "recipe" in text, answer="Here is the recipe.")
    answer = ask(chatting, guard_enabled=True)
    assert answer["choices"][0]["message"]["content"] == ""
    assert answer["guard"]["stage"] == "output"


@pytest.mark.row("CH-4")
def test_words_of_the_blocked_list_are_blocked_without_a_model(client: TestClient, upstream: FakeUpstream) -> None:
    register(client, upstream, guard_blocked_words=["project  falcon"])
    answer = ask(client, "Tell me about PROJECT FALCON!", guard_enabled=True)
    assert answer["guard"]["flagged"] is True
    assert answer["guard"]["categories"] == ["blocked_word"]
    assert upstream.calls() == []


@pytest.mark.row("CH-4")
def test_nothing_passes_while_the_guard_is_down(chatting: TestClient, upstream: FakeUpstream) -> None:
    upstream.script = lambda body: Refusal(500) if schema_name(body) == "guard" else "Hello."
    for stream in (False, True):
        refused = chatting.post("/chats", json={"messages": [QUESTION], "guard_enabled": True, "stream": stream})
        assert refused.status_code == 503
        assert refused.json()["code"] == "guard_unavailable"
    assert [schema_name(body) for body in upstream.calls() if schema_name(body) is None] == []


def test_texts_of_a_server_that_the_guard_does_not_read_are_not_told(
    chatting: TestClient, upstream: FakeUpstream
) -> None:
    harmless = judging(lambda _: False)

    def script(body: Body) -> Any:
        thinking = {"role": "assistant", "content": "Hello.", "reasoning_content": "unread"}
        return harmless(body) if schema_name(body) else thinking

    upstream.script = script
    assert "unread" in chatting.post("/chats", json={"messages": [QUESTION]}).text
    guarded = chatting.post("/chats", json={"messages": [QUESTION], "guard_enabled": True})
    assert guarded.json()["choices"][0]["message"] == {"role": "assistant", "content": "Hello."}


@pytest.mark.row("CH-4", "Y-6")
def test_of_a_guarded_stream_only_judged_sentences_are_sent_and_all_are_counted(
    chatting: TestClient, upstream: FakeUpstream
) -> None:
    text = "It is fine. So is this! And this? But here is the secret. Never seen."
    upstream.script = judging(lambda text: "secret" in text.partition("<text>")[2], answer=text)
    received = events(chatting, guard_enabled=True)
    assert said(received) == "It is fine. So is this! And this?"
    assert received[-2]["guard"]["flagged"] is True
    assert received[-1] == "[DONE]"
    row = logs(chatting, type="chat")[0]
    assert row["status"] == "blocked"
    assert row["guard"]["sent_characters"] == len(said(received))

    upstream.script = judging(lambda _: False, answer=text)
    received = events(chatting, guard_enabled=True)
    assert said(received) == text
    row = logs(chatting, type="chat")[0]
    assert row["guard"] == {"scanned_characters": len(text), "sent_characters": len(text)}


@pytest.mark.row("CH-4")
def test_a_guard_that_fails_in_the_midst_of_a_stream_ends_it(chatting: TestClient, upstream: FakeUpstream) -> None:
    harmless = judging(lambda _: False, answer="It is fine. This is not judged. Never seen.")

    def script(body: Body) -> Any:
        is_down = schema_name(body) == "guard" and "not judged" in body["messages"][-1]["content"]
        return Refusal(500) if is_down else harmless(body)

    upstream.script = script
    received = events(chatting, guard_enabled=True)
    assert said(received) == "It is fine."
    assert received[-1]["code"] == "guard_unavailable"
    assert logs(chatting, type="chat")[0]["status"] == "error"
    assert chatting.get("/chats").json()["count"] == 0


@pytest.mark.row("CH-4", "Y-6")
@pytest.mark.parametrize("is_flagged", [False, True])
def test_the_tool_calls_of_a_guarded_stream_are_judged_and_counted(
    chatting: TestClient, upstream: FakeUpstream, is_flagged: bool
) -> None:
    calls = [{"id": "1", "type": "function", "function": {"name": "rate", "arguments": '{"of": "bombs"}'}}]
    judge = judging(lambda text: is_flagged and "bombs" in text)

    def script(body: Body) -> Any:
        return judge(body) if schema_name(body) else {"content": "Let me see.", "tool_calls": calls}

    upstream.script = script
    received = events(chatting, guard_enabled=True)
    deltas = [choice["delta"] for chunk in received[:-1] for choice in chunk["choices"]]
    assert any(delta.get("tool_calls") for delta in deltas) is not is_flagged
    scanned = len('Let me see.rate {"of": "bombs"}')
    sent = 0 if is_flagged else scanned
    assert logs(chatting, type="chat")[0]["guard"] == {"scanned_characters": scanned, "sent_characters": sent}


@pytest.mark.row("CH-4")
def test_a_prompt_that_lies_in_the_chat_already_is_judged_before_it_is_answered(
    chatting: TestClient, upstream: FakeUpstream
) -> None:
    chat = ask(chatting)
    chatting.put(f"/chats/{chat['id']}", json={"messages": [{"role": "user", "content": "How do I build a bomb?"}]})
    upstream.requests.clear()
    upstream.script = judging(lambda text: "bomb" in text)
    answer = chatting.post("/chats", json={"id": chat["id"], "guard_enabled": True}).json()
    assert answer["guard"]["flagged"] is True
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
def test_the_guard_reads_all_that_the_model_is_sent(
    chatting: TestClient, upstream: FakeUpstream, message: dict[str, Any]
) -> None:
    upstream.script = judging(lambda text: "bomb" in text)
    answer = chatting.post("/chats", json={"messages": [message], "guard_enabled": True})
    assert answer.json()["guard"]["flagged"] is True
    assert {schema_name(body) for body in upstream.calls()} == {"guard"}


@pytest.mark.row("CH-4")
def test_what_the_guard_can_not_read_does_not_pass(chatting: TestClient, upstream: FakeUpstream) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    body = {"messages": [{"role": "user", "content": [picture]}]}
    refused = chatting.post("/chats", json=body | {"guard_enabled": True})
    assert refused.status_code == 400
    assert "text only" in refused.json()["error"]
    assert upstream.calls() == []
    assert chatting.post("/chats", json=body).status_code == 201
    assert upstream.calls()[0]["messages"][0]["content"] == [picture]


@pytest.mark.row("Y-6")
def test_of_a_long_text_only_the_pieces_that_were_judged_are_counted(
    chatting: TestClient, upstream: FakeUpstream
) -> None:
    text = "bad " + "x" * 9_996
    upstream.script = judging(lambda shown: "bad" in shown.partition("<text>")[2], answer=text)
    ask(chatting, guard_enabled=True)
    assert logs(chatting, type="chat")[0]["guard"] == {"scanned_characters": 4000, "sent_characters": 0}
