"""A failure of a server keeps its class: status, type, code, words and the time to wait, in OpenAI's shapes."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from fastapi.testclient import TestClient

from shared.clock import utc_now
from tests.fixtures.scripted_server import ScriptedServer, delta, http, scripted, stream

OPENAI = "/v1/chat/completions"
# Where the time in an hour belongs. The cases are made long before the last of them is sent.
IN_AN_HOUR = b"<in an hour>"


def refused(status: int, error: Any, headers: bytes = b"") -> bytes:
    content = error if isinstance(error, bytes) else json.dumps({"error": error}).encode()
    return http(content, headers, f"{status} Refused".encode())


def said(message: str, **more: Any) -> dict[str, Any]:
    return {"message": message, **more}


@dataclass(frozen=True)
class Case:
    """An answer, and the failure that clients must see. ``code`` is the one of ``/chats``."""

    answer: bytes
    status: int
    code: str
    openai: tuple[str, str | None]
    words: str = ""
    wait: str | None = None
    param: str | None = None


OVERFLOW = ("invalid_request_error", "context_length_exceeded")
QUOTA = ("insufficient_quota", "insufficient_quota")
BUSY = ("rate_limit_error", "rate_limit_exceeded")
BROKEN = ("server_error", "cluster_error")
TOKEN = ("server_error", "cluster_refused")
REJECTED = ("invalid_request_error", "cluster_rejected")
OVERLOADED = ("server_error", "cluster_overloaded")
REGION = ("permission_error", "cluster_refused")
CONFLICT = ("invalid_request_error", "cluster_conflict")
TOO_LATE = ("server_error", "cluster_timeout")
MODERATED = ("invalid_request_error", "content_policy_violation")
CASES = {
    "400": Case(
        refused(400, said("bad stop", type="invalid_request_error", code="invalid_value", param="stop[0]")),
        400, "cluster_rejected", ("invalid_request_error", "invalid_value"), "bad stop", param="stop[0]",
    ),
    "401 names no token": Case(
        refused(401, said("Incorrect key: sk-secret")), 502, "cluster_refused", TOKEN, "token"
    ),
    "402": Case(refused(402, said("Insufficient credits", code=402)), 402, "cluster_quota", QUOTA, "credit"),
    "403 of a token": Case(
        refused(403, said("Invalid API key")), 502, "cluster_refused", TOKEN, "token"
    ),
    "403 of a proxy": Case(
        refused(403, b"<html>Forbidden</html>"), 502, "cluster_refused", TOKEN, "token"
    ),
    "403 of moderation": Case(
        refused(403, said("Your input was flagged", metadata={"reasons": ["violence"]})),
        403, "cluster_moderated", MODERATED, "flagged",
    ),
    "403 of a region": Case(
        refused(403, said("Country not supported")), 403, "cluster_refused", REGION, "Country"
    ),
    "404 of a model": Case(
        refused(404, said("The model `small` does not exist", code="model_not_found")),
        404, "model_not_found", ("invalid_request_error", "model_not_found"), "does not exist",
    ),
    "404 of an address": Case(
        refused(404, b'{"detail": "Not Found"}'), 502, "cluster_refused", TOKEN, "404"
    ),
    "409": Case(
        refused(409, said("Another call changes it")), 409, "cluster_conflict", CONFLICT
    ),
    "422 of FastAPI": Case(
        refused(422, b'{"detail": [{"loc": ["body", "seed"], "msg": "no integer"}]}'),
        400, "cluster_rejected", REJECTED, "no integer",
    ),
    "429": Case(refused(429, said("slow down")), 429, "cluster_busy", BUSY, "slow down", "5"),
    "429 with seconds": Case(refused(429, said("slow"), b"Retry-After: 7\r\n"), 429, "cluster_busy", BUSY, wait="7"),
    "429 with a fraction": Case(refused(429, said("a"), b"Retry-After: 0.2\r\n"), 429, "cluster_busy", BUSY, wait="1"),
    "429 with milliseconds": Case(
        refused(429, said("slow"), b"Retry-After: 60\r\nretry-after-ms: 1500\r\n"), 429, "cluster_busy", BUSY, wait="2"
    ),
    "429 with a date": Case(
        refused(429, said("slow"), b"Retry-After: " + IN_AN_HOUR + b"\r\n"), 429, "cluster_busy", BUSY, wait="date"
    ),
    "429 with a date of the past": Case(
        refused(429, said("a"), b"Retry-After: Wed, 21 Oct 2015 07:28:00 GMT\r\n"), 429, "cluster_busy", BUSY, wait="0"
    ),
    "429 with nonsense": Case(
        refused(429, said("slow"), b"Retry-After: \xd9\xa3\r\n"), 429, "cluster_busy", BUSY, wait="5"
    ),
    "429 of a quota": Case(
        refused(429, said("You exceeded your current quota", type="insufficient_quota", code="insufficient_quota")),
        429, "cluster_quota", QUOTA, "quota",
    ),
    "500": Case(refused(500, said("oops")), 502, "cluster_error", BROKEN, "oops"),
    "500 of an image": Case(
        refused(500, said("image input is not supported - hint: provide the mmproj")),
        400, "cluster_rejected", REJECTED, "image",
    ),
    "503 with a wait": Case(
        refused(503, said("loading"), b"Retry-After: 3\r\n"),
        503, "cluster_overloaded", OVERLOADED, "loading", "3",
    ),
    "504": Case(refused(504, b"timeout"), 504, "cluster_timeout", TOO_LATE),
    "529": Case(
        refused(529, said("Overloaded", type="overloaded_error")),
        503, "cluster_overloaded", OVERLOADED,
    ),
    "an overflow of OpenAI": Case(
        refused(400, said("This model's maximum context length is 8 tokens.", code="context_length_exceeded")),
        400, "context_length_exceeded", OVERFLOW, "maximum context length", param="messages",
    ),
    "an overflow of llama.cpp": Case(
        refused(400, said("exceeds the available context size", type="exceed_context_size_error", code=400)),
        400, "context_length_exceeded", OVERFLOW, "maximum context length", param="messages",
    ),
    "an overflow of Anthropic": Case(
        refused(400, said("prompt is too long: 9 tokens > 8 maximum", type="invalid_request_error")),
        400, "context_length_exceeded", OVERFLOW, "maximum context length", param="messages",
    ),
    "an error that is a text": Case(
        refused(429, b'{"error": "Model too busy", "error_type": "busy"}'), 429, "cluster_busy", BUSY, "too busy", "5"
    ),
    "an error in a list": Case(
        refused(429, b'[{"error": {"code": 429, "message": "exhausted", "status": "RESOURCE_EXHAUSTED"}}]'),
        429, "cluster_busy", BUSY, "exhausted", "5",
    ),
    "an error that is nested deeply": Case(
        refused(500, b"[" * 5000), 502, "cluster_error", BROKEN
    ),
    "half of a pair in an error": Case(
        refused(400, b'{"error": {"message": "\\ud83d"}}'),
        400, "cluster_rejected", REJECTED, "�",
    ),
}  # fmt: skip
# Errors of calls that succeed, as the server names them.
STATED: dict[str, tuple[Any, int, str, tuple[str, str]]] = {
    "a number": (said("slow down", code=429), 429, "cluster_busy", BUSY),
    "digits": (said("no credit", code="402"), 402, "cluster_quota", QUOTA),
    "a code": (said("slow down", code="rate_limit_exceeded"), 429, "cluster_busy", BUSY),
    "a quota": (said("none left", code="insufficient_quota"), 429, "cluster_quota", QUOTA),
    "a type": (
        said("Overloaded", type="overloaded_error"),
        503,
        "cluster_overloaded",
        OVERLOADED,
    ),
    "an overflow": (
        said("maximum context length is 8", code="context_length_exceeded"),
        400,
        "context_length_exceeded",
        OVERFLOW,
    ),
    "a text": ("oops", 502, "cluster_error", BROKEN),
    "no reason": ({"a": 1}, 502, "cluster_error", BROKEN),
}


@pytest.fixture
def server(client: TestClient) -> Iterator[ScriptedServer]:
    with scripted() as server:
        register(client, server)
        yield server


def register(client: TestClient, server: ScriptedServer) -> None:
    """Registers the server. A second registration closes its circuits."""
    cluster = {"ingress_url": server.url, "manager_url": server.url, "default_model": "small"}
    if client.put("/clusters", json=cluster).status_code == 404:
        client.post("/clusters", json=cluster).raise_for_status()


@dataclass
class Asker:
    client: TestClient
    server: ScriptedServer
    path: str
    is_stream: bool
    text: str = "Hi"
    rows: list[Any] = field(default_factory=list)

    def ask(self, answer: bytes) -> Any:
        self.server.answer = answer
        body = {"messages": [{"role": "user", "content": self.text}], "model": "small", "stream": self.is_stream}
        response = self.client.post(self.path, json=body)
        self.rows = self.client.get("/inference-logs", params={"page_size": 1}).json()["data"]
        register(self.client, self.server)
        return response


@pytest.fixture(params=[(path, is_stream) for path in ("/chats", OPENAI) for is_stream in (False, True)], ids=str)
def asker(request: pytest.FixtureRequest, client: TestClient, server: ScriptedServer) -> Asker:
    return Asker(client, server, *request.param)


def check(body: dict[str, Any], path: str, code: str, openai: tuple[str, str | None], words: str = "") -> None:
    if path == OPENAI:
        assert set(body["error"]) == {"message", "type", "param", "code"}
        assert (body["error"]["type"], body["error"]["code"], words in body["error"]["message"]) == (*openai, True)
        assert "sk-secret" not in body["error"]["message"]
    else:
        assert (body["code"], words in body["error"]) == (code, True)


@pytest.mark.row("GW-3")
def test_a_refusal_keeps_its_class(asker: Asker) -> None:
    for name, case in CASES.items():
        in_an_hour = format_datetime(utc_now() + timedelta(hours=1), usegmt=True).encode()
        response = asker.ask(case.answer.replace(IN_AN_HOUR, in_an_hour))
        assert response.status_code == case.status, (name, response.text)
        check(response.json(), asker.path, case.code, case.openai, case.words)
        if asker.path == OPENAI:
            assert response.json()["error"]["param"] == case.param, name
        wait = response.headers.get("Retry-After")
        assert wait == case.wait or (case.wait == "date" and 3500 <= int(wait) <= 3600), (name, wait)
        assert (asker.rows[0]["status"], asker.rows[0]["total_tokens"]) == ("error", 0), name


@pytest.mark.row("GW-3")
def test_an_error_in_a_response_that_looks_like_a_success_keeps_its_class(asker: Asker) -> None:
    for name, (error, status, code, openai) in STATED.items():
        content = json.dumps({"error": error, "choices": []}).encode()
        shapes = {"a body": http(content), "an event": stream(b"data: " + content + b"\n\n")}
        if isinstance(error, dict) and "message" in error:
            shapes["a choice"] = http(json.dumps({"choices": [{"message": {"content": ""}, "error": error}]}).encode())
            shapes["vLLM's object"] = http(json.dumps({"object": "error", **error}).encode())
            named = json.dumps(error).encode()
            shapes["an event of its own"] = stream(b"event: error\ndata: " + named + b"\n\n")
        for shape, answer in shapes.items():
            if "event" in shape and not asker.is_stream:
                continue
            response = asker.ask(answer)
            assert response.status_code == status, (name, shape, response.text)
            check(response.json(), asker.path, code, openai)
            assert (asker.rows[0]["status"], asker.rows[0]["total_tokens"]) == ("error", 0), (name, shape)


@pytest.mark.row("GW-3", "GW-5")
@pytest.mark.parametrize("path", ["/chats", OPENAI])
def test_an_error_in_the_middle_of_a_stream_keeps_its_class(
    client: TestClient, server: ScriptedServer, path: str
) -> None:
    asker = Asker(client, server, path, is_stream=True)
    for error, _, code, openai in STATED.values():
        response = asker.ask(stream(delta("Hello."), b"data: " + json.dumps({"error": error}).encode() + b"\n\n"))
        last = [line for line in response.text.split("\n\n") if line][-1]
        check(json.loads(last.removeprefix("data: ")), path, code, openai)
        assert asker.rows[0]["status"] == "error"
        assert asker.rows[0]["output_tokens"] == 2  # what was heard
