"""How servers stream: options that they refuse, and streams that wait for the guard."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from functions.chats import event_streams
from tests.fixtures.scripted_server import DONE, Body, ScriptedServer, delta, http, message, pieces, scripted, stream
from tests.functional.chats.helpers import guard_script

REFUSALS = {
    "OpenAI": b'{"error": {"message": "Unrecognized request argument supplied: stream_options", "code": null}}',
    "FastAPI": b'{"detail": [{"loc": ["body", "stream_options"], "msg": "extra fields not permitted"}]}',
    "words": b"unknown field: stream_options",
}


@pytest.fixture
def server(client: TestClient) -> Iterator[ScriptedServer]:
    with scripted() as server:
        cluster = {"ingress_url": server.url, "manager_url": server.url}
        client.post("/clusters", json=cluster).raise_for_status()
        yield server


@pytest.mark.row("GW-2")
@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("path", ["/chats", "/v1/chat/completions"])
def test_a_server_that_refuses_stream_options_is_asked_without_them_and_remembered(
    client: TestClient, server: ScriptedServer, path: str, refusal: str
) -> None:
    def answer(body: Body) -> bytes:
        if "stream_options" in body:
            return http(REFUSALS[refusal], status=b"400 Bad Request")
        return stream(delta("Hello."), delta(reason="stop"), DONE)

    server.answer = answer
    body = {"messages": [{"role": "user", "content": "Hi"}], "model": "small", "stream": True}
    for _ in range(2):
        assert "Hello." in client.post(path, json=body).text
    asked = ["stream_options" in each for each in server.requests if each]
    assert asked == [True, False, False]
    assert {row["status"] for row in client.get("/inference-logs").json()["data"]} == {"success"}


@pytest.mark.row("GW-2")
@pytest.mark.parametrize("path", ["/chats", "/v1/chat/completions"])
def test_a_stream_that_waits_for_the_guard_is_kept_alive_by_comments(
    client: TestClient, server: ScriptedServer, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_streams, "QUIET_SECONDS", 0.02)
    guard = guard_script(lambda text: "bomb" in text)

    def answer(body: Body) -> bytes | list[bytes]:
        if "response_format" in body:
            return http(message(guard(body)))
        return pieces(*map(delta, ("A ", "long ", "sentence.")), delta(reason="stop"), DONE)

    server.answer, server.pause_seconds = answer, 0.1
    body = {"messages": [{"role": "user", "content": "Hi"}], "model": "small", "stream": True, "guard_enabled": True}
    with client.stream("POST", path, json=body) as response:
        assert response.status_code == 200
        lines = [line for line in response.iter_lines() if line]
    first = next(index for index, line in enumerate(lines) if line.startswith("data: "))
    assert first >= 3
    assert set(lines[:first]) == {": waiting"}
    assert "A long sentence." in lines[first]
    assert lines[-1] == "data: [DONE]"
