"""Tests of several choices, of tools in the forms that client libraries send, and of messages that they send back."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.fixtures.upstream import FakeUpstream, Refusal
from tests.functional.chats.helpers import QUESTION, events, logs

PATH = "/v1/chat/completions"
ADDRESS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
NESTED = {
    "$defs": {
        "Address": ADDRESS,
        "Person": {"type": "object", "properties": {"home": {"$ref": "#/$defs/Address"}}},
    },
    "type": "object",
    "properties": {
        "people": {"type": "array", "items": {"$ref": "#/$defs/Person"}},
        "office": {"$ref": "#/$defs/Address", "description": "where they work"},
        "definitions": {"type": "string"},
    },
}
INLINED = {
    "type": "object",
    "properties": {
        "people": {"type": "array", "items": {"type": "object", "properties": {"home": ADDRESS}}},
        "office": {**ADDRESS, "description": "where they work"},
        "definitions": {"type": "string"},
    },
}
RECURSIVE = {
    "$defs": {"Node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}}},
    "type": "object",
    "properties": {"first": {"$ref": "#/$defs/Node"}},
}


def complete(client: TestClient, **body: Any) -> Any:
    return client.post(PATH, json={"model": "small", "messages": [QUESTION], **body})


def tool(parameters: dict[str, Any], name: str = "add") -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


@pytest.mark.row("GW-7")
def test_several_choices_are_calls_of_their_own(chatting: TestClient, upstream: FakeUpstream) -> None:
    numbers = iter("abc")
    upstream.script = lambda _: f"answer {next(numbers)}"
    completion = complete(chatting, n=3).json()
    assert [each["index"] for each in completion["choices"]] == [0, 1, 2]
    assert {each["message"]["content"] for each in completion["choices"]} == {"answer a", "answer b", "answer c"}
    assert completion["usage"] == {"prompt_tokens": 12, "completion_tokens": 6, "total_tokens": 18}
    assert len(logs(chatting)) == 3
    assert "n" not in upstream.calls()[-1]


@pytest.mark.row("GW-7")
def test_several_choices_are_streamed_with_their_index(chatting: TestClient, upstream: FakeUpstream) -> None:
    received = events(chatting, PATH, model="small", n=2, stream_options={"include_usage": True})
    chunks = received[:-1]
    texts = {0: "", 1: ""}
    for chunk in chunks:
        for choice in chunk["choices"]:
            texts[choice["index"]] += choice["delta"].get("content") or ""
    assert texts == {0: "Hello there.", 1: "Hello there."}
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert [chunk["usage"]["total_tokens"] for chunk in chunks if "usage" in chunk] == [12]
    assert len(logs(chatting)) == 2


@pytest.mark.row("GW-7")
@pytest.mark.parametrize("stream", [False, True])
def test_one_failed_choice_fails_the_request_and_ends_the_others(
    chatting: TestClient, upstream: FakeUpstream, stream: bool
) -> None:
    numbers = iter(range(8))
    upstream.script = lambda _: Refusal(400) if next(numbers) == 0 else "word " * 50
    upstream.pause_seconds = 0.01
    response = complete(chatting, n=3, stream=stream)
    assert response.status_code == 400 or '"error"' in response.text
    assert len(logs(chatting)) >= len(upstream.calls())


@pytest.mark.row("GW-7")
def test_several_choices_are_not_stored(chatting: TestClient, upstream: FakeUpstream) -> None:
    assert complete(chatting, n=2, store=True).status_code == 400


@pytest.mark.row("GW-7")
@pytest.mark.parametrize("calls", ["native", "emulated"])
def test_definitions_in_the_parameters_of_tools_are_inlined(
    chatting: TestClient, upstream: FakeUpstream, calls: str
) -> None:
    chatting.put("/clusters", json={"tool_calls": calls})
    upstream.script = lambda _: '{"content": "Hi"}'
    assert complete(chatting, tools=[tool(NESTED)]).status_code == 200
    sent = upstream.calls()[-1]
    if calls == "native":
        assert sent["tools"] == [tool(INLINED)]
    else:
        call = sent["response_format"]["json_schema"]["schema"]["anyOf"][1]
        assert call["properties"]["arguments"] == INLINED


@pytest.mark.row("GW-7")
def test_a_schema_that_refers_to_itself_stays_as_it_is(chatting: TestClient, upstream: FakeUpstream) -> None:
    complete(chatting, tools=[tool(RECURSIVE)])
    assert upstream.calls()[-1]["tools"] == [tool(RECURSIVE)]
    chatting.put("/clusters", json={"tool_calls": "emulated"})
    refused = complete(chatting, tools=[tool(RECURSIVE)])
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "tools.0.function.parameters")


@pytest.mark.row("GW-7")
def test_a_schema_that_would_grow_without_end_stays_as_it_is(chatting: TestClient, upstream: FakeUpstream) -> None:
    layers = {
        f"L{i}": {"properties": {"a": {"$ref": f"#/$defs/L{i + 1}"}, "b": {"$ref": f"#/$defs/L{i + 1}"}}}
        for i in range(16)
    }
    bomb = {
        "$defs": {**layers, "L16": {"type": "string"}},
        "type": "object",
        "properties": {"x": {"$ref": "#/$defs/L0"}},
    }
    complete(chatting, tools=[tool(bomb)], max_tokens=9)
    assert upstream.calls()[-1]["tools"] == [tool(bomb)]


@pytest.mark.row("GW-7")
def test_allowed_and_custom_tools_are_passed_where_the_server_can(chatting: TestClient, upstream: FakeUpstream) -> None:
    tools = [tool({"type": "object"}, "add"), tool({"type": "object"}, "drop")]
    listed = [{"type": "function", "function": {"name": "drop"}}]
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": listed}}
    custom = {"type": "custom", "custom": {"name": "code"}}
    complete(chatting, tools=[*tools, custom], tool_choice=choice)
    assert upstream.calls()[-1]["tools"] == [*tools, custom]
    assert upstream.calls()[-1]["tool_choice"] == choice

    chatting.put("/clusters", json={"tool_calls": "emulated"})
    upstream.script = lambda _: '{"name": "drop", "arguments": {}}'
    completion = complete(chatting, tools=tools, tool_choice=choice).json()
    assert completion["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "drop"
    (allowed,) = upstream.calls()[-1]["response_format"]["json_schema"]["schema"]["anyOf"]
    assert allowed["properties"]["name"] == {"const": "drop"}
    unknown = {"mode": "auto", "tools": [{"type": "function", "function": {"name": "other"}}]}
    refused = complete(chatting, tools=tools, tool_choice={"type": "allowed_tools", "allowed_tools": unknown})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "tool_choice")


@pytest.mark.row("GW-7")
@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": None},
        {"role": "assistant", "content": None, "refusal": "No."},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "type": "function", "function": {"name": "a"}}],
        },
        {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": {"name": "a"}}]},
        {"role": "assistant", "content": ""},
    ],
)
def test_an_assistants_message_is_taken_back_as_it_was_given(
    chatting: TestClient, upstream: FakeUpstream, message: dict[str, Any]
) -> None:
    assert complete(chatting, messages=[QUESTION, message, QUESTION]).status_code == 200
    assert upstream.calls()[-1]["messages"][1] == message
    assert complete(chatting, messages=[{"role": "user", "content": None}]).status_code == 400
