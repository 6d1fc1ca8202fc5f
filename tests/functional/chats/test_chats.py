"""Chats over HTTP, against a language model server that does what each test tells it to."""

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from aiohttp import web
from fastapi.testclient import TestClient

import functions.chats.service as chat_service
import shared.chats.store as chat_store
from shared.settings import Settings
from tests.fixtures.aws import BUCKET
from tests.fixtures.upstream import Body, FakeUpstream, Refusal, schema_name, served

QUESTION = {"role": "user", "content": "Which offer suits Ada?"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"allow_loopback": True})


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with served(FakeUpstream()) as upstream:
        yield upstream


def register(client: TestClient, upstream: FakeUpstream, **settings: Any) -> None:
    cluster = {"ingress_url": upstream.url, "manager_url": upstream.url, "token": "a-token-of-the-cluster", **settings}
    created = client.post("/clusters", json=cluster)
    assert created.status_code == 201, created.text


@pytest.fixture
def chatting(client: TestClient, upstream: FakeUpstream) -> TestClient:
    """A client whose space has a cluster."""
    register(client, upstream)
    return client


def ask(client: TestClient, text: str = "Which offer suits Ada?", **body: Any) -> Any:
    answer = client.post("/chats", json={"messages": [{"role": "user", "content": text}], **body})
    assert answer.status_code == 201, answer.text
    return answer.json()


def events(client: TestClient, path: str = "/chats", **body: Any) -> list[Any]:
    """A stream's events; ``[DONE]`` as it is."""
    request = {"messages": [QUESTION], "stream": True, **body}
    with client.stream("POST", path, json=request) as response:
        assert response.headers["content-type"].startswith("text/event-stream"), response.read()
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def said(chunks: list[Any]) -> str:
    deltas = [choice["delta"] for chunk in chunks if chunk != "[DONE]" for choice in chunk.get("choices", [])]
    return "".join(delta.get("content") or "" for delta in deltas)


def logs(client: TestClient, **filters: Any) -> list[Any]:
    data: list[Any] = client.get("/inference-logs", params=filters).json()["data"]
    return data


def judging(flagged: Any, answer: str = "Hello there.") -> Any:
    """A script whose guard flags texts for which ``flagged`` holds."""

    def script(body: Body) -> Any:
        if schema_name(body) == "guard":
            text = body["messages"][-1]["content"]
            verdict = {"flagged": flagged(text), "categories": ["crime"] if flagged(text) else []}
            if "reasoning" in body["response_format"]["json_schema"]["schema"]["properties"]:
                verdict["reasoning"] = "because"
            return json.dumps(verdict)
        return answer

    return script


@pytest.mark.row("CH-2", "CH-6")
def test_a_question_is_answered_and_both_turns_are_in_the_history(chatting: TestClient) -> None:
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
    answer = chatting.post("/chats", json={"id": first["id"], "messages": again})
    assert answer.status_code == 201
    assert len(chatting.get(f"/chats/{first['id']}").json()["messages"]) == 4


def test_a_repeated_request_with_the_same_key_asks_the_model_once(chatting: TestClient, upstream: FakeUpstream) -> None:
    body = {"messages": [QUESTION]}
    answers = [chatting.post("/chats", json=body, headers={"Idempotency-Key": "k"}).json() for _ in range(2)]
    assert answers[0] == answers[1]
    assert len(upstream.calls()) == 1
    assert chatting.get("/chats").json()["count"] == 1
    other = {"messages": [{"role": "user", "content": "Else?"}]}
    assert chatting.post("/chats", json=other, headers={"Idempotency-Key": "k"}).status_code == 409


def test_a_turn_larger_than_an_item_of_the_store_is_kept_whole(chatting: TestClient, upstream: FakeUpstream) -> None:
    upstream.models = [{"id": "small"}]
    text = "word " * 200_000
    chat = ask(chatting, text)
    assert chatting.get(f"/chats/{chat['id']}").json()["messages"][0]["content"] == text
    chatting.delete(f"/chats/{chat['id']}")
    assert "Contents" not in boto3.client("s3").list_objects_v2(Bucket=BUCKET)


@pytest.mark.row("CH-1")
def test_chats_are_found_by_any_part_of_their_name_over_all_pages(chatting: TestClient) -> None:
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
def test_chats_beyond_those_that_are_counted_are_found_all_the_same(
    chatting: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_store, "SEARCHED_CHATS", 2)
    for name in ("Ada one", "Bob", "Ada two", "Carl"):
        ask(chatting, name=name)
    first = chatting.get("/chats", params={"name": "ada", "limit": 1}).json()
    assert (first["count"], first["count_capped"], first["has_more"]) == (1, True, True)
    second = chatting.get("/chats", params={"name": "ada", "limit": 1, "after": first["data"][0]["id"]}).json()
    assert [chat["name"] for chat in second["data"]] == ["Ada one"]
    assert second["has_more"] is False


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
def test_what_can_not_be_kept_is_refused_before_a_model_is_asked(
    chatting: TestClient, upstream: FakeUpstream, body: str
) -> None:
    refused = chatting.post("/chats", content=body, headers={"Content-Type": "application/json"})
    assert refused.status_code == 400
    assert refused.json()["details"][0]["field"].startswith(("body.messages.0", "body.metadata"))
    assert upstream.requests == []


@pytest.mark.row("CH-3")
def test_a_stream_repeated_with_the_same_key_is_told_again(chatting: TestClient, upstream: FakeUpstream) -> None:
    body = {"messages": [QUESTION], "stream": True}
    texts = [chatting.post("/chats", json=body, headers={"Idempotency-Key": "k"}).text.splitlines() for _ in range(2)]
    first, second = ([json.loads(line[6:]) for line in lines if line[6:7] == "{"] for lines in texts)
    assert said(first) == said(second) == "Hello there."
    assert first[-1]["usage"] == second[-1]["usage"]
    assert texts[1][-2] == "data: [DONE]"
    assert len(upstream.calls()) == 1
    other = chatting.post("/chats", json=body | {"name": "other"}, headers={"Idempotency-Key": "k"})
    assert other.status_code == 409


@pytest.mark.row("CH-2")
def test_echo_comes_with_the_last_chunk_of_a_stream(chatting: TestClient) -> None:
    assert [each["content"] for each in events(chatting, echo=True)[-2]["messages"]] == [QUESTION["content"]]
    assert "messages" not in events(chatting)[-2]


async def ask_and_leave(app: Any, client: TestClient, body: Body, seconds: float) -> list[Any]:
    """A client that hangs up after so many seconds; what it was sent."""
    sent: list[Any] = []
    requests = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]

    async def receive() -> Any:
        if requests:
            return requests.pop()
        await asyncio.sleep(seconds)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(name.encode(), value.encode()) for name, value in client.headers.items()]
    headers += [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/chats", "headers": headers, "query_string": b""}
    await app(scope | {"http_version": "1.1", "scheme": "http", "server": ("test", 80)}, receive, send)
    return sent


@pytest.mark.row("CH-3")
@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_before_the_first_word_stops_the_server_too(
    chatting: TestClient, upstream: FakeUpstream, stream: bool
) -> None:
    ask(chatting)
    upstream.silence_seconds, upstream.delay_seconds = (10, 0) if stream else (0, 10)
    started = time.monotonic()
    body = {"messages": [QUESTION], "stream": stream}
    asyncio.run(ask_and_leave(chatting.app, chatting, body, 0.5))
    while not upstream.hung_up and time.monotonic() - started < 5:
        time.sleep(0.02)
    assert upstream.hung_up == 1
    assert time.monotonic() - started < 2.5
    assert logs(chatting)[0]["status"] == "cancelled"


@pytest.mark.row("CH-3")
def test_a_stream_ends_with_the_usage_and_done_and_is_stored(chatting: TestClient) -> None:
    received = events(chatting)
    assert received[-1] == "[DONE]"
    assert received[-2]["usage"]["total_tokens"] == 6
    assert said(received) == "Hello there."
    assert len(received) > 3
    chat = chatting.get(f"/chats/{received[0]['id']}").json()
    assert [each["content"] for each in chat["messages"]] == [QUESTION["content"], "Hello there."]
    assert logs(chatting)[0]["total_tokens"] == 6
    assert logs(chatting)[0]["first_token_ms"] > 0


def test_what_fails_before_the_first_chunk_has_a_status_of_its_own(
    chatting: TestClient, upstream: FakeUpstream
) -> None:
    upstream.script = lambda _: Refusal(500)
    refused = chatting.post("/chats", json={"messages": [QUESTION], "stream": True})
    assert refused.status_code == 502
    assert refused.json()["code"] == "cluster_error"


def test_a_stream_that_breaks_ends_with_a_typed_error_and_a_log_row(
    chatting: TestClient, upstream: FakeUpstream
) -> None:
    upstream.script = lambda _: "one two three four"
    upstream.cut_after = 2
    # A connection that breaks takes along what was sent just before.
    upstream.pause_seconds = 0.1
    received = events(chatting)
    assert said(received) == "one two"
    assert received[-1]["code"] in ("cluster_error", "cluster_unreachable")
    (row,) = logs(chatting)
    assert row["status"] == "error"
    assert row["output_tokens"] > 0
    assert chatting.get("/chats").json()["count"] == 0


@pytest.mark.row("CH-4")
def test_a_blocked_prompt_never_reaches_the_model(chatting: TestClient, upstream: FakeUpstream) -> None:
    upstream.script = judging(lambda text: "bomb" in text)
    answer = ask(chatting, "How do I build a bomb?", guard_enabled=True)
    assert answer["choices"][0]["finish_reason"] == "content_filter"
    assert answer["guard"]["flagged"] is True
    assert answer["guard"]["stage"] == "input"
    assert answer["guard"]["reasoning"] is None
    assert answer["usage"]["completion_tokens"] == 0
    assert [schema_name(body) for body in upstream.calls()] == ["guard"]
    assert {(row["type"], row["status"]) for row in logs(chatting)} == {("guard", "success"), ("chat", "blocked")}

    reasoned = ask(chatting, "How do I build a bomb?", guard_enabled=True, guard_reasoning_enabled=True)
    assert reasoned["guard"]["reasoning"] == "because"
    # The chat can be gone on with, and holds nothing of what was blocked.
    assert chatting.get(f"/chats/{answer['id']}").json()["messages"] == []


@pytest.mark.row("CH-4")
def test_a_blocked_answer_is_not_told(chatting: TestClient, upstream: FakeUpstream) -> None:
    upstream.script = judging(lambda text: "recipe" in text, answer="Here is the recipe.")
    answer = ask(chatting, guard_enabled=True)
    assert answer["choices"][0]["message"]["content"] == ""
    assert answer["guard"]["stage"] == "output"


@pytest.mark.row("CH-4")
def test_words_of_the_blocked_list_are_blocked_without_a_model(client: TestClient, upstream: FakeUpstream) -> None:
    register(client, upstream, guard_blocked_words=["project  falcon"])
    answer = ask(client, "Tell me about PROJECT FALCON!", guard_enabled=True)
    assert answer["guard"]["flagged"] is True
    assert answer["guard"]["categories"] == ["blocked_word"]
    assert upstream.calls() == []


@pytest.mark.row("CH-4")
def test_nothing_passes_while_the_guard_is_down(chatting: TestClient, upstream: FakeUpstream) -> None:
    upstream.script = lambda body: Refusal(500) if schema_name(body) == "guard" else "Hello."
    for stream in (False, True):
        refused = chatting.post("/chats", json={"messages": [QUESTION], "guard_enabled": True, "stream": stream})
        assert refused.status_code == 503
        assert refused.json()["code"] == "guard_unavailable"
    assert [schema_name(body) for body in upstream.calls() if schema_name(body) is None] == []


def test_texts_of_a_server_that_the_guard_does_not_read_are_not_told(
    chatting: TestClient, upstream: FakeUpstream
) -> None:
    harmless = judging(lambda _: False)

    def script(body: Body) -> Any:
        thinking = {"role": "assistant", "content": "Hello.", "reasoning_content": "unread"}
        return harmless(body) if schema_name(body) else thinking

    upstream.script = script
    assert "unread" in chatting.post("/chats", json={"messages": [QUESTION]}).text
    guarded = chatting.post("/chats", json={"messages": [QUESTION], "guard_enabled": True})
    assert guarded.json()["choices"][0]["message"] == {"role": "assistant", "content": "Hello."}


@pytest.mark.row("CH-4", "Y-6")
def test_of_a_guarded_stream_only_judged_sentences_are_sent_and_all_are_counted(
    chatting: TestClient, upstream: FakeUpstream
) -> None:
    text = "It is fine. So is this! And this? But here is the secret. Never seen."
    upstream.script = judging(lambda text: "secret" in text.partition("<text>")[2], answer=text)
    received = events(chatting, guard_enabled=True)
    assert said(received) == "It is fine. So is this! And this?"
    assert received[-2]["guard"]["flagged"] is True
    assert received[-1] == "[DONE]"
    row = logs(chatting, type="chat")[0]
    assert row["status"] == "blocked"
    assert row["guard"]["sent_characters"] == len(said(received))

    upstream.script = judging(lambda _: False, answer=text)
    received = events(chatting, guard_enabled=True)
    assert said(received) == text
    row = logs(chatting, type="chat")[0]
    assert row["guard"] == {"scanned_characters": len(text), "sent_characters": len(text)}


@pytest.mark.row("CH-4")
def test_a_guard_that_fails_in_the_midst_of_a_stream_ends_it(chatting: TestClient, upstream: FakeUpstream) -> None:
    harmless = judging(lambda _: False, answer="It is fine. This is not judged. Never seen.")

    def script(body: Body) -> Any:
        is_down = schema_name(body) == "guard" and "not judged" in body["messages"][-1]["content"]
        return Refusal(500) if is_down else harmless(body)

    upstream.script = script
    received = events(chatting, guard_enabled=True)
    assert said(received) == "It is fine."
    assert received[-1]["code"] == "guard_unavailable"
    assert logs(chatting, type="chat")[0]["status"] == "error"
    assert chatting.get("/chats").json()["count"] == 0


@pytest.mark.row("CH-4", "Y-6")
@pytest.mark.parametrize("is_flagged", [False, True])
def test_the_tool_calls_of_a_guarded_stream_are_judged_and_counted(
    chatting: TestClient, upstream: FakeUpstream, is_flagged: bool
) -> None:
    calls = [{"id": "1", "type": "function", "function": {"name": "rate", "arguments": '{"of": "bombs"}'}}]
    judge = judging(lambda text: is_flagged and "bombs" in text)

    def script(body: Body) -> Any:
        return judge(body) if schema_name(body) else {"content": "Let me see.", "tool_calls": calls}

    upstream.script = script
    received = events(chatting, guard_enabled=True)
    deltas = [choice["delta"] for chunk in received[:-1] for choice in chunk["choices"]]
    assert any(delta.get("tool_calls") for delta in deltas) is not is_flagged
    told = len('Let me see.rate {"of": "bombs"}')
    sent = 0 if is_flagged else told
    assert logs(chatting, type="chat")[0]["guard"] == {"scanned_characters": told, "sent_characters": sent}


@pytest.mark.row("CH-4")
def test_a_prompt_that_lies_in_the_chat_already_is_judged_before_it_is_answered(
    chatting: TestClient, upstream: FakeUpstream
) -> None:
    chat = ask(chatting)
    chatting.put(f"/chats/{chat['id']}", json={"messages": [{"role": "user", "content": "How do I build a bomb?"}]})
    upstream.requests.clear()
    upstream.script = judging(lambda text: "bomb" in text)
    answer = chatting.post("/chats", json={"id": chat["id"], "guard_enabled": True}).json()
    assert answer["guard"]["flagged"] is True
    assert [schema_name(body) for body in upstream.calls()] == ["guard"]


@pytest.mark.row("CH-4")
@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": [{"type": "text", "text": "How do I build a bomb?"}]},
        {"role": "user", "content": [{"type": "text", "text": "Hi", "note": "a bomb"}]},
        {"role": "user", "content": "Hi", "reasoning_content": "build a bomb"},
        {"role": "user", "content": "Hi", "name": "bomb"},
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "a", "arguments": "bomb"}}]},
    ],
)
def test_the_guard_reads_all_that_the_model_is_sent(
    chatting: TestClient, upstream: FakeUpstream, message: dict[str, Any]
) -> None:
    upstream.script = judging(lambda text: "bomb" in text)
    answer = chatting.post("/chats", json={"messages": [message], "guard_enabled": True})
    assert answer.json()["guard"]["flagged"] is True
    assert {schema_name(body) for body in upstream.calls()} == {"guard"}


@pytest.mark.row("CH-4")
def test_what_the_guard_can_not_read_does_not_pass(chatting: TestClient, upstream: FakeUpstream) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    body = {"messages": [{"role": "user", "content": [picture]}]}
    refused = chatting.post("/chats", json=body | {"guard_enabled": True})
    assert refused.status_code == 400
    assert "text only" in refused.json()["error"]
    assert upstream.calls() == []
    assert chatting.post("/chats", json=body).status_code == 201
    assert upstream.calls()[0]["messages"][0]["content"] == [picture]


@pytest.mark.row("Y-6")
def test_of_a_long_text_only_the_pieces_that_were_judged_are_counted(
    chatting: TestClient, upstream: FakeUpstream
) -> None:
    text = "bad " + "x" * 9_996
    upstream.script = judging(lambda shown: "bad" in shown.partition("<text>")[2], answer=text)
    ask(chatting, guard_enabled=True)
    assert logs(chatting, type="chat")[0]["guard"] == {"scanned_characters": 4000, "sent_characters": 0}


def make_expert(client: TestClient, name: str, **fields: Any) -> str:
    created = client.post("/experts", json={"name": name, "description": f"answers about {name}", **fields})
    assert created.status_code == 201, created.text
    expert_id: str = created.json()["id"]
    return expert_id


def routing(expert_id: str) -> Any:
    def script(body: Body) -> Any:
        if schema_name(body) == "router":
            properties = body["response_format"]["json_schema"]["schema"]["properties"]
            return json.dumps(
                {**({"reasoning": "it fits"} if "reasoning" in properties else {}), "expert_id": expert_id}
            )
        return "Answered."

    return script


@pytest.mark.row("CH-5")
def test_the_files_of_an_expert_reach_the_model_whole(client: TestClient, upstream: FakeUpstream) -> None:
    upstream.models = [{"id": "small"}]
    register(client, upstream)
    file = {"name": "rates.txt", "content": "five percent\n" * 10_000}
    upstream.script = routing(make_expert(client, "loans", file_context=[file]))
    ask(client, router_enabled=True)
    assert file["content"] in upstream.calls()[-1]["messages"][0]["content"]


@pytest.mark.row("CH-5", "X-10")
def test_the_router_picks_an_expert_who_brings_context_and_tools(chatting: TestClient, upstream: FakeUpstream) -> None:
    tool = {"type": "function", "function": {"name": "rate", "description": "a rate", "parameters": {"type": "object"}}}
    loans = make_expert(chatting, "loans", context="You know loans.", tools=[tool])
    make_expert(chatting, "cards", context="You know cards.")
    upstream.script = routing(loans)
    answer = ask(chatting, router_enabled=True, router_reasoning_enabled=True)
    assert answer["router"]["expert_id"] == loans
    assert answer["router"]["expert_name"] == "loans"
    assert answer["router"]["reasoning"] == "it fits"
    assert answer["usage"]["router_tokens"] > 0
    sent = upstream.calls()[-1]
    assert "You know loans." in sent["messages"][0]["content"]
    assert sent["tools"][0]["function"]["name"] == "rate"
    row = logs(chatting, type="chat")[0]
    assert (row["expert_id"], row["expert_version"]) == (loans, 1)

    chatting.put(f"/experts/{loans}", json={"context": "You know loans well."})
    ask(chatting, router_enabled=True)
    assert logs(chatting, type="chat")[0]["expert_version"] == 2


@pytest.mark.row("CH-5")
def test_the_plain_model_answers_when_the_router_fails_and_says_so(
    chatting: TestClient, upstream: FakeUpstream
) -> None:
    make_expert(chatting, "loans")
    upstream.script = lambda body: "no json" if schema_name(body) == "router" else "Answered."
    answer = ask(chatting, router_enabled=True)
    assert answer["choices"][0]["message"]["content"] == "Answered."
    assert answer["router"]["expert_id"] is None
    assert "router failed" in answer["router"]["fallback"]
    assert answer["usage"]["router_tokens"] == logs(chatting, type="router")[0]["total_tokens"] > 0


@pytest.mark.row("CH-5", "EX-1")
def test_an_expert_that_is_deleted_while_the_router_picks_it_is_not_used(
    chatting: TestClient, upstream: FakeUpstream
) -> None:
    loans = make_expert(chatting, "loans", context="You know loans.")
    pick = routing(loans)

    def script(body: Body) -> Any:
        if schema_name(body) == "router":
            chatting.delete(f"/experts/{loans}")
        return pick(body)

    upstream.script = script
    answer = ask(chatting, router_enabled=True)
    assert answer["router"]["expert_id"] is None
    assert "deleted" in answer["router"]["fallback"]
    assert upstream.calls()[-1]["messages"] == [QUESTION]


@pytest.mark.row("X-10")
def test_the_history_says_which_version_of_which_experts_answered(chatting: TestClient, upstream: FakeUpstream) -> None:
    loans, cards = make_expert(chatting, "loans"), make_expert(chatting, "cards")
    chatting.put(f"/experts/{cards}", json={"context": "You know cards."})
    chat = ask(chatting, expert_ids=[loans, cards])
    question, answer = chatting.get(f"/chats/{chat['id']}").json()["messages"]
    assert question["expert_versions"] is None
    assert answer["expert_versions"] == [
        {"id": loans, "name": "loans", "version_number": 1},
        {"id": cards, "name": "cards", "version_number": 2},
    ]
    ask(chatting, "And?", id=chat["id"])
    assert "expert_versions" not in json.dumps(upstream.calls()[-1])


@pytest.mark.row("CH-5")
def test_an_unknown_expert_is_refused_and_a_deleted_one_never_routed_to(
    chatting: TestClient, upstream: FakeUpstream
) -> None:
    loans, cards = make_expert(chatting, "loans"), make_expert(chatting, "cards")
    assert chatting.delete(f"/experts/{loans}").status_code == 204
    refused = chatting.post("/chats", json={"messages": [QUESTION], "expert_ids": [loans]})
    assert refused.status_code == 400
    upstream.script = routing(cards)
    ask(chatting, router_enabled=True)
    (asked,) = upstream.calls(schema="router")
    assert asked["response_format"]["json_schema"]["schema"]["properties"]["expert_id"]["enum"] == [cards]


def test_of_many_experts_the_nearest_by_embedding_are_shown_to_the_router(
    client: TestClient, upstream: FakeUpstream
) -> None:
    register(client, upstream, embedding_model="small")
    experts = {name: make_expert(client, name * 8) for name in "abcdefghijklmnopq"}
    upstream.script = routing(experts["q"])
    answer = ask(client, "qqqqqqqq?", router_enabled=True)
    assert answer["router"]["expert_id"] == experts["q"]
    (asked,) = upstream.calls(schema="router")
    assert len(asked["response_format"]["json_schema"]["schema"]["properties"]["expert_id"]["enum"]) == 12
    assert logs(client, type="embedding")[0]["input_tokens"] == 3


def test_without_the_router_the_named_experts_are_all_applied_in_order(
    chatting: TestClient, upstream: FakeUpstream
) -> None:
    loans = make_expert(chatting, "loans", context="You know loans.")
    cards = make_expert(chatting, "cards", file_context=[{"name": "rates.txt", "content": "Cards cost 5."}])
    ask(chatting, expert_ids=[loans, cards])
    (sent,) = upstream.calls()
    system = sent["messages"][0]["content"]
    assert system.index("You know loans.") < system.index("Cards cost 5.")


def test_tools_are_emulated_where_the_server_lacks_them(client: TestClient, upstream: FakeUpstream) -> None:
    register(client, upstream, tool_calls="emulated")
    parameters = {"type": "object", "properties": {"years": {"type": "integer"}}, "required": ["years"]}
    tool = {"type": "function", "function": {"name": "rate", "description": "a rate", "parameters": parameters}}
    loans = make_expert(client, "loans", tools=[tool])
    upstream.script = lambda _: json.dumps({"name": "rate", "arguments": {"years": 3}})
    answer = ask(client, expert_ids=[loans])
    (call,) = answer["choices"][0]["message"]["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"years": 3}
    assert answer["choices"][0]["finish_reason"] == "tool_calls"
    assert "tools" not in upstream.calls()[-1]
    streamed = events(client, expert_ids=[loans])
    deltas = [choice["delta"] for chunk in streamed[:-1] for choice in chunk["choices"]]
    assert any(delta.get("tool_calls") for delta in deltas)

    upstream.script = lambda _: json.dumps({"name": "rate", "arguments": {"years": "three"}})
    broken = client.post("/chats", json={"messages": [QUESTION], "expert_ids": [loans]})
    assert broken.status_code == 502


@pytest.mark.parametrize("reference", ["URL", "file:///etc/hostname"])
def test_a_tool_s_schema_that_refers_elsewhere_is_refused_and_not_followed(
    client: TestClient, upstream: FakeUpstream, reference: str
) -> None:
    register(client, upstream, tool_calls="emulated")
    parameters = {"type": "object", "properties": {"a": {"$ref": reference.replace("URL", f"{upstream.url}/models")}}}
    tool = {"type": "function", "function": {"name": "rate", "parameters": parameters}}
    refused = client.post("/experts", json={"name": "L", "description": "", "tools": [tool]})
    assert refused.status_code == 400
    asked = client.post("/v1/chat/completions", json={"model": "small", "messages": [QUESTION], "tools": [tool]})
    assert asked.status_code == 400
    assert len(upstream.requests) == 1  # for the list of models, by us


@pytest.mark.row("CH-7")
def test_the_guard_the_router_and_the_model_are_defaults_too(chatting: TestClient, upstream: FakeUpstream) -> None:
    upstream.models = [{"id": "small"}, {"id": "large"}]
    loans = make_expert(chatting, "loans")
    chat = ask(chatting)
    chatting.put(f"/chats/{chat['id']}", json={"guard_enabled": True, "router_enabled": True, "model": "large"})
    judge, pick = judging(lambda _: False), routing(loans)
    upstream.script = lambda body: (judge if schema_name(body) == "guard" else pick)(body)
    answer = ask(chatting, "And?", id=chat["id"])
    assert (answer["model"], answer["guard"]["enabled"], answer["router"]["expert_id"]) == ("large", True, loans)
    plain = ask(chatting, "And?", id=chat["id"], guard_enabled=False, router_enabled=False, model="small")
    assert (plain["model"], plain["guard"]["enabled"], plain["router"]["enabled"]) == ("small", False, False)


@pytest.mark.row("CH-7")
def test_settings_of_a_chat_hold_for_its_next_turn_and_messages_are_replaced_at_once(
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


@pytest.mark.row("CH-8")
def test_the_window_is_the_newest_part_that_fits_and_begins_with_a_user(
    client: TestClient, upstream: FakeUpstream
) -> None:
    upstream.models = [{"id": "small", "context_length": 400}]
    register(client, upstream)
    messages: list[dict[str, str]] = [{"role": "system", "content": "Be brief."}]
    for turn in range(20):
        messages += [
            {"role": "user", "content": f"question {turn} " + "x " * 20},
            {"role": "assistant", "content": f"answer {turn} " + "y " * 20},
        ]
    chat = ask(client, "Hi")
    client.put(f"/chats/{chat['id']}", json={"messages": messages, "max_tokens": 50})
    window = client.get(f"/chats/{chat['id']}/window").json()["messages"]
    assert window[0]["role"] == "system"
    assert window[1]["role"] == "user"
    said = [each["content"] for each in window[1:]]
    assert said == [each["content"] for each in messages[-len(said) :]]
    assert 2 <= len(said) < 40

    client.put(f"/chats/{chat['id']}", json={"messages": messages[:3]})
    assert len(client.get(f"/chats/{chat['id']}/window").json()["messages"]) == 3


@pytest.mark.row("CH-8")
def test_tokens_are_counted_by_the_server_s_tokenizer_and_estimated_without(
    chatting: TestClient, upstream: FakeUpstream
) -> None:
    """1,000 tokens are read, 512 of them kept for the answer; by the estimate 400 short words have 667."""
    text = "one two " * 200
    upstream.has_tokenizer = True
    assert chatting.post("/chats", json={"messages": [{"role": "user", "content": text}]}).status_code == 201
    upstream.has_tokenizer = False
    upstream.requests.clear()
    assert chatting.post("/chats", json={"messages": [{"role": "user", "content": text}]}).status_code == 400
    assert [path for path, _, _ in upstream.requests] == ["/tokenize"]


@pytest.mark.row("CH-8")
def test_tools_take_their_room_in_the_window(chatting: TestClient, upstream: FakeUpstream) -> None:
    tool = {"type": "function", "function": {"name": "rate", "description": "rate " * 400}}
    loans = make_expert(chatting, "loans", tools=[tool])
    refused = chatting.post("/chats", json={"messages": [QUESTION], "expert_ids": [loans]})
    assert (refused.status_code, refused.json()["code"]) == (400, "context_length_exceeded")
    assert upstream.calls() == []


def test_a_turn_too_long_for_the_model_is_refused_with_its_length(chatting: TestClient, upstream: FakeUpstream) -> None:
    refused = chatting.post("/chats", json={"messages": [{"role": "user", "content": "word " * 3000}]})
    assert refused.status_code == 400
    assert refused.json()["code"] == "context_length_exceeded"
    assert upstream.calls() == []


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
