"""Tests of OpenAI's routes for plain texts and for vectors."""

import base64
import json
import struct
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.fixtures.upstream import FakeUpstream
from tests.functional.chats.helpers import guard_script, logs, register

PROMPT = "Once upon a time"


def complete(client: TestClient, **body: Any) -> Any:
    response = client.post("/v1/completions", json={"model": "small", "prompt": PROMPT, **body})
    assert response.status_code == 200, response.text
    return response.json()


def embed(client: TestClient, **body: Any) -> Any:
    return client.post("/v1/embeddings", json={"model": "small", "input": "abba", **body})


@pytest.mark.row("GW-7")
def test_a_text_is_continued_by_the_path_of_texts(chatting: TestClient, upstream: FakeUpstream) -> None:
    completion = complete(chatting, stop=["\n"], seed=3, top_p=0.5)
    assert completion["object"] == "text_completion"
    assert completion["id"].startswith("cmpl-")
    assert completion["choices"] == [{"text": "Hello there.", "index": 0, "logprobs": None, "finish_reason": "stop"}]
    assert completion["usage"] == {"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6}
    path, sent, _ = upstream.requests[-1]
    assert (path, sent) == (
        "/v1/completions",
        {"model": "small", "prompt": PROMPT, "max_tokens": 16, "stop": ["\n"], "seed": 3, "top_p": 0.5},
    )
    assert [(row["type"], row["total_tokens"]) for row in logs(chatting)] == [("chat", 6)]


@pytest.mark.row("GW-7")
def test_each_prompt_and_choice_has_its_place(chatting: TestClient, upstream: FakeUpstream) -> None:
    upstream.script = lambda body: f"after {body['prompt']}"
    completion = complete(chatting, prompt=["one", "two"], n=2)
    texts = [(each["index"], each["text"]) for each in completion["choices"]]
    assert texts == [(0, "after one"), (1, "after one"), (2, "after two"), (3, "after two")]
    assert completion["usage"]["total_tokens"] == 4 * 3
    assert len(logs(chatting)) == 4


@pytest.mark.row("GW-7")
def test_a_text_is_streamed_in_the_shape_of_texts(chatting: TestClient, upstream: FakeUpstream) -> None:
    body = {"model": "small", "prompt": PROMPT, "stream": True, "stream_options": {"include_usage": True}}
    lines = [line for line in chatting.post("/v1/completions", json=body).text.splitlines() if line]
    *chunks, usage = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    assert "".join(choice["text"] for chunk in chunks for choice in chunk["choices"]) == "Hello there. "
    assert {chunk["object"] for chunk in chunks} == {"text_completion"}
    assert (usage["usage"]["total_tokens"], lines[-1]) == (6, "data: [DONE]")


@pytest.mark.row("GW-7", "GW-8")
def test_the_guard_judges_a_text_and_what_follows_it(client: TestClient, upstream: FakeUpstream) -> None:
    register(client, upstream, guard_blocked_words=["there"])
    upstream.script = guard_script(lambda _: False)
    blocked = complete(client, guard_enabled=True)
    assert (blocked["choices"][0]["finish_reason"], blocked["choices"][0]["text"]) == ("content_filter", "")
    upstream.requests.clear()
    assert complete(client, prompt="over there", guard_enabled=True)["guard"]["stage"] == "input"
    assert upstream.requests == []


@pytest.mark.row("GW-7")
@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"echo": True}, "echo"),
        ({"best_of": 2}, "best_of"),
        ({"n": 9}, "n"),
        ({"temprature": 1}, "temprature"),
        ({"prompt": ["a"] * 30, "n": 2}, None),
    ],
)
def test_what_texts_do_not_support_is_refused(
    chatting: TestClient, upstream: FakeUpstream, changes: dict[str, Any], param: str | None
) -> None:
    refused = chatting.post("/v1/completions", json={"model": "small", "prompt": PROMPT, **changes})
    assert refused.status_code == 400
    assert param is None or str(refused.json()["error"]["param"]).startswith(param)


@pytest.mark.row("GW-7")
def test_vectors_come_as_numbers_or_as_the_bytes_that_clients_ask_for(
    chatting: TestClient, upstream: FakeUpstream
) -> None:
    found = embed(chatting, input=["abba", "c"], dimensions=26).json()
    assert [each["embedding"][:3] for each in found["data"]] == [[2, 2, 0], [0, 0, 1]]
    assert [each["index"] for each in found["data"]] == [0, 1]
    assert (found["model"], found["usage"]) == ("small", {"prompt_tokens": 3, "total_tokens": 3})
    assert upstream.requests[-1][1] == {"model": "small", "input": ["abba", "c"], "dimensions": 26}
    packed = embed(chatting, encoding_format="base64", user="ann", tags=["a"]).json()["data"][0]["embedding"]
    assert struct.unpack("<26f", base64.b64decode(packed))[:3] == (2, 2, 0)
    row = logs(chatting)[0]
    assert (row["type"], row["user"], row["tags"], row["input_tokens"]) == ("embedding", "ann", ["a"], 3)


@pytest.mark.row("GW-7")
def test_tokens_are_passed_to_the_server_unless_the_guard_must_read_them(
    chatting: TestClient, upstream: FakeUpstream
) -> None:
    assert len(embed(chatting, input=[1, 2, 3]).json()["data"]) == 1
    assert upstream.requests[-1][1]["input"] == [[1, 2, 3]]
    refused = embed(chatting, input=[[1, 2, 3]], guard_enabled=True)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "input")


@pytest.mark.row("GW-8")
def test_blocked_texts_get_no_vectors(chatting: TestClient, upstream: FakeUpstream) -> None:
    chatting.put(f"/spaces/{chatting.headers['X-Space-Id']}", json={"guard_required": True})
    upstream.script = guard_script(lambda text: "abba" in text)
    refused = embed(chatting)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "content_filter")
    assert not [path for path, _, _ in upstream.requests if path.endswith("embeddings")]
    assert {(row["type"], row["status"]) for row in logs(chatting)} == {("guard", "success"), ("embedding", "blocked")}
    assert embed(chatting, input="harmless").status_code == 200


@pytest.mark.row("GW-7", "X-5")
def test_vectors_and_texts_count_against_limits(chatting: TestClient, upstream: FakeUpstream) -> None:
    space = chatting.headers["X-Space-Id"]
    chatting.put(f"/spaces/{space}/limits", json={"space": {"tokens_per_day": 5}})
    assert embed(chatting).status_code == 200
    assert chatting.get(f"/spaces/{space}/limits").json()["space_usage"]["tokens_per_day"]["used"] == 3
    complete(chatting)
    for path, body in (
        ("completions", {"prompt": PROMPT}),
        ("embeddings", {"input": "a"}),
        ("responses", {"input": "a"}),
    ):
        refused = chatting.post(f"/v1/{path}", json={"model": "small", **body})
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "budget_exceeded")


@pytest.mark.row("GW-7")
@pytest.mark.parametrize("input", ["", [], [[]], 5, [1.5]])
def test_wrong_inputs_of_vectors_are_refused(chatting: TestClient, upstream: FakeUpstream, input: Any) -> None:
    response = embed(chatting, input=input)
    assert response.status_code == (200 if input == "" or input == [[]] else 400)
