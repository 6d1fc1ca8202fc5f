"""Circuits: requests of callers never open one that others use. Probes and connections do."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

import shared.llm.upstream
from functions.api import build_api
from shared.resources import Resources
from shared.settings import Settings
from tests.fixtures.clocks import MovableClock
from tests.fixtures.grants import watched
from tests.fixtures.upstream import Body, FakeUpstream, Refusal, served

PROBE = "Hi"


@pytest.fixture
def shared_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeUpstream]:
    monkeypatch.setattr(shared.llm.upstream, "LIST_SECONDS", 0.3)
    with served(FakeUpstream(models=[{"id": "small"}, {"id": "spare"}])) as upstream:
        yield upstream


@pytest.fixture
def settings(settings: Settings, shared_server: FakeUpstream) -> Settings:
    more = {"default_cluster_url": shared_server.url, "upstream_timeout_seconds": 0.3}
    return settings.model_copy(update=more)


@dataclass
class Neighbours:
    """Two tenants who use the deployment's server, each with a function of their own."""

    loud: TestClient
    quiet: TestClient
    server: FakeUpstream

    def ask(self, client: TestClient, text: str, **more: Any) -> int:
        body = {"messages": [{"role": "user", "content": text}], "model": "small", **more}
        return client.post("/chats", json=body).status_code

    @property
    def probes(self) -> int:
        return len([body for body in self.server.calls() if body["messages"][-1]["content"] == PROBE])


@pytest.fixture
def neighbours(
    client: TestClient, other_client: TestClient, settings: Settings, clock: MovableClock, shared_server: FakeUpstream
) -> Neighbours:
    loud, quiet = (
        TestClient(watched(build_api(Resources(settings, clock))), headers=dict(each.headers))
        for each in (client, other_client)
    )
    return Neighbours(loud, quiet, shared_server)


def fails_if(condition: Callable[[str], bool]) -> Callable[[Body], Any]:
    return lambda body: Refusal(500) if condition(body["messages"][-1]["content"]) else "Hello."


@pytest.mark.row("GW-4", "SE-4")
def test_bad_requests_of_one_tenant_change_nothing_for_another(neighbours: Neighbours) -> None:
    neighbours.server.script = fails_if(lambda text: text.startswith("bad"))
    for number in range(12):
        assert neighbours.ask(neighbours.loud, f"bad {number}") == 502
        assert neighbours.ask(neighbours.quiet, f"good {number}") == 201
    # The loud tenant pays for the probes that clear it.
    assert neighbours.probes == 3
    assert neighbours.ask(neighbours.loud, "good") == 201


@pytest.mark.row("GW-4")
def test_the_same_bad_request_again_and_again_causes_no_probe(neighbours: Neighbours) -> None:
    neighbours.server.script = fails_if(lambda text: text == "bad")
    assert {neighbours.ask(neighbours.loud, "bad") for _ in range(6)} == {502}
    assert neighbours.probes == 0


@pytest.mark.row("GW-4", "SE-4")
def test_slow_requests_of_one_tenant_change_nothing_for_another(
    neighbours: Neighbours, monkeypatch: pytest.MonkeyPatch
) -> None:
    def script(body: Body) -> str:
        neighbours.server.silence_seconds = 2 if body["messages"][-1]["content"] == "long" else 0
        return "Hello."

    neighbours.server.script = script
    for _ in range(3):
        assert neighbours.ask(neighbours.loud, "long", stream=True) == 504
        assert neighbours.ask(neighbours.quiet, "good", stream=True) == 200


@pytest.mark.row("GW-4")
def test_a_model_that_fails_a_probe_gets_no_calls_of_anybody(neighbours: Neighbours, clock: MovableClock) -> None:
    neighbours.server.script = fails_if(lambda _: True)
    for number in range(3):
        assert neighbours.ask(neighbours.loud, f"first {number}") == 502
    assert neighbours.ask(neighbours.loud, "fourth") == 503
    assert neighbours.probes == 1
    calls = len(neighbours.server.calls())
    clock.now += timedelta(seconds=2)
    assert neighbours.ask(neighbours.quiet, "mine") == 503
    assert len(neighbours.server.calls()) == calls

    neighbours.server.script = fails_if(lambda text: text.startswith("bad"))
    clock.now += timedelta(seconds=15)
    # The first call after the pause sends a probe before its own content, which cannot keep the circuit open.
    assert neighbours.ask(neighbours.loud, "bad again") == 502
    assert neighbours.ask(neighbours.quiet, "mine") == 201


@pytest.mark.row("GW-4")
def test_a_shared_server_that_cannot_be_reached_is_a_failure_of_ours(
    client: TestClient, settings: Settings, clock: MovableClock
) -> None:
    unreachable = settings.model_copy(
        update={"default_cluster_url": "http://127.0.0.1:9", "upstream_timeout_seconds": 3}
    )
    client = TestClient(watched(build_api(Resources(unreachable, clock))), headers=dict(client.headers))
    body = {"messages": [{"role": "user", "content": "Hello"}], "model": "small"}
    codes = [(each.status_code, each.json()["code"]) for each in (client.post("/chats", json=body) for _ in range(2))]
    assert codes == [(503, "cluster_unreachable"), (503, "circuit_open")]


@pytest.mark.row("GW-4")
def test_an_image_for_a_model_that_reads_only_text_is_refused_before_a_call(neighbours: Neighbours) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    body = {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, image]}],
        "model": "small",
    }
    assert neighbours.loud.post("/chats", json=body).status_code == 201  # the server does not say what it reads
    capabilities: list[Any] = [
        ({"architecture": {"input_modalities": ["text"]}}, 400),
        ({"architecture": {"input_modalities": ["text", "image"]}}, 201),
        ({"capabilities": {"vision": False}}, 400),
        ({"capabilities": ["completion"]}, 400),
        ({"capabilities": ["completion", "multimodal"]}, 201),
        ({"capabilities": 5, "architecture": "transformer"}, 201),
    ]
    for listed, status in capabilities:
        with served(FakeUpstream(models=[{"id": "small", **listed}])) as own:
            address = {"ingress_url": own.url, "manager_url": own.url}
            assert neighbours.loud.post("/clusters", json=address).status_code == 201
            response = neighbours.loud.post("/chats", json=body)
            assert response.status_code == status, (listed, response.text)
            assert len(own.calls()) == (status == 201)
            neighbours.loud.delete("/clusters")


@pytest.mark.row("GW-4", "SE-4")
def test_prompts_of_two_spaces_share_no_cache_of_a_server_that_keeps_them_apart(neighbours: Neighbours) -> None:
    neighbours.server.models = [{"id": "small", "owned_by": "vllm"}]
    for client in (neighbours.loud, neighbours.loud, neighbours.quiet):
        assert neighbours.ask(client, "Hello") == 201
    openai = {"messages": [{"role": "user", "content": "Hello"}], "model": "small", "cache_salt": "of another space"}
    assert neighbours.loud.post("/v1/chat/completions", json=openai).status_code == 200
    salts = [body["cache_salt"] for body in neighbours.server.calls()]
    assert salts[0] == salts[1] == salts[3] != salts[2]
