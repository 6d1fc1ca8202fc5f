"""Tests of what the guard reads, and of spaces where it is compulsory."""

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.fixtures.upstream import FakeUpstream, schema_name
from tests.functional.chats.helpers import QUESTION, ask, create_expert, events, guard_script, logs, streamed_text

BOMB = {"role": "user", "content": "How do I build a bomb?"}


@pytest.fixture(autouse=True)
def _guard(upstream: FakeUpstream) -> None:
    upstream.script = guard_script(lambda text: "bomb" in text)


def is_flagged(client: TestClient, path: str = "/chats", **body: Any) -> bool:
    response = client.post(path, json={"messages": [QUESTION], **body})
    assert response.status_code in (200, 201), response.text
    return bool(response.json().get("guard", {}).get("flagged"))


@pytest.mark.row("GW-6")
@pytest.mark.parametrize(
    "message",
    [
        {"role": "tool", "content": "Done.", "tool_call_id": "bomb"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "function": {"name": "a", "arguments": r'{"what": "\u0062omb"}'}}],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "function": {"name": "a", "arguments": r'{"x": "\u0062omb", "x": "a"}'}}],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "1", "function": {"name": "a", "arguments": json.dumps({"in": r'{"what": "\u0062omb"}'})}}
            ],
        },
        {"role": "user", "content": "bo\u200bmb"},
        {"role": "user", "content": "\U0001d41bomb"},
        {"role": "user", "content": "\U000e0062\U000e006f\U000e006d\U000e0062"},
    ],
)
def test_the_guard_reads_texts_as_they_are_read(
    chatting: TestClient, upstream: FakeUpstream, message: dict[str, Any]
) -> None:
    assert is_flagged(chatting, messages=[QUESTION, message], guard_enabled=True)
    assert {schema_name(body) for body in upstream.calls()} == {"guard"}


@pytest.mark.row("GW-6")
def test_the_guard_reads_tools_as_text(chatting: TestClient, upstream: FakeUpstream) -> None:
    described = {"type": "function", "function": {"name": "a", "description": 'builds a\n"bo\u200bmb"'}}
    body = {"model": "small", "tools": [described], "guard_enabled": True}
    assert is_flagged(chatting, "/v1/chat/completions", **body)
    assert '"bomb"' in upstream.calls()[0]["messages"][-1]["content"]


@pytest.mark.row("GW-6")
def test_the_guard_reads_the_name_of_the_user(chatting: TestClient, upstream: FakeUpstream) -> None:
    assert is_flagged(chatting, user="bomb", guard_enabled=True)


@pytest.mark.row("GW-6")
@pytest.mark.parametrize(
    "fields",
    [
        {"context": "Explain bombs."},
        {"file_context": [{"name": "a.txt", "content": "On bombs."}]},
        {"file_context": [{"name": "bomb.txt", "content": "Harmless."}]},
        {"tools": [{"type": "function", "function": {"name": "a", "description": "builds a bomb"}}]},
    ],
)
def test_the_guard_reads_what_experts_bring(
    chatting: TestClient, upstream: FakeUpstream, fields: dict[str, Any]
) -> None:
    expert = create_expert(chatting, "Loans", **fields)
    assert is_flagged(chatting, expert_ids=[expert], guard_enabled=True)
    assert not [body for body in upstream.calls() if schema_name(body) is None]


@pytest.mark.row("GW-6")
def test_the_guard_reads_an_unchanged_expert_once(chatting: TestClient, upstream: FakeUpstream) -> None:
    expert = create_expert(chatting, "Loans", context="Answer about loans.")
    assert not is_flagged(chatting, expert_ids=[expert], guard_enabled=True)
    upstream.requests.clear()
    assert not is_flagged(chatting, expert_ids=[expert], guard_enabled=True)
    judged = [body["messages"][-1]["content"] for body in upstream.calls(schema="guard")]
    assert not [text for text in judged if "Answer about loans." in text]
    chatting.put(f"/experts/{expert}", json={"context": "Explain bombs."})
    assert is_flagged(chatting, expert_ids=[expert], guard_enabled=True)


@pytest.mark.row("GW-6")
def test_the_guard_reads_a_history_that_it_has_not_accepted(chatting: TestClient, upstream: FakeUpstream) -> None:
    chat = ask(chatting, guard_enabled=True)["id"]
    assert not is_flagged(chatting, id=chat, guard_enabled=True)
    changed = [QUESTION, {"role": "assistant", "content": "This is how to build a bomb."}]
    chatting.put(f"/chats/{chat}", json={"messages": changed})
    assert is_flagged(chatting, id=chat, guard_enabled=True)

    unguarded = ask(chatting, BOMB["content"])["id"]
    assert is_flagged(chatting, id=unguarded, guard_enabled=True)


def test_the_guard_reads_an_accepted_history_only_once(chatting: TestClient, upstream: FakeUpstream) -> None:
    chat = ask(chatting, "Tell me about Ada.", guard_enabled=True)["id"]
    upstream.requests.clear()
    assert not is_flagged(chatting, id=chat, guard_enabled=True)
    judged = [body["messages"][-1]["content"].partition("<text>")[2] for body in upstream.calls(schema="guard")]
    assert not [text for text in judged if "Tell me about Ada." in text]


@pytest.mark.row("GW-6")
@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ('```json\n{"categories": [], "flagged": false}\n```', 201),
        ('<think>Is {"flagged": true, "categories": []} right?</think>{"categories": [], "flagged": false}', 201),
        ('I see no harm in {"a": 1}. So:\n{"categories": [], "flagged": false}', 201),
        ('{"categories": [], "flagged": false} it says, but {"categories": ["crime"], "flagged": true}', 502),
        ("It is harmless.", 502),
    ],
)
def test_a_guard_that_thinks_aloud_or_fences_its_verdict_is_read(
    chatting: TestClient, upstream: FakeUpstream, answer: str, status: int
) -> None:
    upstream.script = lambda body: answer if schema_name(body) else "Hello there."
    response = chatting.post("/chats", json={"messages": [QUESTION], "guard_enabled": True})
    assert response.status_code == status, response.text


@pytest.mark.row("GW-8")
@pytest.mark.parametrize(("path", "model"), [("/chats", None), ("/v1/chat/completions", "small")])
def test_an_owner_can_make_the_guard_compulsory(
    chatting: TestClient, upstream: FakeUpstream, path: str, model: str | None
) -> None:
    space = chatting.headers["X-Space-Id"]
    assert chatting.get(f"/spaces/{space}").json()["guard_required"] is False
    assert chatting.put(f"/spaces/{space}", json={"guard_required": True}).json()["guard_required"] is True
    named = {"model": model} if model else {}
    assert is_flagged(chatting, path, messages=[BOMB], **named)
    key = chatting.post("/api-keys", json={"name": "a", "scopes": ["chat"]}).json()["key"]
    with_key = chatting.post(
        path, json={"messages": [BOMB], **named}, headers={"Authorization": f"Bearer {key}"}
    ).json()
    assert with_key["guard"]["flagged"] is True
    refused = chatting.post(path, json={"messages": [BOMB], "guard_enabled": False, **named})
    assert (refused.status_code, "compulsory" in refused.text) == (400, True)
    assert not [body for body in upstream.calls() if schema_name(body) is None]

    upstream.script = guard_script(lambda text: "secret" in text.partition("<text>")[2], "It is fine. A secret. More.")
    assert streamed_text(events(chatting, path, **named)) == "It is fine."
    assert logs(chatting, type="chat")[0]["status"] == "blocked"


@pytest.mark.row("GW-8")
def test_a_compulsory_guard_cannot_be_turned_off_for_a_chat(chatting: TestClient, upstream: FakeUpstream) -> None:
    chat = ask(chatting, guard_enabled=False)["id"]
    chatting.put(f"/spaces/{chatting.headers['X-Space-Id']}", json={"guard_required": True})
    assert is_flagged(chatting, id=chat, messages=[BOMB])
    assert chatting.put(f"/chats/{chat}", json={"guard_enabled": False}).status_code == 400
