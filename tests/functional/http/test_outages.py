"""Tests of clusters that are down, silent or busy."""

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
    return settings.model_copy(update={"upstream_timeout_seconds": 0.6})


@pytest.fixture
def upstream(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeUpstream]:
    monkeypatch.setattr(shared.llm.upstream, "LIST_SECONDS", 0.6)
    with served(FakeUpstream(models=[{"id": "small"}, {"id": "spare"}])) as upstream:
        yield upstream


def register(client: TestClient, upstream: FakeUpstream, **settings: Any) -> None:
    cluster = {"ingress_url": upstream.url, "manager_url": upstream.url, **settings}
    assert client.post("/clusters", json=cluster).status_code == 201


@pytest.mark.row("X-6")
@pytest.mark.parametrize("stream", [False, True])
def test_only_one_call_in_each_cool_down_waits_for_a_silent_server(
    clock: MovableClock, client: TestClient, upstream: FakeUpstream, stream: bool
) -> None:
    register(client, upstream)
    client.get("/models")
    # The cached list of models expires.
    clock.now += timedelta(minutes=2)
    upstream.requests.clear()
    upstream.models_delay_seconds = upstream.silence_seconds = upstream.delay_seconds = 1.5
    statuses, waiting = [], 0
    for _ in range(60):
        earlier = len(upstream.requests)
        statuses.append(client.post("/chats", json=BODY | {"stream": stream}).status_code)
        waiting += len(upstream.requests) > earlier
        clock.now += timedelta(seconds=1)
    assert set(statuses) == {502, 504}
    assert 2 <= waiting <= 60 / 15

    upstream.models_delay_seconds = upstream.silence_seconds = upstream.delay_seconds = 0
    clock.now += timedelta(seconds=20)
    assert client.post("/chats", json=BODY).status_code == 201
    assert client.post("/chats", json=BODY).status_code == 201


@pytest.mark.row("X-6")
def test_a_named_model_is_called_when_the_list_of_models_fails(client: TestClient, upstream: FakeUpstream) -> None:
    upstream.models_status = 500
    register(client, upstream)
    probed = len(upstream.requests)
    for _ in range(5):
        assert client.post("/chats", json=BODY).status_code == 201
    # After three failures, the list is not read.
    assert len(upstream.requests) - probed - len(upstream.calls()) == 3


@pytest.mark.row("X-6")
def test_a_stream_uses_the_fallback_model_when_the_first_model_sends_nothing(
    client: TestClient, upstream: FakeUpstream
) -> None:
    register(client, upstream, fallback_models=["spare"])
    upstream.silence_seconds = 1.5

    def script(body: dict[str, Any]) -> str:
        upstream.silence_seconds = 1.5 if body["model"] == "small" else 0
        return "From the spare."

    upstream.script = script
    with client.stream("POST", "/chats", json=BODY | {"stream": True}) as response:
        lines = [line for line in response.iter_lines() if line]
    assert '"model":"spare"' in lines[0]
    assert lines[-1] == "data: [DONE]"


def test_a_busy_model_is_replaced_by_its_fallback_and_called_again_for_the_next_request(
    client: TestClient, upstream: FakeUpstream
) -> None:
    register(client, upstream, fallback_models=["spare"])
    upstream.script = lambda body: Refusal(429) if body["model"] == "small" else "From the spare."
    for _ in range(5):
        assert client.post("/chats", json=BODY).json()["model"] == "spare"
    assert len([body for body in upstream.calls() if body["model"] == "small"]) == 5
    upstream.script = lambda _: Refusal(429)
    busy = client.post("/chats", json=BODY)
    assert (busy.status_code, busy.headers["retry-after"]) == (429, "5")


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_request_that_the_server_rejects_is_an_error_of_the_caller(
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
