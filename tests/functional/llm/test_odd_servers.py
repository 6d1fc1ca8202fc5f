"""Whatever a space's own server answers: the response is no error of ours, and the log row is kept."""

import gzip
import json

import pytest
from fastapi.testclient import TestClient

from tests.fixtures.scripted_server import DONE, Body, event, http, message, scripted, stream

CHAT = {"messages": [{"role": "user", "content": "Hello"}], "model": "small"}
DEEP = b"[" * 5000 + b"]" * 5000


BODIES = {
    "nothing": b"",
    "no JSON": b"<html>",
    "null": b"null",
    "deep nesting": DEEP,
    "deep choices": b'{"choices": [{"message": {"content": "x", "more": ' + b"[" * 60 + b"]" * 60 + b"}}]}",
    "choices are a number": b'{"choices": 5}',
    "a choice is a number": b'{"choices": [5]}',
    "a second choice is a number": b'{"choices": [{"message": {"content": "x"}}, 5]}',
    "no finish reason": b'{"choices": [{"message": {"content": "x"}}]}',
    "an odd finish reason": b'{"choices": [{"message": {"content": "x"}, "finish_reason": {"a": 1}}]}',
    "content is a number": message(content=5),
    "content is a list": message(content=[{"type": "text", "text": "x"}]),
    "a function is null": message(tool_calls=[{"id": "1", "function": None}]),
    "arguments are an object": message(tool_calls=[{"id": "1", "function": {"name": "f", "arguments": {}}}]),
    "a name is a list": message(name=["x"]),
    "half of a surrogate pair": b'{"choices": [{"message": {"content": "Hi \\ud83d"}}]}',
    "half of a pair in a key": b'{"choices": [{"message": {"content": "Hi", "\\ud83d": 1}}]}',
    "an empty key": b'{"choices": [{"message": {"content": "Hi", "": 1}}]}',
    "NaN": b'{"choices": [{"message": {"content": "x"}, "logprobs": NaN}], "usage": {"prompt_tokens": NaN}}',
    "infinity": b'{"choices": [{"message": {"content": "x", "more": 1e999}}], "usage": {"prompt_tokens": 1e40}}',
    "a huge number": b'{"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": ' + b"9" * 60 + b"}}",
    "a longer number": b'{"choices": [' + b"9" * 6000 + b"]}",
    "usage is a list": b'{"choices": [{"message": {"content": "x"}}], "usage": [1]}',
    "bytes that are no text": b'{"choices": [{"message": {"content": "\xff\xfe"}}]}',
}
ANSWERS = {
    **{name: http(body) for name, body in BODIES.items()},
    "an error of deep nesting": http(DEEP, status=b"500 Oops"),
    "an error without a text": http(b"", status=b"500 Oops"),
    "an error with half of a pair": http(b'{"error": {"message": "\\ud83d"}}', status=b"400 Bad"),
    "an odd pause": http(b"{}", b"Retry-After: \xd9\xa3\r\n", b"429 Busy"),
    "another content type": http(message(), kind=b"image/png; charset=nowhere"),
    "broken gzip": http(b"no gzip", b"Content-Encoding: gzip\r\n"),
    "gzip": http(gzip.compress(message()), b"Content-Encoding: gzip\r\n"),
    "an unknown encoding": http(message(), b"Content-Encoding: zstd\r\n"),
    "broken chunks": http(b"zz\r\n{}\r\n", b"Transfer-Encoding: chunked\r\n"),
    "a cut body": http(message())[:-20],
    "a cut header": http(message())[:30],
    "no HTTP": b"SSH-2.0-OpenSSH\r\n",
    "a long header": http(b"{}", b"X-Long: " + b"x" * 100_000 + b"\r\n"),
    "a broken header": http(b"{}", b"No colon\r\n\x00: x\r\n"),
    "two lengths": http(b"{}", b"Content-Length: 5\r\n"),
    "a negative length": http(b"{}").replace(b"Content-Length: 2", b"Content-Length: -2"),
    "a status beyond all": http(b"{}", status=b"999 What"),
    "a status that is no number": http(b"{}", status=b"abc"),
    "an early hint without an end": b"HTTP/1.1 103 Early Hints\r\n\r\n",
    "a redirect": http(b"", b"Location: http://169.254.169.254/\r\n", b"302 Found"),
    "a stream with half of a pair": stream(
        event({"delta": {"content": "Hi \ud83d"}}), event({"delta": {"content": "\ude00"}}), DONE
    ),
    "a stream with NaN": stream(
        b'data: {"choices": [{"delta": {"content": "x"}, "logprobs": NaN}]}\n\ndata: [DONE]\n\n'
    ),
    "a stream of wrong types": stream(event(5), event({"delta": 5}), DONE),
    "a stream of other choices": stream(b'data: {"choices": 5}\n\n', DONE),
    "a stream with an odd reason": stream(event({"delta": {}, "finish_reason": [1]}), DONE),
    "a stream with huge usage": stream(event({"delta": {"content": "x"}}, usage={"prompt_tokens": 10**40})),
    "a stream of deep nesting": stream(b"data: " + DEEP + b"\n\n"),
    "a stream with an error": stream(event({"delta": {"content": "x"}}), b'data: {"error": "\\ud83d"}\n\n'),
    "a stream of nothing": stream(DONE),
    "a stream that is cut": stream(event({"delta": {"content": "x"}}))[:-5],
}


def requests() -> dict[str, tuple[str, str, Body | None]]:
    facts = {"client": {"name": "Ada"}, "insight_spec": {"insight": "travels"}, "product": {"name": "Card"}}
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    return {
        "stream": ("POST", "/chats", CHAT | {"stream": True}),
        "guard": ("POST", "/chats", CHAT | {"guard_enabled": True}),
        "OpenAI": ("POST", "/v1/chat/completions", CHAT | {"tools": tools}),
        "OpenAI's stream": ("POST", "/v1/chat/completions", CHAT | {"stream": True}),
        "argument": ("POST", "/arguments", {**facts, "model": "small"}),
        "models": ("GET", "/models", None),
        "status": ("GET", "/clusters", None),
    }


@pytest.mark.row("GW-1", "SE-4")
@pytest.mark.parametrize("name", requests())
def test_no_answer_of_a_server_is_an_error_of_ours(
    client: TestClient, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    method, path, body = requests()[name]
    with scripted() as server:
        address = {"ingress_url": server.url, "manager_url": server.url}
        cluster = {**address, "default_model": "small"}
        client.post("/clusters", json=cluster).raise_for_status()
        logged = 0
        for case, content in ANSWERS.items():
            server.answer = content
            capsys.readouterr()
            response = client.request(method, path, json=body)
            printed = capsys.readouterr().out
            assert response.status_code in (200, 201, 400, 404, 429, 502, 504), (case, response.text)
            assert '"Failures"' not in printed, (case, printed)
            assert '"ServerErrors"' not in printed, (case, printed)
            if response.text and response.headers["content-type"] == "application/json":
                json.loads(response.text, parse_constant=_refuse)
            rows = client.get("/inference-logs", params={"page_size": 1}).json()["count"]
            assert rows > logged or method == "GET" or "circuit" in response.text, case
            logged = rows
            client.put("/clusters", json=address)  # closes the circuits


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")
