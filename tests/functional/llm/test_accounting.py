"""Accounting: a stream counts like a whole response, a failure counts what was heard, and budgets hold."""

import asyncio
import json
from collections import Counter
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from functions.api import build_api
from shared.resources import Resources
from shared.settings import Settings
from tests.fixtures.identity import Issuer
from tests.fixtures.scripted_server import DONE, Body, delta, event, http, message, scripted, stream
from tests.fixtures.upstream import FakeUpstream, connected
from tests.functional.chats.helpers import guard_script
from tests.functional.llm.test_limits import limits_path, set_limits, usage

OPENAI = "/v1/chat/completions"
LONG = "word " * 6000  # the estimate is 10,000 tokens
USAGE = {"usage": {"prompt_tokens": 7, "completion_tokens": 5}}
# A whole response, a stream, and the counts of both.
ENDS: dict[str, tuple[bytes, bytes, tuple[int, int]]] = {
    "nothing is heard": (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", stream(), (0, 0)),
    "an error": (http(b'{"error": "no"}'), stream(b'data: {"error": "no"}\n\n'), (0, 0)),
    "a role and an error": (
        http(b'{"error": "no"}'),
        stream(delta(role="assistant"), b'data: {"error": "no"}\n\n'),
        (0, 0),
    ),
    "a usage without a message": (
        http(json.dumps({"choices": [], **USAGE}).encode()),
        stream(event(5, **USAGE), b'data: {"error": "no"}\n\n'),
        (7, 5),
    ),
    "a usage with an error": (
        http(json.dumps({"error": "no", **USAGE}).encode()),
        stream(delta("Hello."), event(5, **USAGE), b'data: {"error": "no"}\n\n'),
        (7, 5),
    ),
}


@pytest.mark.row("GW-5")
@pytest.mark.parametrize("path", ["/chats", OPENAI])
def test_failures_count_what_was_heard_streamed_or_not(client: TestClient, path: str) -> None:
    set_limits(client, tokens_per_month=10**6)
    body = {"messages": [{"role": "user", "content": LONG}], "model": "small"}
    expected = 0
    with scripted() as server:
        cluster = {"ingress_url": server.url, "manager_url": server.url}
        client.post("/clusters", json=cluster).raise_for_status()
        for name, (whole, streamed, counts) in ENDS.items():
            for is_stream, answer in ((False, whole), (True, streamed)):
                server.answer = answer
                client.post(path, json={**body, "stream": is_stream})
                row = client.get("/inference-logs", params={"page_size": 1}).json()["data"][0]
                found = row["status"], row["input_tokens"], row["output_tokens"]
                assert found == ("error", *counts), (name, is_stream)
                client.put("/clusters", json=cluster)  # closes the circuits
                expected += sum(counts)
    found = usage(client, "tokens_per_month")
    assert (found["used"], found["reserved"]) == (expected, 0)


@pytest.mark.row("GW-5")
def test_a_stream_that_breaks_counts_its_prompt_and_the_words_that_were_heard(client: TestClient) -> None:
    def answer(body: Body) -> bytes:
        return stream(delta("One sentence. "), delta("x" * 30))

    with scripted() as server:
        server.answer = answer
        cluster = {"ingress_url": server.url, "manager_url": server.url}
        client.post("/clusters", json=cluster).raise_for_status()
        body = {"messages": [{"role": "user", "content": LONG}], "model": "small", "stream": True}
        assert '"cluster_error"' in client.post(OPENAI, json=body).text
    row = client.get("/inference-logs").json()["data"][0]
    assert (row["status"], row["input_tokens"], row["output_tokens"]) == ("error", 10_000, 15)


@pytest.mark.row("GW-5")
def test_words_that_the_guard_holds_back_are_counted(client: TestClient) -> None:
    guard = guard_script(lambda text: "secret" in text)

    def answer(body: Body) -> bytes:
        if "response_format" in body:
            return http(message(guard(body)))
        return stream(delta("A secret of thirty characters."), delta(reason="stop"), DONE)

    with scripted() as server:
        server.answer = answer
        cluster = {"ingress_url": server.url, "manager_url": server.url}
        client.post("/clusters", json=cluster).raise_for_status()
        body = {"messages": [{"role": "user", "content": "Hi"}], "model": "small", "stream": True}
        client.post("/chats", json={**body, "guard_enabled": True})
    rows = client.get("/inference-logs", params={"type": "chat"}).json()["data"]
    assert (rows[0]["status"], rows[0]["output_tokens"]) == ("blocked", 10)


async def ask_in_parallel(client: TestClient, body: Body) -> Counter[int]:
    """Sends 48 requests of twelve callers to one process, and returns how many had each status."""
    statuses, waiting = Counter[int](), iter(range(48))
    transport = httpx.ASGITransport(client.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=client.headers) as callers:

        async def call() -> None:
            for _ in waiting:
                statuses[(await callers.post(OPENAI, json=body, timeout=60)).status_code] += 1

        await asyncio.gather(*(call() for _ in range(12)))
    return statuses


@pytest.mark.row("GW-5", "X-5")
@pytest.mark.parametrize("is_stream", [False, True])
def test_twelve_callers_exceed_a_budget_by_at_most_one_call(
    emulated: None, settings: Settings, issuer: Issuer, is_stream: bool
) -> None:
    client = TestClient(build_api(Resources(settings)), headers={"Authorization": f"Bearer {issuer.token('alice')}"})
    client.headers["X-Space-Id"] = client.post("/spaces", json={"name": "One", "description": ""}).json()["id"]
    used = 15  # of each call: the four words of its prompt, and as many as it may read
    words = " ".join(["word"] * (used - 4))
    with connected(client, FakeUpstream(script=lambda _: words, delay_seconds=0.05)) as upstream:
        set_limits(client, tokens_per_day=100)
        body = {"model": "small", "messages": [{"role": "user", "content": "Which offer suits Ada?"}]}

        statuses = asyncio.run(ask_in_parallel(client, {**body, "max_tokens": used - 4, "stream": is_stream}))
        found = usage(client, "tokens_per_day")
        assert statuses.keys() == {200, 429}
        assert (found["used"], found["reserved"]) == (used * statuses[200], 0)
        assert len(upstream.calls()) == statuses[200]
        assert 0 < found["used"] < 100 + used


@pytest.mark.row("GW-5")
@pytest.mark.parametrize("option", [{"n_predict": 120}, {"max_new_tokens": 120}, {"best_of": 9}, {"models": ["dear"]}])
def test_an_option_that_no_reservation_covers_is_refused(client: TestClient, option: dict[str, Any]) -> None:
    with connected(client, FakeUpstream()) as upstream:
        body = {"model": "small", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
        refused = client.post(OPENAI, json={**body, **option})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, *option)
        assert upstream.calls() == []


@pytest.mark.row("GW-5")
def test_everything_that_may_become_a_prompt_or_a_completion_is_reserved(client: TestClient) -> None:
    body = {"model": "small", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
    options: list[dict[str, Any]] = [
        {"tools": [{"type": "function", "function": {"name": "f", "description": LONG}}]},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"description": LONG}}}},
        {"documents": [{"text": LONG}]},
        {"grammar": LONG},
        {"prediction": {"type": "content", "content": LONG}},
    ]
    reserved: list[int] = []

    def script(_: Body) -> str:
        reserved.append(client.get(limits_path(client)).json()["space_usage"]["tokens_per_day"]["reserved"])
        return "Hello."

    with connected(client, FakeUpstream(script=script, models=[{"id": "small"}])):
        set_limits(client, tokens_per_day=10**6)
        for option in options:
            assert client.post(OPENAI, json={**body, **option}).status_code == 200
    assert [each >= 10_000 for each in reserved] == [True] * len(options)
