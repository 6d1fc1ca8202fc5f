"""Chats whose server or model fails, and what their logs keep."""

import json
from typing import Any

import boto3
import pytest
from aiohttp import web
from fastapi.testclient import TestClient

import functions.chats.service as chat_service
from shared.settings import Settings
from tests.fixtures.upstream import Body, FakeUpstream, Refusal, served
from tests.functional.chats.helpers import QUESTION, ask, events, judging, logs, register


def test_a_server_that_is_down_leaves_one_error_row_and_nothing_else(
    client: TestClient, upstream: FakeUpstream
) -> None:
    with served(FakeUpstream()) as gone:
        register(client, gone, default_model="small")
    refused = client.post("/chats", json={"messages": [QUESTION]})
    assert refused.status_code == 503
    assert refused.headers["retry-after"]
    assert [row["status"] for row in logs(client)] == ["error"]
    assert client.get("/chats").json()["count"] == 0


@pytest.mark.row("X-6")
def test_a_model_that_fails_falls_back_to_the_next(client: TestClient, upstream: FakeUpstream) -> None:
    upstream.models = [{"id": "small"}, {"id": "spare"}]
    register(client, upstream, fallback_models=["spare"])
    upstream.script = lambda body: Refusal(500) if body["model"] == "small" else "From the spare."
    answer = ask(client, model="small")
    assert answer["model"] == "spare"
    assert logs(client)[0]["model"] == "spare"
    for _ in range(4):
        ask(client, model="small")
    # After three failures the model is left alone.
    assert len([body for body in upstream.calls() if body["model"] == "small"]) == 3


def test_an_answer_without_end_is_cut_off_and_logged(
    chatting: TestClient, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_service, "STREAM_CHARACTERS", 100)
    upstream.script = lambda _: "word " * 100
    received = events(chatting)
    assert "went on beyond" in received[-1]["error"]
    assert received[-1]["code"] == "cluster_error"
    assert logs(chatting)[0]["status"] == "error"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "message",
    [
        {"content": "", "tool_calls": [{"function": "rate"}]},
        {"content": "", "tool_calls": [{"function": {"name": "rate", "arguments": {"years": 3}}}]},
        {"content": "", "tool_calls": [{"index": "first"}]},
    ],
)
def test_a_message_of_another_form_is_an_error_of_the_cluster(
    chatting: TestClient, upstream: FakeUpstream, message: Body, stream: bool
) -> None:
    upstream.script = lambda _: message
    answer = chatting.post("/chats", json={"messages": [QUESTION], "stream": stream})
    assert '"code":"cluster_error"' in answer.text.replace(" ", "")
    assert answer.status_code == (200 if stream else 502)
    assert logs(chatting)[0]["status"] == "error"
    assert chatting.get("/chats").json()["count"] == 0


def test_a_model_that_spends_its_tokens_before_it_says_a_word_has_answered_nothing(
    chatting: TestClient, upstream: FakeUpstream
) -> None:
    upstream.script = lambda _: {"role": "assistant", "content": None, "reasoning_content": "Let me think"}
    chat = ask(chatting)
    answer = chatting.get(f"/chats/{chat['id']}").json()["messages"][1]
    assert answer["content"] == ""
    history = [QUESTION, {"role": "assistant", "content": ""}, {"role": "user", "content": "And?"}]
    assert chatting.post("/chats", json={"id": chat["id"], "messages": history}).status_code == 201
    assert len(chatting.get(f"/chats/{chat['id']}").json()["messages"]) == 4


def test_a_token_that_the_server_does_not_accept_is_told(chatting: TestClient, upstream: FakeUpstream) -> None:
    upstream.script = lambda _: Refusal(401)
    refused = chatting.post("/chats", json={"messages": [QUESTION]})
    assert (refused.status_code, refused.json()["code"]) == (502, "cluster_refused")
    assert "token" in refused.json()["error"]
    assert logs(chatting)[0]["status"] == "error"


@pytest.mark.row("IL-1")
def test_prompts_and_answers_are_kept_in_the_log_only_for_a_space_that_asks_for_it(
    chatting: TestClient, settings: Settings, upstream: FakeUpstream
) -> None:
    ask(chatting, "a secret question", guard_enabled=False)
    events(chatting)
    everything = json.dumps(boto3.client("dynamodb").scan(TableName=settings.logs_table_name or "")["Items"])
    assert "secret question" not in everything
    assert "Hello there" not in everything
    assert [(row["prompt"], row["answer"]) for row in logs(chatting)] == [(None, None)] * 2

    chatting.put("/clusters", json={"store_content": True})
    upstream.script = judging(lambda _: False)
    ask(chatting, "a secret question", guard_enabled=True)
    answered = logs(chatting, type="chat")[0]
    assert (answered["prompt"], answered["answer"]) == ("user: a secret question", "Hello there.")
    judged = logs(chatting, type="guard")[-1]
    assert "a secret question" in judged["prompt"]
    assert json.loads(judged["answer"])["flagged"] is False


def test_tokens_that_a_server_tells_with_every_chunk_are_counted_once(
    chatting: TestClient, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stream(_: Any, request: web.Request, body: Body, message: Body) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for number in (1, 2, 3):
            usage = {"prompt_tokens": 5, "completion_tokens": number}
            delta = {"index": 0, "delta": {"content": "word "}, "finish_reason": None}
            await response.write(b"data: " + json.dumps({"choices": [delta], "usage": usage}).encode() + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        return response

    monkeypatch.setattr(FakeUpstream, "_stream", stream)
    usage = events(chatting)[-2]["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (5, 3)


@pytest.mark.row("CH-2")
def test_echo_answers_with_what_the_model_was_sent(chatting: TestClient) -> None:
    assert [each["content"] for each in ask(chatting, echo=True)["messages"]] == [QUESTION["content"]]


def test_another_space_sees_nothing_of_a_chat(chatting: TestClient, other_client: TestClient) -> None:
    chat = ask(chatting)
    for call in (
        other_client.get(f"/chats/{chat['id']}"),
        other_client.get(f"/chats/{chat['id']}/window"),
        other_client.put(f"/chats/{chat['id']}", json={"name": "mine"}),
        other_client.delete(f"/chats/{chat['id']}"),
    ):
        assert call.status_code == 404
    assert chatting.get(f"/chats/{chat['id']}").json()["name"] != "mine"
