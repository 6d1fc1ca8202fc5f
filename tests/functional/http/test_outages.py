"""A cluster that is down, silent or busy: who waits for it, and who does not."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

import shared.llm.upstream
from shared.settings import Settings
from tests.fixtures.clocks import MovableClock
from tests.fixtures.upstream import FakeUpstream, Refusal, served

BODY: dict[str, Any] = {"messages": [{"role": "user", "content": "Which offer suits Ada?"}], "model": "small"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"upstream_timeout_seconds": 0.2})


@pytest.fixture
def upstream(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeUpstream]:
    monkeypatch.setattr(shared.llm.upstream, "LIST_SECONDS", 0.2)
    with served(FakeUpstream(models=[{"id": "small"}, {"id": "spare"}])) as upstream:
        yield upstream


def register(client: TestClient, upstream: FakeUpstream, **settings: Any) -> None:
    cluster = {"ingress_url": upstream.url, "manager_url": upstream.url, **settings}
    assert client.post("/clusters", json=cluster).status_code == 201


@pytest.mark.row("X-6")
@pytest.mark.parametrize("stream", [False, True])
def test_in_an_outage_of_a_minute_one_call_a_cool_down_waits_for_the_silent_server(
    clock: MovableClock, client: TestClient, upstream: FakeUpstream, stream: bool
) -> None:
    register(client, upstream)
    client.get("/models")
    clock.now += timedelta(minutes=2)  # the list is old, too
    upstream.requests.clear()
    upstream.models_delay_seconds = upstream.silence_seconds = upstream.delay_seconds = 1
    statuses, waiting = [], 0
    for _ in range(60):
        asked = len(upstream.requests)
        statuses.append(client.post("/chats", json=BODY | {"stream": stream}).status_code)
        waiting += len(upstream.requests) > asked
        clock.now += timedelta(seconds=1)
    assert set(statuses) == {503, 504}
    assert 2 <= waiting <= 60 / 15

    upstream.models_delay_seconds = upstream.silence_seconds = upstream.delay_seconds = 0
    clock.now += timedelta(seconds=20)
    assert client.post("/chats", json=BODY).status_code == 201
    assert client.post("/chats", json=BODY).status_code == 201


@pytest.mark.row("X-6")
def test_while_the_list_of_models_fails_a_named_model_is_called_all_the_same(
    client: TestClient, upstream: FakeUpstream
) -> None:
    upstream.models_status = 500
    register(client, upstream)
    for _ in range(5):
        assert client.post("/chats", json=BODY).status_code == 201
    # The list was left alone after it had failed three times.
    assert len(upstream.requests) - len(upstream.calls()) == 3


@pytest.mark.row("X-6")
def test_a_stream_of_a_model_that_says_nothing_falls_back_to_the_next(
    client: TestClient, upstream: FakeUpstream
) -> None:
    register(client, upstream, fallback_models=["spare"])
    upstream.silence_seconds = 1

    def script(body: dict[str, Any]) -> str:
        upstream.silence_seconds = 1 if body["model"] == "small" else 0
        return "From the spare."

    upstream.script = script
    with client.stream("POST", "/chats", json=BODY | {"stream": True}) as answer:
        lines = [line for line in answer.iter_lines() if line]
    assert '"model":"spare"' in lines[0]
    assert lines[-1] == "data: [DONE]"


def test_a_busy_model_falls_back_and_is_not_left_alone(client: TestClient, upstream: FakeUpstream) -> None:
    register(client, upstream, fallback_models=["spare"])
    upstream.script = lambda body: Refusal(429) if body["model"] == "small" else "From the spare."
    for _ in range(5):
        assert client.post("/chats", json=BODY).json()["model"] == "spare"
    assert len([body for body in upstream.calls() if body["model"] == "small"]) == 5
    upstream.script = lambda _: Refusal(429)
    busy = client.post("/chats", json=BODY)
    assert (busy.status_code, busy.headers["retry-after"]) == (429, "5")


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_request_that_the_server_finds_wrong_is_the_caller_s_to_put_right(
    client: TestClient, upstream: FakeUpstream, status: int
) -> None:
    register(client, upstream, fallback_models=["spare"])
    upstream.script = lambda _: Refusal(status, {"error": {"message": "the prompt exceeds the context"}})
    refused = client.post("/chats", json=BODY)
    assert (refused.status_code, refused.json()["code"]) == (400, "cluster_rejected")
    assert "exceeds the context" in refused.json()["error"]
    assert len(upstream.calls()) == 1
    (row,) = client.get("/inference-logs").json()["data"]
    assert row["status"] == "error"
