"""Tests of OpenAI's Responses API against a fake language model server."""

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.fixtures.upstream import FakeUpstream
from tests.functional.chats.helpers import guard_script, logs

CALL = {"id": "call_1", "type": "function", "function": {"name": "rate", "arguments": '{"of": "loans"}'}}


def respond(client: TestClient, **body: Any) -> Any:
    response = client.post("/v1/responses", json={"model": "small", "input": "Hello?", **body})
    assert response.status_code == 200, response.text
    return response.json()


def streamed(client: TestClient, **body: Any) -> list[Any]:
    """Returns the events of a response. The name of each is its type."""
    request = {"model": "small", "input": "Hello?", "stream": True, **body}
    with client.stream("POST", "/v1/responses", json=request) as response:
        assert response.status_code == 200, response.read()
        lines = [line for line in response.iter_lines() if line and line != "data: [DONE]"]
    names = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    found = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    assert [each["type"] for each in found] == names
    assert [each["sequence_number"] for each in found] == list(range(len(found)))
    return found


@pytest.mark.row("GW-7")
def test_a_response_has_the_fields_of_openai(chatting: TestClient, upstream: FakeUpstream) -> None:
    response = respond(chatting, instructions="Be brief.", max_output_tokens=9, temperature=0.1, metadata={"a": "b"})
    assert (response["object"], response["status"], response["store"]) == ("response", "completed", False)
    assert response["id"].startswith("resp_")
    (item,) = response["output"]
    assert (item["type"], item["role"], item["content"][0]["text"]) == ("message", "assistant", "Hello there.")
    assert response["usage"] == {
        "input_tokens": 3,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 2,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 5,
    }
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello?"}]
    assert upstream.calls()[-1] == {"model": "small", "messages": messages, "max_tokens": 9, "temperature": 0.1}
    assert chatting.get("/chats").json()["count"] == 0
    assert [row["type"] for row in logs(chatting)] == ["chat"]


@pytest.mark.row("GW-7")
def test_a_whole_conversation_is_read(chatting: TestClient, upstream: FakeUpstream) -> None:
    answer = {"id": "msg_1", "type": "message", "status": "completed", "role": "assistant"}
    conversation = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "input_text", "text": "Rate them."}]},
        {**answer, "content": [{"type": "output_text", "text": "I will.", "annotations": []}]},
        {"type": "function_call", "id": "fc_1", "call_id": "1", "name": "rate", "arguments": "{}"},
        {"type": "custom_tool_call", "call_id": "2", "name": "code", "input": "1 + 1"},
        {"type": "function_call_output", "call_id": "1", "output": "9"},
        {"type": "custom_tool_call_output", "call_id": "2", "output": [{"type": "input_text", "text": "2"}]},
        {
            "role": "user",
            "content": [{"type": "input_image", "image_url": "data:image/png;base64,AA", "detail": "low"}],
        },
    ]
    respond(chatting, input=conversation)
    calls = [
        {"id": "1", "type": "function", "function": {"name": "rate", "arguments": "{}"}},
        {"id": "2", "type": "custom", "custom": {"name": "code", "input": "1 + 1"}},
    ]
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA", "detail": "low"}}
    assert upstream.calls()[-1]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Rate them."}]},
        {"role": "assistant", "content": "I will.", "tool_calls": calls},
        {"role": "tool", "content": "9", "tool_call_id": "1"},
        {"role": "tool", "content": [{"type": "text", "text": "2"}], "tool_call_id": "2"},
        {"role": "user", "content": [image]},
    ]


@pytest.mark.row("GW-7")
def test_tools_and_formats_have_the_shapes_of_chats_at_the_server(chatting: TestClient, upstream: FakeUpstream) -> None:
    shape = {"type": "json_schema", "name": "rating", "strict": True, "schema": {"type": "object"}}
    tool = {"type": "function", "name": "rate", "parameters": {"type": "object"}, "strict": False, "description": None}
    allowed = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "rate"}]}
    custom = {"type": "custom", "name": "code"}
    response = respond(
        chatting, text={"format": shape, "verbosity": "low"}, tools=[tool, custom], tool_choice=allowed,
        reasoning={"effort": "low", "summary": None}, parallel_tool_calls=False,
        include=["reasoning.encrypted_content"],
    )  # fmt: skip
    sent = upstream.calls()[-1]
    named = {"name": "rating", "strict": True, "schema": {"type": "object"}}
    assert sent["response_format"] == {"type": "json_schema", "json_schema": named}
    rate = {"type": "function", "function": {"name": "rate", "parameters": {"type": "object"}, "strict": False}}
    assert sent["tools"] == [rate, {"type": "custom", "custom": {"name": "code"}}]
    of_chats = {"mode": "auto", "tools": [{"type": "function", "function": {"name": "rate"}}]}
    assert sent["tool_choice"] == {"type": "allowed_tools", "allowed_tools": of_chats}
    assert (sent["reasoning_effort"], sent["verbosity"], sent["parallel_tool_calls"]) == ("low", "low", False)
    assert response["tool_choice"] == allowed


@pytest.mark.row("GW-7")
def test_a_call_of_a_tool_is_an_item(chatting: TestClient, upstream: FakeUpstream) -> None:
    upstream.script = lambda _: {"role": "assistant", "content": None, "tool_calls": [CALL]}
    (item,) = respond(chatting)["output"]
    assert (item["type"], item["call_id"], item["name"]) == ("function_call", "call_1", "rate")
    assert json.loads(item["arguments"]) == {"of": "loans"}


@pytest.mark.row("GW-7")
def test_a_response_is_streamed_as_events(chatting: TestClient, upstream: FakeUpstream) -> None:
    upstream.script = lambda _: {"role": "assistant", "content": "Let me see.", "tool_calls": [CALL]}
    received = streamed(chatting)
    kinds = [each["type"].removeprefix("response.") for each in received]
    assert kinds[:4] == ["created", "in_progress", "output_item.added", "content_part.added"]
    deltas = [each["delta"] for each in received if each["type"] == "response.output_text.delta"]
    assert "".join(deltas) == "Let me see."
    assert len(deltas) > 1
    [written] = [each for each in received if each["type"] == "response.function_call_arguments.done"]
    assert written["arguments"] == CALL["function"]["arguments"]  # type: ignore[index]
    done = [each["item"] for each in received if each["type"] == "response.output_item.done"]
    assert received[-1]["type"] == "response.completed"
    final = received[-1]["response"]
    assert final["output"] == done
    assert [each["type"] for each in done] == ["message", "function_call"]
    assert done[0]["content"][0]["text"] == "Let me see."
    assert final["usage"]["output_tokens"] == 3


@pytest.mark.row("GW-7", "GW-8")
def test_a_blocked_response_is_incomplete(chatting: TestClient, upstream: FakeUpstream) -> None:
    upstream.script = guard_script(lambda text: "secret" in text.partition("<text>")[2], "It is fine. A secret. More.")
    whole = respond(chatting, guard_enabled=True)
    assert (whole["status"], whole["incomplete_details"]) == ("incomplete", {"reason": "content_filter"})
    assert whole["output"][0]["content"][0]["text"] == ""
    received = streamed(chatting, guard_enabled=True)
    assert received[-1]["type"] == "response.incomplete"
    assert received[-1]["response"]["output"][0]["content"][0]["text"] == "It is fine."


@pytest.mark.row("GW-7")
def test_a_stream_that_breaks_ends_with_a_failed_response(chatting: TestClient, upstream: FakeUpstream) -> None:
    upstream.script = lambda _: "one two three four"
    upstream.cut_after = 2
    received = streamed(chatting)
    assert received[-1]["type"] == "response.failed"
    assert received[-1]["response"]["status"] == "failed"
    assert received[-1]["response"]["error"]["message"]


@pytest.mark.row("GW-7")
@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": True}, "background"),
        ({"store": True}, "store"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"truncation": "middle"}, "truncation"),
        ({"include": ["file_search_call.results"]}, "include"),
        ({"tools": [{"type": "web_search"}]}, "tools.0"),
        ({"tool_choice": {"type": "file_search"}}, "tool_choice"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format"),
        ({"reasoning": {"summary": "auto"}}, "reasoning.summary"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input.0"),
        ({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "1"}]}]}, "input.0"),
        ({"input": [{"role": "user", "content": 5}]}, "input.0"),
        ({"input": [{"role": "wizard", "content": "a"}]}, "input.0.role"),
        ({"input": []}, "input"),
        ({"temprature": 1}, "temprature"),
        ({"top_logprobs": 3}, "top_logprobs"),
    ],
)
def test_what_responses_do_not_support_is_refused_with_its_name(
    chatting: TestClient, upstream: FakeUpstream, changes: dict[str, Any], param: str
) -> None:
    refused = chatting.post("/v1/responses", json={"model": "small", "input": "Hello?", **changes})
    assert refused.status_code == 400, refused.text
    assert str(refused.json()["error"]["param"]).startswith(param)
    assert upstream.calls() == []


@pytest.mark.row("GW-7")
@pytest.mark.parametrize(("truncation", "status"), [("auto", 200), ("disabled", 400)])
def test_a_long_conversation_is_shortened_only_if_that_is_allowed(
    chatting: TestClient, upstream: FakeUpstream, truncation: str, status: int
) -> None:
    words = [{"role": "user", "content": "word " * 300}, {"role": "assistant", "content": "word " * 300}]
    conversation = [*words, {"role": "user", "content": "And now?"}]
    response = chatting.post("/v1/responses", json={"model": "small", "input": conversation, "truncation": truncation})
    assert response.status_code == status
    if status == 400:
        assert response.json()["error"]["code"] == "context_length_exceeded"
    else:
        assert upstream.calls()[-1]["messages"] == [{"role": "user", "content": "And now?"}]


def test_false_and_null_stand_for_what_is_not_supported(chatting: TestClient, upstream: FakeUpstream) -> None:
    respond(chatting, background=False, store=False, previous_response_id=None, conversation=None, truncation="auto")
