"""Tests of chats with OpenAI's client, with the embedded model and with a fake language model server."""

import threading
import time
from collections.abc import Iterator

import httpx
import openai
import pytest

from tests.e2e.conftest import Stack
from tests.fixtures.upstream import FakeUpstream, served

MODEL = "smollm2-135m-instruct"
QUESTION: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": "Say hello."}]


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with served(FakeUpstream()) as upstream:
        yield upstream


def openai_client(stack: Stack, token: str, space_id: str) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{stack.settings.api_url}/v1",
        api_key=token,
        default_headers={"X-Space-Id": space_id},
        max_retries=0,
        http_client=openai.DefaultHttpxClient(trust_env=False),
    )


@pytest.mark.e2e
@pytest.mark.row("X-4", "CH-3")
def test_the_unchanged_openai_client_lists_models_chats_and_streams(stack: Stack) -> None:
    member = stack.member()
    client = openai_client(stack, member.token, member.space_id or "")
    assert [model.id for model in client.models.list()] == [MODEL]

    completion = client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=16)
    assert completion.object == "chat.completion"
    assert completion.choices[0].message.content
    assert completion.usage is not None
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens

    options: openai.types.chat.ChatCompletionStreamOptionsParam = {"include_usage": True}
    chunks = list(
        client.chat.completions.create(
            model=MODEL, messages=QUESTION, max_tokens=16, stream=True, stream_options=options
        )
    )
    assert "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert chunks[-1].usage is not None

    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="unknown", messages=QUESTION)
    assert MODEL in unknown.value.message
    with pytest.raises(openai.BadRequestError) as wrong:
        client.chat.completions.create(model=MODEL, messages=QUESTION, temperature=3)
    assert wrong.value.param == "temperature"
    with pytest.raises(openai.AuthenticationError):
        openai_client(stack, "no-token", member.space_id or "").models.list()

    # The summary includes calls that the roll-up has not added yet.
    summary = member.get("/inference-logs/summary")
    assert summary["total_calls"] == 2 == member.get("/inference-logs")["count"]


@pytest.mark.e2e
@pytest.mark.row("CH-3")
def test_a_client_that_disconnects_stops_the_completion_and_is_logged(stack: Stack, upstream: FakeUpstream) -> None:
    upstream.script = lambda _: "word " * 2000
    upstream.pause_seconds = 0.02
    member = stack.member()
    member.post("/clusters", {"ingress_url": upstream.url, "manager_url": upstream.url})
    headers = {"Authorization": f"Bearer {member.token}", "X-Space-Id": member.space_id or ""}
    body = {"messages": QUESTION, "stream": True}
    url = f"{stack.settings.api_url}/chats"
    with httpx.stream("POST", url, json=body, headers=headers, trust_env=False, timeout=30) as response:
        lines = (line for line in response.iter_lines() if line)
        for _ in range(5):
            next(lines)
    disconnected = time.monotonic()
    while not upstream.hung_up and time.monotonic() - disconnected < 10:
        time.sleep(0.02)
    assert upstream.hung_up == 1
    assert time.monotonic() - disconnected < 2
    rows: list[dict[str, object]] = []
    while not rows and time.monotonic() - disconnected < 10:
        rows = member.get("/inference-logs")["data"]
    assert rows[0]["status"] == "cancelled"
    assert 0 < int(str(rows[0]["output_tokens"])) < 2000


@pytest.mark.e2e
@pytest.mark.row("X-6")
def test_only_the_first_call_during_an_outage_reaches_the_cluster(stack: Stack, upstream: FakeUpstream) -> None:
    member = stack.member()
    with served(FakeUpstream()) as stopped:
        member.post("/clusters", {"ingress_url": stopped.url, "manager_url": stopped.url, "default_model": "small"})
    headers = {"Authorization": f"Bearer {member.token}", "X-Space-Id": member.space_id or ""}
    codes: list[str] = []

    def ask() -> None:
        response = httpx.post(
            f"{stack.settings.api_url}/chats",
            json={"messages": QUESTION},
            headers=headers,
            trust_env=False,
            timeout=30,
        )
        assert response.status_code == 502, response.text
        codes.append(response.json()["code"])

    ask()
    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # The first call was sent to the cluster. The circuit breaker refuses the others.
    assert codes == ["cluster_unreachable", *["circuit_open"] * 20]

    member.call("PUT", "/clusters", {"ingress_url": upstream.url})
    response = httpx.post(
        f"{stack.settings.api_url}/chats", json={"messages": QUESTION}, headers=headers, trust_env=False, timeout=30
    )
    assert response.status_code == 201
