"""Whatever shape a server gives a completion: whole or streamed, on both addresses, clients read the same."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.fixtures.scripted_server import DONE, ScriptedServer, delta, event, http, message, scripted, stream

END = delta(reason="stop")
TOOLS_END = delta(reason="tool_calls")
CALLS = [("f", '{"n": 1}'), ("f", '{"n": 2}')]


@dataclass(frozen=True)
class Case:
    """The same completion as a whole body and as events, and what clients must read."""

    whole: bytes
    events: Sequence[bytes]
    text: str = "Hello."
    calls: Sequence[tuple[str, str]] = ()
    usage: tuple[int, int] | None = None
    more: Any = None


def call(arguments: Any, **values: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", "arguments": arguments}, **values}


def calls(*given: Any) -> bytes:
    return message(None, tool_calls=list(given))


def part(**values: Any) -> bytes:
    return delta(tool_calls=[values])


def used(prompt: Any, completion: Any, **more: Any) -> dict[str, Any]:
    return {"usage": {"prompt_tokens": prompt, "completion_tokens": completion, **more}}


TIER = {"service_tier": "flex", "system_fingerprint": "fp_1"}
DETAILS = {"prompt_tokens_details": {"cached_tokens": 3}, "completion_tokens_details": {"reasoning_tokens": 2}}
TWO_CALLS = calls(call('{"n": 1}', id="a"), call('{"n": 2}', id="b"))
ONE, TWO = {"name": "f", "arguments": '{"n": 1}'}, {"name": "f", "arguments": '{"n": 2}'}
CASES = {
    "a pair of surrogates in two events": Case(
        b'{"choices": [{"message": {"content": "Hi \\ud83d\\ude00"}}]}',
        [delta("Hi \ud83d"), delta("\ude00"), END, DONE],
        "Hi \N{GRINNING FACE}",
    ),
    "half of a pair": Case(message("Hi \ud83d"), [delta("Hi \ud83d"), END, DONE], "Hi \N{REPLACEMENT CHARACTER}"),
    "half of a pair at the end": Case(message("Hi \ud83d"), [delta("Hi \ud83d", "stop"), DONE], "Hi �"),
    "NaN and infinities": Case(
        b'{"choices": [{"message": {"content": "Hello."}, "logprobs": {"content": [{"logprob": -Infinity}]}}],'
        b' "usage": {"prompt_tokens": NaN, "completion_tokens": 1e40}}',
        [
            b'data: {"choices": [{"delta": {"content": "Hello."}, "logprobs": {"content": [{"logprob": NaN}]}}]}\n\n',
            delta(reason="stop", more=used(10**40, float("inf"))),
            DONE,
        ],
    ),
    "a line break in a string": Case(
        b'{"choices": [{"message": {"content": "a\nb"}}]}', [delta("a\nb"), END, DONE], "a\nb"
    ),
    "an error that is null": Case(
        message(more={"error": None}), [delta("Hello.", more={"error": None}), END, DONE]
    ),
    "other choices are no objects": Case(
        b'{"choices": [{"message": {"content": "Hello."}}, 5, null]}',
        [delta("Hello."), event(5), b'data: {"choices": 5}\n\n', b"data: {}\n\n", END, DONE],
    ),
    "a content of parts": Case(
        message([{"type": "thinking"}, {"type": "text", "text": "Hel"}, {"type": "text", "text": "lo."}]),
        [delta([{"type": "text", "text": "Hello."}]), END, DONE],
    ),
    "a content that is a number": Case(message(5), [delta(5), END, DONE], "5"),
    "a name that is no text": Case(message(name=["x"]), [delta("Hello.", name=["x"]), END, DONE]),
    "a delta that is null": Case(message(), [event({"delta": None}), delta("Hello."), END, DONE]),
    "a finish reason that is no text": Case(
        b'{"choices": [{"message": {"content": "Hello."}, "finish_reason": {"a": 1}}]}',
        [event({"delta": {"content": "Hello."}, "finish_reason": [1]}), END, DONE],
    ),
    "a function that is null": Case(
        message(tool_calls=[{"id": "1", "function": None}]),
        [delta("Hello."), part(index=0, id="1", function=None), END, DONE],
    ),
    "arguments that are an object": Case(
        calls(call({"n": 1}, id="a"), call({"n": 2}, id="b")),
        [part(index=0, **call({"n": 1}, id="a")), part(index=1, **call({"n": 2}, id="b")), TOOLS_END, DONE],
        "", CALLS,
    ),
    "calls without an index": Case(
        TWO_CALLS,
        [part(id="a", function=ONE), part(id="b", function=TWO), TOOLS_END, DONE],
        "", CALLS,
    ),
    "calls with an index of null, in pieces": Case(
        TWO_CALLS,
        [
            part(index=None, id="a", function={"name": "f", "arguments": ""}),
            part(index=None, id="a", function={"arguments": '{"n": 1'}),
            part(index=None, id="b", function={"name": "f", "arguments": '{"n": 2'}),
            part(index=None, id="a", function={"arguments": "}"}),
            part(index=None, id="b", function={"arguments": "}"}),
            TOOLS_END, DONE,
        ],
        "", CALLS,
    ),
    "calls with the same index": Case(
        TWO_CALLS,
        [part(index=0, id="a", function=ONE), part(index=0, id="b", function=TWO), TOOLS_END, DONE],
        "", CALLS,
    ),
    "calls without an id": Case(
        calls(call('{"n": 1}'), call('{"n": 2}', id=None)),
        [delta(tool_calls=[{"function": ONE}, {"function": TWO}]), TOOLS_END, DONE],
        "", CALLS,
    ),
    "calls with a new id and the name in each piece": Case(
        TWO_CALLS,
        [
            part(index=0, id="a", function={"name": "f", "arguments": '{"n": '}),
            part(index=0, id="other", function={"name": None, "arguments": "1"}),
            part(index=0, id="a", function={"name": "f", "arguments": "}"}),
            part(index=1, id="b", function=TWO),
            TOOLS_END, DONE,
        ],
        "", CALLS,
    ),
    "a usage of zero at the end": Case(
        message(more=used(7, 5)), [delta("Hello.", more=used(7, 5)), delta(reason="stop", more=used(0, 0)), DONE],
        usage=(7, 5),
    ),
    "a usage in two parts": Case(
        message(more=used(7, 5)), [delta("Hello.", more=used(7, 0)), END, event(5, **used(None, 5)), DONE],
        usage=(7, 5),
    ),
    "a usage that grows": Case(
        message(more=used(7, 5)), [delta("Hello.", more=used(7, 3)), delta(reason="stop", more=used(7, 5)), DONE],
        usage=(7, 5),
    ),
    "a usage of strange types": Case(
        message(more=used(True, [5])), [delta("Hello.", more=used("7", {})), END, DONE],
    ),
    "details, tier and fingerprint": Case(
        message(more={**used(7, 5, **DETAILS), **TIER}),
        [delta("Hello.", more=TIER), END, event(5, **used(7, 5, **DETAILS), **TIER), DONE],
        usage=(7, 5), more={**DETAILS, **TIER},
    ),
    "details that are no counts": Case(
        message(more={**used(7, 5, prompt_tokens_details=[1]), "service_tier": 5}),
        [delta("Hello."), delta(reason="stop", more=used(7, 5, prompt_tokens_details={"a": None})), DONE],
        usage=(7, 5),
    ),
    "one JSON text for a stream": Case(message(), [message()]),
    "a stream without [DONE]": Case(message(), [delta("Hello."), END]),
    "a choice after the finish reason": Case(
        message(more=used(7, 5)), [delta("Hello."), END, delta(more=used(7, 5))], usage=(7, 5)
    ),
    "a stream that breaks after its finish reason": Case(
        message(), [delta("Hello."), END, b"data: {\"choices\": [{\"delta\""]
    ),
}  # fmt: skip


@pytest.fixture
def server(client: TestClient) -> Any:
    with scripted() as server:
        cluster = {"ingress_url": server.url, "manager_url": server.url, "default_model": "small"}
        client.post("/clusters", json=cluster).raise_for_status()
        yield server


@dataclass
class Read:
    """What a client reads of a completion."""

    text: str
    calls: list[tuple[str, str]]
    usage: dict[str, Any]
    body: dict[str, Any]


def whole(body: dict[str, Any]) -> Read:
    (choice,) = body["choices"]
    found = choice["message"].get("tool_calls") or []
    assert len({each["id"] for each in found}) == len(found)
    functions = [(each["function"]["name"], each["function"]["arguments"]) for each in found]
    return Read(choice["message"]["content"] or "", functions, body["usage"], body)


def joined(text: str) -> Read:
    """Returns a stream as OpenAI's clients join it: by index, every text after the other."""
    *lines, last = [line for line in text.split("\n\n") if line]
    assert last == "data: [DONE]", text
    chunks = [json.loads(line.removeprefix("data: "), parse_constant=_refuse) for line in lines]
    read, found = Read("", [], {}, {}), dict[int, dict[str, str]]()
    for chunk in chunks:
        assert "error" not in chunk, chunk
        read.body |= chunk
        read.usage = chunk.get("usage") or read.usage
        for choice in chunk["choices"]:
            read.text += choice["delta"].get("content") or ""
            for each in choice["delta"].get("tool_calls") or ():
                known = found.setdefault(each["index"], {"id": "", "name": "", "arguments": ""})
                known["id"] += each.get("id") or ""
                for name in ("name", "arguments"):
                    known[name] += each["function"].get(name) or ""
    assert len({each["id"] for each in found.values()} - {""}) == len(found)
    read.calls = [(each["name"], each["arguments"]) for each in found.values()]
    return read


@pytest.mark.row("GW-1", "GW-2", "GW-5")
@pytest.mark.parametrize("path", ["/chats", "/v1/chat/completions"])
@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
def test_clients_read_the_same_from_every_shape(
    client: TestClient, server: ScriptedServer, path: str, is_stream: bool
) -> None:
    read: Callable[[Any], Read] = (lambda response: joined(response.text)) if is_stream else (lambda r: whole(r.json()))
    body = {"messages": [{"role": "user", "content": "Hi"}], "model": "small", "stream": is_stream}
    options = {"stream_options": {"include_usage": True}} if "v1" in path and is_stream else {}
    for name, case in CASES.items():
        server.answer = stream(*case.events) if is_stream else http(case.whole)
        response = client.post(path, json={**body, **options})
        assert response.status_code in (200, 201), (name, response.text)
        found = read(response)
        assert (found.text, found.calls) == (case.text, list(case.calls)), name
        row = client.get("/inference-logs", params={"page_size": 1}).json()["data"][0]
        counts = row["input_tokens"], row["output_tokens"]
        assert (row["status"], counts) == ("success", (found.usage["prompt_tokens"], found.usage["completion_tokens"]))
        if case.usage:
            assert counts == case.usage, name
        assert min(counts) > 0, name
        for key, value in (case.more or {}).items():
            assert {**found.body, **found.usage}[key] == value, name


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")
