"""Tests of the OpenAI routes and their exact formats against a fake language model server."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.fixtures.upstream import FakeUpstream, connected, event

QUESTION = {"role": "user", "content": "Which offer suits Ada?"}
PATH = "/v1/chat/completions"


@pytest.fixture
def upstream(client: TestClient) -> Iterator[FakeUpstream]:
    with connected(
        client, FakeUpstream(models=[{"id": "small", "created": 7, "owned_by": "us"}, {"id": "org/large"}])
    ) as upstream:
        yield upstream


def complete(client: TestClient, **body: Any) -> Any:
    return client.post(PATH, json={"model": "small", "messages": [QUESTION], **body})


@pytest.mark.row("X-4")
def test_a_completion_has_the_fields_of_openai(client: TestClient, upstream: FakeUpstream) -> None:
    completion = complete(client).json()
    assert set(completion) == {"id", "object", "created", "model", "choices", "usage"}
    assert completion["id"].startswith("chatcmpl-")
    assert completion["object"] == "chat.completion"
    assert completion["usage"] == {"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6}
    assert client.get("/chats").json()["count"] == 0
    assert client.get("/inference-logs").json()["count"] == 1


@pytest.mark.row("X-4")
def test_a_stored_completion_creates_a_chat(client: TestClient, upstream: FakeUpstream) -> None:
    completion = complete(client, store=True).json()
    chat = client.get(f"/chats/{completion['id'].removeprefix('chatcmpl-')}").json()
    assert [each["role"] for each in chat["messages"]] == ["user", "assistant"]


@pytest.mark.row("X-4")
@pytest.mark.parametrize("stream", [False, True])
def test_known_options_are_passed_unchanged_to_the_server(
    client: TestClient, upstream: FakeUpstream, stream: bool
) -> None:
    passed_on = {
        "frequency_penalty": 0.5,
        "logit_bias": {"50256": -100},
        "max_completion_tokens": 9,
        "parallel_tool_calls": False,
        "reasoning_effort": "low",
        "response_format": {"type": "json_object"},
        "seed": 3,
        "stop": ["\\n", "END"],
        "temperature": 0.1,
        "tool_choice": "auto",
        "tools": [{"type": "custom", "custom": {"name": "code"}}],
        "top_k": 4,
        "top_p": 0.9,
        "chat_template_kwargs": {"enable_thinking": False},
    }
    ours = {"store": False, "user": "ann", "tags": ["a"], "metadata": {"b": "c"}, "n": 1, "audio": None}
    assert complete(client, stream=stream, **passed_on, **ours).status_code == 200
    (sent,) = upstream.calls()
    options = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    assert sent == {"model": "small", "messages": [QUESTION], **passed_on, **options}
    row = client.get("/inference-logs").json()["data"][0]
    assert (row["user"], row["tags"]) == ("ann", ["a"])


@pytest.mark.row("GW-1")
def test_half_of_a_character_in_the_description_of_a_tool_is_refused(
    client: TestClient, upstream: FakeUpstream
) -> None:
    tool = {"type": "function", "function": {"name": "f", "description": "\ud83d"}}
    body = json.dumps({"model": "small", "messages": [QUESTION], "tools": [tool]})
    refused = client.post(PATH, content=body, headers={"Content-Type": "application/json"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "tools.0.function.description")
    assert upstream.calls() == []


@pytest.mark.row("X-4")
def test_an_unknown_option_is_refused_with_the_name_that_may_be_meant(
    client: TestClient, upstream: FakeUpstream
) -> None:
    for given, hint in (("temprature", "temperature"), ("top_logprob", "top_logprobs"), ("xyzzy", "leave it out")):
        error = complete(client, **{given: 1}).json()["error"]
        assert (error["param"], hint in error["message"]) == (given, True)
    assert upstream.calls() == []


@pytest.mark.row("X-4", "CH-4")
def test_the_guard_reads_the_passed_options(client: TestClient, upstream: FakeUpstream) -> None:
    client.put("/clusters", json={"guard_blocked_words": ["bomb"]})
    tool = {"type": "function", "function": {"name": "a", "description": "builds a bomb"}}
    completion = complete(client, tools=[tool], guard_enabled=True).json()
    assert completion["choices"][0]["finish_reason"] == "content_filter"
    assert completion["guard"]["flagged"] is True
    assert upstream.calls() == []


@pytest.mark.row("X-4")
def test_a_developer_message_is_sent_as_a_system_message(client: TestClient, upstream: FakeUpstream) -> None:
    complete(client, messages=[{"role": "developer", "content": "Be brief."}, QUESTION])
    assert [each["role"] for each in upstream.calls()[0]["messages"]] == ["system", "user"]


@pytest.mark.row("X-4")
def test_models_are_listed_and_read_individually(client: TestClient, upstream: FakeUpstream) -> None:
    small = {"id": "small", "object": "model", "created": 7, "owned_by": "us"}
    large = {"id": "org/large", "object": "model", "created": 0, "owned_by": ""}
    assert client.get("/v1/models").json() == {"object": "list", "data": [small, large]}
    assert client.get("/v1/models/small").json() == small
    assert client.get("/v1/models/org/large").json() == client.get("/v1/models/org%2Flarge").json() == large
    unknown = client.get("/v1/models/huge")
    assert unknown.status_code == 404
    assert unknown.json()["error"]["code"] == "model_not_found"


@pytest.mark.row("X-4")
@pytest.mark.parametrize(
    ("changes", "status", "param", "code"),
    [
        ({"n": 9}, 400, "n", "validation_error"),
        ({"temperature": 3}, 400, "temperature", "validation_error"),
        ({"messages": []}, 400, "messages", "validation_error"),
        ({"model": None}, 400, "model", "validation_error"),
        ({"model": "huge"}, 404, None, "model_not_found"),
    ],
)
def test_errors_have_the_format_of_openai(
    client: TestClient, upstream: FakeUpstream, changes: dict[str, Any], status: int, param: str | None, code: str
) -> None:
    response = complete(client, **changes)
    assert response.status_code == status
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, code)


@pytest.mark.row("X-4")
def test_errors_outside_the_routes_have_the_format_of_openai(client: TestClient, upstream: FakeUpstream) -> None:
    too_large = client.post(PATH, content=b"x" * (7 << 20))
    for response, status in ((client.get("/v1/nothing"), 404), (client.get(PATH), 405), (too_large, 413)):
        assert response.status_code == status
        assert isinstance(response.json()["error"]["message"], str)


@pytest.mark.row("X-4")
def test_a_stream_contains_log_probabilities_always_and_the_usage_only_on_request(
    client: TestClient, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    probabilities = {"content": [{"token": "Hello", "logprob": -0.1}]}

    def with_probabilities(body: Any, delta: Any, finish_reason: Any = None) -> bytes:
        chunk = json.loads(event(body, delta, finish_reason)[6:])
        chunk["choices"][0]["logprobs"] = probabilities
        return b"data: " + json.dumps(chunk).encode() + b"\n\n"

    monkeypatch.setattr("tests.fixtures.upstream.event", with_probabilities)
    for options, wants_usage in ({}, False), ({"stream_options": {"include_usage": True}}, True):
        lines = [line for line in complete(client, stream=True, logprobs=True, **options).text.splitlines() if line]
        assert lines[-1] == "data: [DONE]"
        chunks = [json.loads(line[6:]) for line in lines[:-1]]
        assert chunks[0]["choices"][0]["logprobs"] == probabilities
        assert [chunk for chunk in chunks if "usage" in chunk] == (chunks[-1:] if wants_usage else [])
    assert set(chunks[-1]) == {"id", "object", "created", "model", "choices", "usage"}
    assert chunks[-1]["choices"] == []


@pytest.mark.row("X-4")
@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"tools": [{"type": "custom"}]}, "tools.0"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools.0"),
        (
            {"tools": [{"type": "function", "function": {"name": "a", "parameters": {"type": "x"}}}]},
            "tools.0.function.parameters",
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "a"}}], "tool_choice": {"type": "function"}},
            "tool_choice",
        ),
        ({"tools": [{"type": "function", "function": {"name": "a"}}], "tool_choice": "b"}, "tool_choice"),
    ],
)
def test_tools_that_cannot_be_emulated_are_refused(
    client: TestClient, upstream: FakeUpstream, changes: dict[str, Any], param: str
) -> None:
    client.put("/clusters", json={"tool_calls": "emulated"})
    refused = complete(client, **changes)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == param
    assert upstream.calls() == []
