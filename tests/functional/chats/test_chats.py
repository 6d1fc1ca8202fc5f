"""Tests of chats: turns, history, search, settings and logs."""

import json

import boto3
import pytest
from fastapi.testclient import TestClient

import shared.chats.store as chat_store
from shared.dynamodb import searches
from shared.settings import Settings
from tests.fixtures.aws import BUCKET
from tests.fixtures.upstream import FakeUpstream, schema_name
from tests.functional.chats.helpers import QUESTION, ask, create_expert, events, guard_script, logs, router_script


@pytest.mark.row("CH-2", "CH-6")
def test_the_history_contains_the_prompts_and_the_completions(chatting: TestClient) -> None:
    first = ask(chatting, name="Ada", tags=["vip"])
    assert first["object"] == "chat.completion"
    assert first["choices"][0]["message"]["content"] == "Hello there."
    assert first["usage"]["prompt_tokens"] == 4
    assert first["usage"]["total_tokens"] == 6

    second = ask(chatting, "And why?", id=first["id"])
    assert second["id"] == first["id"]

    chat = chatting.get(f"/chats/{first['id']}").json()
    assert chat["name"] == "Ada"
    assert [(each["role"], each["content"]) for each in chat["messages"]] == [
        ("user", "Which offer suits Ada?"),
        ("assistant", "Hello there."),
        ("user", "And why?"),
        ("assistant", "Hello there."),
    ]
    assert chatting.delete(f"/chats/{first['id']}").json() == {"id": first["id"]}
    assert chatting.get(f"/chats/{first['id']}").status_code == 404
    assert chatting.delete(f"/chats/{first['id']}").status_code == 404


@pytest.mark.row("CH-2")
def test_a_request_without_messages_or_with_an_unknown_chat_or_model_is_refused(
    chatting: TestClient, upstream: FakeUpstream
) -> None:
    assert chatting.post("/chats", json={}).status_code == 400
    missing = "0190163d-8694-739b-aea5-966c26f8ad90"
    assert chatting.post("/chats", json={"id": missing, "messages": [QUESTION]}).status_code == 404
    unknown = chatting.post("/chats", json={"model": "large", "messages": [QUESTION]})
    assert unknown.status_code == 404
    assert "small" in unknown.json()["error"]
    for field, value in (("temperature", 2.1), ("temperature", -1), ("top_p", 1.5), ("max_tokens", 0)):
        refused = chatting.post("/chats", json={"messages": [QUESTION], field: value})
        assert refused.status_code == 400
        assert refused.json()["details"][0]["field"] == f"body.{field}"
    assert upstream.calls() == []
    assert chatting.get("/chats").json()["count"] == 0


@pytest.mark.row("CH-2")
def test_a_history_sent_again_is_not_stored_twice(chatting: TestClient) -> None:
    first = ask(chatting)
    history = chatting.get(f"/chats/{first['id']}").json()["messages"]
    again = [*history, {"role": "user", "content": "And why?"}]
    response = chatting.post("/chats", json={"id": first["id"], "messages": again})
    assert response.status_code == 201
    assert len(chatting.get(f"/chats/{first['id']}").json()["messages"]) == 4


def test_a_repeated_request_with_the_same_key_calls_the_model_once(
    chatting: TestClient, upstream: FakeUpstream
) -> None:
    body = {"messages": [QUESTION]}
    responses = [chatting.post("/chats", json=body, headers={"Idempotency-Key": "k"}).json() for _ in range(2)]
    assert responses[0] == responses[1]
    assert len(upstream.calls()) == 1
    assert chatting.get("/chats").json()["count"] == 1
    other = {"messages": [{"role": "user", "content": "Else?"}]}
    assert chatting.post("/chats", json=other, headers={"Idempotency-Key": "k"}).status_code == 409


def test_a_turn_larger_than_a_table_item_is_stored_completely(chatting: TestClient, upstream: FakeUpstream) -> None:
    upstream.models = [{"id": "small"}]
    text = "word " * 200_000
    chat = ask(chatting, text)
    assert chatting.get(f"/chats/{chat['id']}").json()["messages"][0]["content"] == text
    chatting.delete(f"/chats/{chat['id']}")
    assert "Contents" not in boto3.client("s3").list_objects_v2(Bucket=BUCKET)


@pytest.mark.row("CH-1")
def test_chats_are_found_by_any_part_of_their_name_on_all_pages(chatting: TestClient) -> None:
    names = ["Ada one", "Bob", "ada two", "Carl", "ADA three"]
    for name in names:
        ask(chatting, name=name)
    found, after = [], ""
    while True:
        page = chatting.get("/chats", params={"name": "aDa", "limit": 1, "after": after}).json()
        assert page["count"] == 3
        found += [chat["name"] for chat in page["data"]]
        if not page["has_more"]:
            break
        after = page["data"][-1]["id"]
    assert found == ["ADA three", "ada two", "Ada one"]
    assert [chat["name"] for chat in chatting.get("/chats").json()["data"]] == names[::-1]


@pytest.mark.row("CH-1")
def test_a_search_goes_on_where_a_request_stopped_reading(
    chatting: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (chat_store, searches):
        monkeypatch.setattr(module, "SEARCHED_AT_ONCE", 2)
    chats = [ask(chatting, name=name)["id"] for name in ("Ada one", "Bob", "Ben", "Ada two", "Carl")]
    pages = [chatting.get("/chats", params={"name": "ada", "limit": 5}).json()]
    while pages[-1]["has_more"]:
        after = pages[-1]["next_after"]
        pages.append(chatting.get("/chats", params={"name": "ada", "limit": 5, "after": after}).json())
    assert [[chat["name"] for chat in page["data"]] for page in pages] == [["Ada two"], [], ["Ada one"]]
    assert [page["next_after"] for page in pages] == [chats[3], chats[1], None]
    assert {(page["count"], page["count_capped"]) for page in pages} == {(1, True)}


@pytest.mark.parametrize(
    "body",
    [
        '{"messages": [{"role": "user", "content": "\\ud800"}]}',
        '{"messages": [{"role": "user", "content": [{"type": "text", "text": "\\ud800"}]}]}',
        '{"messages": [{"role": "user", "content": "Hi", "more": {"a": "\\ud800"}}]}',
        '{"messages": [{"role": "user", "content": "Hi"}], "metadata": {"a": "\\ud800"}}',
        '{"messages": [{"role": "user", "content": "Hi"}], "metadata": {"a": Infinity}}',
        '{"messages": [{"role": "user", "content": "Hi"}], "metadata": {"": 1}}',
        '{"messages": [{"role": "user", "content": "Hi"}], "metadata": {"a": ' + "[" * 30 + "]" * 30 + "}}",
    ],
)
def test_content_that_cannot_be_stored_is_refused_before_a_model_is_called(
    chatting: TestClient, upstream: FakeUpstream, body: str
) -> None:
    refused = chatting.post("/chats", content=body, headers={"Content-Type": "application/json"})
    assert refused.status_code == 400
    assert refused.json()["details"][0]["field"].startswith(("body.messages.0", "body.metadata"))
    assert upstream.requests == []


@pytest.mark.row("CH-7")
def test_the_guard_router_and_model_settings_of_a_chat_are_the_defaults_of_its_turns(
    chatting: TestClient, upstream: FakeUpstream
) -> None:
    upstream.models = [{"id": "small"}, {"id": "large"}]
    loans = create_expert(chatting, "loans")
    chat = ask(chatting)
    chatting.put(f"/chats/{chat['id']}", json={"guard_enabled": True, "router_enabled": True, "model": "large"})
    guard, router = guard_script(lambda _: False), router_script(loans)
    upstream.script = lambda body: (guard if schema_name(body) == "guard" else router)(body)
    completion = ask(chatting, "And?", id=chat["id"])
    applied = (completion["model"], completion["guard"]["enabled"], completion["router"]["expert_id"])
    assert applied == ("large", True, loans)
    plain = ask(chatting, "And?", id=chat["id"], guard_enabled=False, router_enabled=False, model="small")
    assert (plain["model"], plain["guard"]["enabled"], plain["router"]["enabled"]) == ("small", False, False)


@pytest.mark.row("CH-7")
def test_changed_settings_apply_to_the_next_turn_and_changed_messages_immediately(
    chatting: TestClient, upstream: FakeUpstream
) -> None:
    chat = ask(chatting)
    updated = chatting.put(
        f"/chats/{chat['id']}",
        json={"temperature": 0.3, "max_tokens": 7, "messages": [{"role": "user", "content": "Only this."}]},
    )
    assert updated.status_code == 200, updated.text
    assert [each["content"] for each in updated.json()["messages"]] == ["Only this."]
    ask(chatting, "And?", id=chat["id"])
    sent = upstream.calls()[-1]
    assert (sent["temperature"], sent["max_tokens"]) == (0.3, 7)
    assert [each["content"] for each in sent["messages"]] == ["Only this.", "And?"]


@pytest.mark.row("IL-1")
def test_the_log_contains_prompts_and_completions_only_when_the_space_stores_them(
    chatting: TestClient, settings: Settings, upstream: FakeUpstream
) -> None:
    ask(chatting, "a secret question", guard_enabled=False)
    events(chatting)
    items = json.dumps(boto3.client("dynamodb").scan(TableName=settings.logs_table_name or "")["Items"])
    assert "secret question" not in items
    assert "Hello there" not in items
    assert [(row["prompt"], row["answer"]) for row in logs(chatting)] == [(None, None)] * 2

    chatting.put("/clusters", json={"store_content": True})
    upstream.script = guard_script(lambda _: False)
    ask(chatting, "a secret question", guard_enabled=True)
    chat_row = logs(chatting, type="chat")[0]
    assert (chat_row["prompt"], chat_row["answer"]) == ("user: a secret question", "Hello there.")
    guard_row = logs(chatting, type="guard")[-1]
    assert "a secret question" in guard_row["prompt"]
    assert json.loads(guard_row["answer"])["flagged"] is False


@pytest.mark.row("CH-2")
def test_echo_returns_the_messages_that_were_sent_to_the_model(chatting: TestClient) -> None:
    assert [each["content"] for each in ask(chatting, echo=True)["messages"]] == [QUESTION["content"]]


def test_another_space_cannot_see_or_change_a_chat(chatting: TestClient, other_client: TestClient) -> None:
    chat = ask(chatting)
    for response in (
        other_client.get(f"/chats/{chat['id']}"),
        other_client.get(f"/chats/{chat['id']}/window"),
        other_client.put(f"/chats/{chat['id']}", json={"name": "mine"}),
        other_client.delete(f"/chats/{chat['id']}"),
    ):
        assert response.status_code == 404
    assert chatting.get(f"/chats/{chat['id']}").json()["name"] != "mine"
