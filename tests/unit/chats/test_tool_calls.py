import json
from typing import Any

import jsonschema_rs
import pytest

from functions.chats.tool_calls import emulated_completion, emulated_request, schema
from shared.llm.completions import BrokenResponseError, Completion

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}},
    {"type": "function", "function": {"name": "time"}},
]


def completion(content: Any) -> Completion:
    return Completion({"model": "m", "choices": [{"index": 0, "message": {"content": json.dumps(content)}}]})


def test_an_emulated_request_describes_the_tools_and_restricts_the_completion_with_a_schema() -> None:
    body = {"messages": [{"role": "user", "content": "Rain?"}], "tools": TOOLS, "temperature": 0}
    request = emulated_request(body)
    assert "tools" not in request
    assert "weather" in request["messages"][0]["content"]
    assert request["messages"][1:] == body["messages"]
    bound = request["response_format"]["json_schema"]["schema"]
    for content, is_valid in (
        ({"content": "No."}, True),
        ({"name": "weather", "arguments": {"city": "Rome"}}, True),
        ({"name": "weather", "arguments": {}}, False),
        ({"name": "other", "arguments": {}}, False),
    ):
        assert jsonschema_rs.is_valid(bound, content) is is_valid


@pytest.mark.parametrize(
    ("choice", "text", "weather", "time"),
    [
        ("auto", True, True, True),
        ("none", True, False, False),
        ("required", False, True, True),
        ({"type": "function", "function": {"name": "time"}}, False, False, True),
    ],
)
def test_the_tool_choice_decides_the_possible_completions(choice: Any, text: bool, weather: bool, time: bool) -> None:
    bound = schema(TOOLS, choice)
    assert jsonschema_rs.is_valid(bound, {"content": "No."}) is text
    assert jsonschema_rs.is_valid(bound, {"name": "weather", "arguments": {"city": "Rome"}}) is weather
    assert jsonschema_rs.is_valid(bound, {"name": "time", "arguments": {}}) is time


def test_a_completion_becomes_a_tool_call_or_a_text() -> None:
    call = emulated_completion(completion({"name": "weather", "arguments": {"city": "Rome"}}), TOOLS)
    assert call.body["choices"][0]["finish_reason"] == "tool_calls"
    assert json.loads(call.message["tool_calls"][0]["function"]["arguments"]) == {"city": "Rome"}
    assert emulated_completion(completion({"content": "No."}), TOOLS).text == "No."
    with pytest.raises(BrokenResponseError):
        emulated_completion(completion({"name": "weather", "arguments": {}}), TOOLS)


def test_earlier_tool_calls_become_text_messages() -> None:
    messages = [
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "time", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "1", "content": "noon"},
    ]
    request = emulated_request({"messages": messages, "tools": TOOLS})
    assert [message["role"] for message in request["messages"]] == ["system", "assistant", "user"]
    assert "noon" in request["messages"][2]["content"]
