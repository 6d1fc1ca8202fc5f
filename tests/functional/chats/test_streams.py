"""Tests of streamed completions of chats."""

import asyncio
import json
import time
from typing import Any

import pytest
from aiohttp import web
from fastapi.testclient import TestClient

from shared.http.middleware import SECURITY_HEADERS
from tests.fixtures.upstream import Body, FakeUpstream, Refusal
from tests.functional.chats.helpers import QUESTION, ask, events, logs, streamed_text


@pytest.mark.row("CH-3")
def test_a_repeated_request_with_the_same_key_returns_the_stored_stream(
    chatting: TestClient, upstream: FakeUpstream
) -> None:
    body = {"messages": [QUESTION], "stream": True}
    texts = [chatting.post("/chats", json=body, headers={"Idempotency-Key": "k"}).text.splitlines() for _ in range(2)]
    first, second = ([json.loads(line[6:]) for line in lines if line[6:7] == "{"] for lines in texts)
    assert streamed_text(first) == streamed_text(second) == "Hello there."
    assert first[-1]["usage"] == second[-1]["usage"]
    assert texts[1][-2] == "data: [DONE]"
    assert len(upstream.calls()) == 1
    other = chatting.post("/chats", json=body | {"name": "other"}, headers={"Idempotency-Key": "k"})
    assert other.status_code == 409


@pytest.mark.row("SE-8")
def test_a_stream_has_the_security_headers_and_is_not_cached(chatting: TestClient) -> None:
    headers = chatting.post("/chats", json={"messages": [QUESTION], "stream": True}).headers
    assert headers["content-type"].startswith("text/event-stream")
    assert {name: headers.get(name) for name in SECURITY_HEADERS} == SECURITY_HEADERS


@pytest.mark.row("CH-2")
def test_the_last_chunk_of_a_stream_contains_the_echo(chatting: TestClient) -> None:
    assert [each["content"] for each in events(chatting, echo=True)[-2]["messages"]] == [QUESTION["content"]]
    assert "messages" not in events(chatting)[-2]


async def request_and_disconnect(app: Any, client: TestClient, body: Body, seconds: float) -> list[Any]:
    """Sends a request, disconnects after ``seconds`` and returns the messages that the app sent."""
    sent: list[Any] = []
    requests = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]

    async def receive() -> Any:
        if requests:
            return requests.pop()
        await asyncio.sleep(seconds)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(name.encode(), value.encode()) for name, value in client.headers.items()]
    headers += [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/chats", "headers": headers, "query_string": b""}
    await app(scope | {"http_version": "1.1", "scheme": "http", "server": ("test", 80)}, receive, send)
    return sent


@pytest.mark.row("CH-3")
@pytest.mark.parametrize("stream", [True, False])
def test_the_disconnect_of_a_client_before_the_first_word_cancels_the_upstream_request(
    chatting: TestClient, upstream: FakeUpstream, stream: bool
) -> None:
    ask(chatting)
    upstream.silence_seconds, upstream.delay_seconds = (10, 0) if stream else (0, 10)
    started = time.monotonic()
    body = {"messages": [QUESTION], "stream": stream}
    asyncio.run(request_and_disconnect(chatting.app, chatting, body, 0.5))
    while not upstream.hung_up and time.monotonic() - started < 5:
        time.sleep(0.02)
    assert upstream.hung_up == 1
    assert time.monotonic() - started < 2.5
    assert logs(chatting)[0]["status"] == "cancelled"


@pytest.mark.row("CH-3")
def test_a_stream_ends_with_the_usage_and_done_and_is_stored(chatting: TestClient) -> None:
    received = events(chatting)
    assert received[-1] == "[DONE]"
    assert received[-2]["usage"]["total_tokens"] == 6
    assert streamed_text(received) == "Hello there."
    assert len(received) > 3
    chat = chatting.get(f"/chats/{received[0]['id']}").json()
    assert [each["content"] for each in chat["messages"]] == [QUESTION["content"], "Hello there."]
    assert logs(chatting)[0]["total_tokens"] == 6
    assert logs(chatting)[0]["first_token_ms"] > 0


def test_a_failure_before_the_first_chunk_returns_an_error_status(chatting: TestClient, upstream: FakeUpstream) -> None:
    upstream.script = lambda _: Refusal(500)
    refused = chatting.post("/chats", json={"messages": [QUESTION], "stream": True})
    assert refused.status_code == 502
    assert refused.json()["code"] == "cluster_error"


def test_a_broken_stream_ends_with_an_error_event_and_a_log_row(chatting: TestClient, upstream: FakeUpstream) -> None:
    upstream.script = lambda _: "one two three four"
    upstream.cut_after = 2
    # The pause lets the words arrive before the connection breaks.
    upstream.pause_seconds = 0.1
    received = events(chatting)
    assert streamed_text(received) == "one two"
    assert received[-1]["code"] in ("cluster_error", "cluster_unreachable")
    (row,) = logs(chatting)
    assert row["status"] == "error"
    assert row["output_tokens"] > 0
    assert chatting.get("/chats").json()["count"] == 0


def test_a_usage_that_grows_with_every_chunk_is_counted_once(
    chatting: TestClient, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stream(_: Any, request: web.Request, body: Body, message: Body) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for number in (1, 2, 3):
            usage = {"prompt_tokens": 5, "completion_tokens": number}
            delta = {"index": 0, "delta": {"content": "word "}, "finish_reason": None}
            await response.write(b"data: " + json.dumps({"choices": [delta], "usage": usage}).encode() + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        return response

    monkeypatch.setattr(FakeUpstream, "_stream", stream)
    usage = events(chatting)[-2]["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (5, 3)
