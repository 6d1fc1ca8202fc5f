"""The gateway to a language model server, against servers that misbehave in every way."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import pytest
from aiohttp import web

from shared.aws.address_guard import AddressGuard
from shared.errors import ApiError
from shared.llm.sessions import Sessions
from shared.llm.upstream import (
    BrokenAnswerError,
    RefusedError,
    UnreachableError,
    Upstream,
    UpstreamTimeoutError,
)
from tests.fixtures.upstream import FakeUpstream, Refusal, served

T = TypeVar("T")
BODY: dict[str, Any] = {"model": "small", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture
def server() -> Iterator[FakeUpstream]:
    with served(FakeUpstream()) as server:
        yield server


def run(url: str, work: Callable[[Upstream], Awaitable[T]], timeout_seconds: float = 5) -> T:
    async def connected() -> T:
        sessions = Sessions(AddressGuard(allow_loopback=True))
        try:
            return await work(Upstream(sessions, url, "token", timeout_seconds))
        finally:
            await sessions.current().close()

    return asyncio.run(connected())


async def collect(upstream: Upstream) -> list[dict[str, Any]]:
    async with upstream.stream({**BODY, "stream": True}) as chunks:
        return [chunk async for chunk in chunks]


def test_the_address_may_end_in_v1_or_not(server: FakeUpstream) -> None:
    for url in (server.url, f"{server.url}/", server.url.removesuffix("/v1")):
        assert run(url, lambda upstream: upstream.complete(BODY)).text == "Hello there."


def test_a_server_that_is_down_is_tried_three_times_and_then_unreachable() -> None:
    with served(FakeUpstream()) as gone:
        url = gone.url
    with pytest.raises(UnreachableError):
        run(url, lambda upstream: upstream.complete(BODY))


def test_a_call_that_was_heard_is_never_made_twice(server: FakeUpstream) -> None:
    server.script = lambda _: Refusal(500)
    with pytest.raises(BrokenAnswerError):
        run(server.url, lambda upstream: upstream.complete(BODY))
    assert len(server.calls()) == 1


def test_a_silent_server_is_given_up(server: FakeUpstream) -> None:
    server.delay_seconds = 3
    with pytest.raises(UpstreamTimeoutError):
        run(server.url, lambda upstream: upstream.complete(BODY), timeout_seconds=0.2)


@pytest.mark.parametrize(
    "answer", [b"", b"no json", b"[]", b"{}", b'{"choices": []}', b'{"choices": [{"message": 1}]}']
)
def test_an_answer_without_a_message_is_broken(server: FakeUpstream, answer: bytes) -> None:
    server.script = lambda _: answer
    with pytest.raises(BrokenAnswerError):
        run(server.url, lambda upstream: upstream.complete(BODY))


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [(401, RefusedError, "token"), (400, RefusedError, "too long"), (503, BrokenAnswerError, "503")],
)
def test_a_refusal_says_what_to_do(server: FakeUpstream, status: int, kind: type[ApiError], words: str) -> None:
    server.script = lambda _: Refusal(status, {"error": {"message": "the prompt is too long"}})
    with pytest.raises(kind, match=words):
        run(server.url, lambda upstream: upstream.complete(BODY))


def test_an_answer_without_end_is_cut_off() -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" " * 1_000_000)

    class Endless(FakeUpstream):
        def app(self) -> web.Application:
            app = web.Application()
            app.router.add_post("/v1/chat/completions", endless)
            return app

    with served(Endless()) as server:
        with pytest.raises(BrokenAnswerError, match="too much"):
            run(server.url, lambda upstream: upstream.complete(BODY))
        with pytest.raises(BrokenAnswerError, match="too large"):
            run(server.url, collect)


def test_a_stream_that_breaks_off_is_no_end(server: FakeUpstream) -> None:
    server.script = lambda _: "one two three"
    server.cut_after, server.pause_seconds = 1, 0.05
    with pytest.raises((BrokenAnswerError, UnreachableError)):
        run(server.url, collect)


@pytest.mark.parametrize(
    ("listed", "length"),
    [
        ({"context_length": 8192}, 8192),
        ({"max_model_len": 4096}, 4096),
        ({"meta": {"n_ctx": 2048, "n_ctx_train": 8192}}, 2048),
        ({"created": "yesterday", "meta": None}, None),
    ],
)
def test_the_length_of_the_context_is_read_from_every_kind_of_server(
    server: FakeUpstream, listed: dict[str, Any], length: int | None
) -> None:
    server.models = [{"id": "a", **listed}, {"no": "id"}]
    models = run(server.url, lambda upstream: upstream.models())
    assert [(model.id, model.context_length) for model in models] == [("a", length)]


def test_addresses_within_our_network_are_not_called(server: FakeUpstream) -> None:
    async def call() -> None:
        upstream = Upstream(Sessions(AddressGuard()), server.url, None, 5)
        await upstream.complete(BODY)

    with pytest.raises(UnreachableError, match="may not be called"):
        asyncio.run(call())
    assert server.requests == []
