"""Tests of the client for language model servers, with servers that fail in many ways."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import pytest
from aiohttp import web

import shared.llm.upstream as upstream_module
from shared.errors import ApiError
from shared.llm.completions import (
    BrokenResponseError,
    BusyError,
    OverloadedError,
    RefusedError,
    RejectedError,
    UnreachableError,
    UpstreamTimeoutError,
)
from shared.llm.upstream import Upstream
from shared.network.address_guard import AddressGuard
from shared.network.sessions import Sessions
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


def test_an_address_is_accepted_with_and_without_v1(server: FakeUpstream) -> None:
    for url in (server.url, f"{server.url}/", server.url.removesuffix("/v1")):
        assert run(url, lambda upstream: upstream.complete(BODY)).text == "Hello there."


def test_a_stopped_server_is_unreachable() -> None:
    with served(FakeUpstream()) as gone:
        url = gone.url
    with pytest.raises(UnreachableError):
        run(url, lambda upstream: upstream.complete(BODY))


def test_a_refused_connection_is_retried_until_the_server_starts() -> None:
    with served(FakeUpstream()) as late:
        port = late.port

    async def call(upstream: Upstream) -> Any:
        completion = asyncio.create_task(upstream.complete(BODY))
        await asyncio.sleep(0.02)  # the first attempt has failed by now
        assert not completion.done()
        server = FakeUpstream(port=port)
        runner = web.AppRunner(server.app())
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        try:
            return await completion, len(server.calls())
        finally:
            await runner.cleanup()

    completion, calls = run(f"http://127.0.0.1:{port}", call)
    assert (completion.text, calls) == ("Hello there.", 1)


def test_a_call_that_the_server_received_is_not_repeated(server: FakeUpstream) -> None:
    server.script = lambda _: Refusal(500)
    with pytest.raises(BrokenResponseError):
        run(server.url, lambda upstream: upstream.complete(BODY))
    assert len(server.calls()) == 1


def test_a_server_that_does_not_respond_causes_a_timeout(server: FakeUpstream) -> None:
    server.delay_seconds = 3
    with pytest.raises(UpstreamTimeoutError):
        run(server.url, lambda upstream: upstream.complete(BODY), timeout_seconds=0.2)


@pytest.mark.parametrize(
    "response", [b"", b"no json", b"[]", b"{}", b'{"choices": []}', b'{"choices": [{"message": 1}]}']
)
def test_a_response_without_a_message_is_broken(server: FakeUpstream, response: bytes) -> None:
    server.script = lambda _: response
    with pytest.raises(BrokenResponseError):
        run(server.url, lambda upstream: upstream.complete(BODY))


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (401, RefusedError, "token"),
        (404, RefusedError, "404"),
        (400, RejectedError, "too long"),
        (422, RejectedError, "too long"),
        (429, BusyError, "too long"),
        (500, BrokenResponseError, "500"),
        (503, OverloadedError, "overloaded"),
    ],
)
def test_each_error_status_of_the_server_raises_its_own_error(
    server: FakeUpstream, status: int, kind: type[ApiError], words: str
) -> None:
    server.script = lambda _: Refusal(status, {"error": {"message": "the prompt is too long"}})
    with pytest.raises(kind, match=words):
        run(server.url, lambda upstream: upstream.complete(BODY))


def test_a_response_without_end_is_cut_off() -> None:
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
        with pytest.raises(BrokenResponseError, match="too much"):
            run(server.url, lambda upstream: upstream.complete(BODY))
        with pytest.raises(BrokenResponseError, match="too large"):
            run(server.url, collect)


def test_an_endless_stream_is_refused(server: FakeUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    server.script = lambda _: "word " * 1000
    monkeypatch.setattr(upstream_module, "STREAM_BYTES", 10_000)
    with pytest.raises(BrokenResponseError, match="without end"):
        run(server.url, collect)
    monkeypatch.setattr(upstream_module, "STREAM_BYTES", 10_000_000)
    monkeypatch.setattr(upstream_module, "STREAM_SECONDS", 0.05)
    server.pause_seconds = 0.01
    with pytest.raises(BrokenResponseError, match="without end"):
        run(server.url, collect)


@pytest.mark.parametrize(
    "response",
    [
        {},
        {"data": [{"index": 0, "embedding": [1, 2]}]},
        {"data": [{"index": i, "embedding": [1] * (i + 1)} for i in (0, 1)]},
    ],
    ids=["none", "too few", "of two lengths"],
)
def test_embeddings_that_can_not_be_compared_are_broken(response: dict[str, Any]) -> None:
    async def embeddings(_: web.Request) -> web.Response:
        return web.json_response({**response, "usage": "none"})

    class Garbling(FakeUpstream):
        def app(self) -> web.Application:
            app = web.Application()
            app.router.add_post("/v1/embeddings", embeddings)
            return app

    with served(Garbling()) as server, pytest.raises(BrokenResponseError):
        run(server.url, lambda upstream: upstream.embeddings("small", ["a", "b"]))


def test_an_interrupted_stream_raises_an_error(server: FakeUpstream) -> None:
    server.script = lambda _: "one two three"
    server.cut_after, server.pause_seconds = 1, 0.05
    with pytest.raises((BrokenResponseError, UnreachableError)):
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
def test_the_context_length_is_read_from_every_kind_of_server(
    server: FakeUpstream, listed: dict[str, Any], length: int | None
) -> None:
    server.models = [{"id": "a", **listed}, {"no": "id"}]
    models = run(server.url, lambda upstream: upstream.models())
    assert [(model.id, model.context_length) for model in models] == [("a", length)]


def test_an_address_in_our_network_is_not_called(server: FakeUpstream) -> None:
    async def call() -> None:
        upstream = Upstream(Sessions(AddressGuard()), server.url, None, 5)
        await upstream.complete(BODY)

    with pytest.raises(UnreachableError, match="in a private network"):
        asyncio.run(call())
    assert server.requests == []
