"""Tests of failures of the language model server."""

import pytest
from fastapi.testclient import TestClient

import functions.chats.service as chat_service
from tests.faults.boundary import Boundary, Fault
from tests.fixtures.upstream import FakeUpstream, Refusal, served
from tests.functional.chats.helpers import QUESTION, ask, events, logs, register


def test_a_request_to_an_unreachable_server_leaves_one_error_row_and_no_chat(
    client: TestClient, upstream: FakeUpstream
) -> None:
    with served(FakeUpstream()) as gone:
        register(client, gone, default_model="small")
    refused = client.post("/chats", json={"messages": [QUESTION]})
    assert refused.status_code == 502
    assert refused.headers["retry-after"]
    assert [row["status"] for row in logs(client)] == ["error"]
    assert client.get("/chats").json()["count"] == 0


@pytest.mark.row("X-6")
def test_a_failing_model_is_replaced_by_its_fallback(client: TestClient, upstream: FakeUpstream) -> None:
    upstream.models = [{"id": "small"}, {"id": "spare"}]
    register(client, upstream, fallback_models=["spare"])
    upstream.script = lambda body: Refusal(500) if body["model"] == "small" else "From the spare."
    completion = ask(client, model="small")
    assert completion["model"] == "spare"
    assert logs(client)[0]["model"] == "spare"
    for number in range(4):
        ask(client, f"Which offer suits customer {number}?", model="small")
    # Three different requests failed, and then a probe. After that the model is not called.
    assert len([body for body in upstream.calls() if body["model"] == "small"]) == 4


def test_a_completion_without_an_end_is_stopped_and_logged(
    chatting: TestClient, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_service, "STREAM_CHARACTERS", 100)
    upstream.script = lambda _: "word " * 100
    received = events(chatting)
    assert "was stopped, because it has more than" in received[-1]["error"]
    assert received[-1]["code"] == "cluster_error"
    assert logs(chatting)[0]["status"] == "error"


def test_a_completion_with_reasoning_only_is_stored_as_an_empty_text(
    chatting: TestClient, upstream: FakeUpstream
) -> None:
    upstream.script = lambda _: {"role": "assistant", "content": None, "reasoning_content": "Let me think"}
    chat = ask(chatting)
    completion = chatting.get(f"/chats/{chat['id']}").json()["messages"][1]
    assert completion["content"] == ""
    history = [QUESTION, {"role": "assistant", "content": ""}, {"role": "user", "content": "And?"}]
    assert chatting.post("/chats", json={"id": chat["id"], "messages": history}).status_code == 201
    assert len(chatting.get(f"/chats/{chat['id']}").json()["messages"]) == 4


def test_a_token_that_the_server_refuses_is_named_in_the_error(chatting: TestClient, upstream: FakeUpstream) -> None:
    upstream.script = lambda _: Refusal(401)
    refused = chatting.post("/chats", json={"messages": [QUESTION]})
    assert (refused.status_code, refused.json()["code"]) == (502, "cluster_refused")
    assert "token" in refused.json()["error"]
    assert logs(chatting)[0]["status"] == "error"


@pytest.mark.row("EN-4")
def test_a_call_has_one_log_row_when_the_response_to_its_transaction_is_lost(
    chatting: TestClient, boundary: Boundary
) -> None:
    with boundary.failing(Fault.LATE_LOST, about="chat_turn#"):
        refused = chatting.post("/chats", json={"messages": [QUESTION]})
    assert (refused.status_code, chatting.get("/chats").json()["count"]) == (503, 1)
    # The row that was stored with the turn stays as it is, because its sums may have been added already.
    assert [row["status"] for row in logs(chatting)] == ["success"]
    with boundary.failing(Fault.BROKEN, about="chat_turn#"):
        assert chatting.post("/chats", json={"messages": [QUESTION]}).status_code == 503
    assert [row["status"] for row in logs(chatting)] == ["error", "success"]
