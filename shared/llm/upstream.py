"""Calls one server with OpenAI's API, and translates its errors."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from shared.bounds import MODEL_ANSWER
from shared.errors import ApiError
from shared.llm.addresses import api_root, server_root
from shared.llm.answers import ChunkReader, read_completion
from shared.llm.completions import (
    BrokenResponseError,
    Completion,
    OutOfTimeError,
    RejectedError,
    UnreachableError,
    UpstreamTimeoutError,
)
from shared.llm.server_events import EventReader
from shared.llm.server_failures import failure_of
from shared.models.cluster import LanguageModel
from shared.network.foreign_json import ForeignJsonError, parse
from shared.network.sessions import ForbiddenPeerError, Sessions, read_at_most

RESPONSE_BYTES = MODEL_ANSWER.size_bytes
# Functions with little memory list models.
LIST_BYTES = 2 * 1024 * 1024
# API Gateway ends a stream after this time. No model writes this amount of text in that time.
STREAM_SECONDS = 900
STREAM_BYTES = 256 * 1024 * 1024
LIST_SECONDS = 5
CONNECT_ATTEMPTS = 3
STREAM_OPTIONS = "stream_options"
# More tokens than any model reads or writes. A server that claims more counts wrong.
TOKENS_LIMIT = 10**9
# What goes wrong between us and a server: the connection, or a response that is no HTTP.
_CONNECTION_ERRORS = (aiohttp.ClientError, HttpProcessingError, OSError, ValueError)


class Upstream:
    """A client of one server for one request of ours.

    ``url`` is its base address, with or without ``/v1``; ``token`` is its bearer token. The server may be silent for
    ``timeout_seconds``. After ``total_seconds`` no call goes on, except a stream that has begun. ``refusing_usage``
    remembers the servers that refuse a request for the usage of a stream.
    """

    def __init__(
        self,
        sessions: Sessions,
        url: str,
        token: str | None,
        timeout_seconds: float,
        total_seconds: float = 600,
        refusing_usage: set[URL] | None = None,
    ) -> None:
        self._server, self._api = URL(server_root(url)), URL(api_root(url))
        self._sessions = sessions
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._timeout = timeout_seconds
        self._refusing_usage = set() if refusing_usage is None else refusing_usage
        self._ends_at = time.monotonic() + total_seconds

    async def complete(
        self, body: dict[str, Any], hear: Callable[[dict[str, Any]], None] = lambda _: None
    ) -> Completion:
        """Returns a completion. ``hear`` gets the response, also if it is no completion.

        Raises UnreachableError, UpstreamTimeoutError, and the errors of ``server_failures``.
        """
        result = await self._json("POST", _path(body), body)
        hear(result)
        return read_completion(result)

    @asynccontextmanager
    async def stream(self, body: dict[str, Any]) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """Yields the chunks of a completion when they arrive. The end of the block closes the connection.

        Raises the same errors as ``complete``.
        """
        if self._server in self._refusing_usage:
            body = _without_usage(body)
        async with AsyncExitStack() as stack:
            try:
                response = await stack.enter_async_context(self._request("POST", _path(body), body))
            except RejectedError as error:
                if STREAM_OPTIONS not in body or STREAM_OPTIONS not in error.message:
                    raise
                self._refusing_usage.add(self._server)
                body = _without_usage(body)
                response = await stack.enter_async_context(self._request("POST", _path(body), body))
            yield self._chunks(response)

    async def models(self) -> list[LanguageModel]:
        """Returns the models of the server, with a short time limit. Raises the same errors as ``complete``."""
        async with self._limited(LIST_SECONDS):
            result = await self._json("GET", "v1/models", limit=LIST_BYTES)
        data = result.get("data")
        if not isinstance(data, list):
            raise BrokenResponseError("The language model's server returned no list of models.")
        # llama.cpp lists its models twice, and names their capabilities only in the second list.
        more = {str(each.get("model")): each for each in _objects(result.get("models"))}
        found = (each for each in _objects(data) if isinstance(each.get("id"), str) and each["id"])
        return [_language_model({**more.get(each["id"], {}), **each}) for each in found]

    async def probe(self, model: str) -> None:
        """Asks the model for one token, with a short time limit. Raises the same errors as ``complete``."""
        async with self._limited(LIST_SECONDS):
            await self.complete({"model": model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1})

    async def embeddings(
        self, model: str, texts: Sequence[str] | Sequence[list[int]], options: dict[str, Any] | None = None
    ) -> tuple[list[list[float]], dict[str, Any]]:
        """Returns one vector for each text or list of tokens, and the whole response."""
        result = await self._json("POST", "v1/embeddings", {**(options or {}), "model": model, "input": texts})
        try:
            ordered = sorted(result["data"], key=lambda each: each["index"])
            vectors = [[float(number) for number in each["embedding"]] for each in ordered]
        except (KeyError, TypeError, ValueError, OverflowError):
            raise BrokenResponseError("The language model's server returned no embeddings.") from None
        if len(vectors) != len(texts) or len({len(vector) for vector in vectors}) > 1:
            raise BrokenResponseError("The language model's server returned embeddings of the wrong number or length.")
        return vectors, result

    async def count_tokens(self, model: str, text: str) -> int | None:
        """Returns the token count of the model's tokenizer, or ``None`` if the server has no tokenizer.

        llama.cpp and vLLM have a tokenizer, but they read the text from different fields.
        """
        async with self._limited(LIST_SECONDS):
            result = await self._json("POST", "tokenize", {"model": model, "content": text, "prompt": text})
        if isinstance(result.get("count"), int):
            return min(int(result["count"]), TOKENS_LIMIT)
        tokens = result.get("tokens")
        return len(tokens) if isinstance(tokens, list) else None

    async def _json(
        self, method: str, path: str, body: dict[str, Any] | None = None, limit: int = RESPONSE_BYTES
    ) -> dict[str, Any]:
        async with self._limited(self._timeout), self._request(method, path, body) as response:
            content = await self._read(response, limit)
        return _object(content, "returned no JSON object")

    @asynccontextmanager
    async def _request(
        self, method: str, path: str, body: dict[str, Any] | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        response = await self._connect(method, path, body)
        try:
            if response.status >= 300:
                raise await self._refusal(response)
            yield response
        except _CONNECTION_ERRORS as error:
            raise _translated(error) from None
        finally:
            response.close()

    async def _connect(self, method: str, path: str, body: dict[str, Any] | None) -> aiohttp.ClientResponse:
        """Sends a request. Repeats only a failed connection, because the server may have executed any other call."""
        url = self._api / path.removeprefix("v1/") if path.startswith("v1/") else self._server / path
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=3, sock_read=self._timeout)
        for attempt in range(1, CONNECT_ATTEMPTS + 1):
            try:
                self._sessions.check_host(url.host or "")
                async with self._limited(self._timeout):
                    return await self._sessions.current().request(
                        method, url, json=body, headers=self._headers, timeout=timeout, allow_redirects=False
                    )
            except aiohttp.ClientConnectorError as error:
                if attempt == CONNECT_ATTEMPTS or isinstance(error.os_error, ForbiddenPeerError):
                    raise _translated(error) from None
                await asyncio.sleep(random.uniform(0.5, 1.0) * 0.1 * 4 ** (attempt - 1))  # noqa: S311 - spreads retries
            except _CONNECTION_ERRORS as error:
                raise _translated(error) from None
        raise AssertionError("unreachable")

    async def _refusal(self, response: aiohttp.ClientResponse) -> ApiError:
        if response.status < 400:
            return BrokenResponseError(
                "The language model's server redirects to another address, and the API does not follow redirects. "
                "Set the cluster's address to the other address."
            )
        return failure_of(response.status, await self._read(response), response.headers)

    async def _read(self, response: aiohttp.ClientResponse, limit: int = RESPONSE_BYTES) -> bytes:
        """Returns the body. Raises BrokenResponseError if it is too large, UpstreamTimeoutError if it is too slow."""
        async with self._limited(self._timeout):
            content = await read_at_most(response, limit + 1)
        if len(content) > limit:
            raise BrokenResponseError("The language model's server returned too much data.")
        return content

    @asynccontextmanager
    async def _limited(self, seconds: float) -> AsyncIterator[None]:
        """Raises UpstreamTimeoutError after ``seconds``, or OutOfTimeError if the request's own time ends earlier."""
        left = self._ends_at - time.monotonic()
        try:
            async with asyncio.timeout(min(seconds, left)):
                yield
        except TimeoutError as error:
            if left < seconds:
                raise OutOfTimeError("The language model did not answer in the time that a request has.") from None
            raise _translated(error) from None

    async def _chunks(self, response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
        """Yields the chunks of a stream. Raises BrokenResponseError if it ends before its finish reason."""
        events, chunks = EventReader(), ChunkReader()
        received, deadline = 0, time.monotonic() + STREAM_SECONDS
        try:
            async for piece in response.content.iter_any():
                received += len(piece)
                if received > STREAM_BYTES or time.monotonic() > deadline:
                    raise BrokenResponseError(
                        "The language model's server sent a stream without end, so it was stopped."
                    )
                for event in events.read(piece):
                    yield chunks.read(event)
                if events.is_done:
                    return
        except _CONNECTION_ERRORS as error:
            if not chunks.is_finished:
                raise _translated(error) from None
        for event in events.close():
            yield chunks.read(event)
        if not chunks.is_finished:
            raise BrokenResponseError("The language model's server ended its response too early.")


def _object(content: bytes, otherwise: str) -> dict[str, Any]:
    """Returns a JSON object. Raises BrokenResponseError with the text ``otherwise`` for any other content."""
    try:
        found = parse(content)
    except ForeignJsonError:
        found = None
    if not isinstance(found, dict):
        raise BrokenResponseError(f"The language model's server {otherwise}.")
    return found


def _objects(listed: Any) -> list[dict[str, Any]]:
    return [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []


def _path(body: dict[str, Any]) -> str:
    """Returns the server's path for a request: a text has a prompt in place of messages."""
    return "v1/completions" if "prompt" in body else "v1/chat/completions"


def _without_usage(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name != STREAM_OPTIONS}


def _language_model(found: dict[str, Any]) -> LanguageModel:
    """Returns a model of the list. Servers have different names for the length of the context."""
    meta: Any = found.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    lengths = (
        found.get("context_length"), found.get("max_model_len"), found.get("context_window"),
        meta.get("n_ctx"), meta.get("n_ctx_train"),
    )  # fmt: skip
    return LanguageModel(
        id=found["id"][:300],
        created=found["created"] if isinstance(found.get("created"), int) else 0,
        owned_by=str(found.get("owned_by") or "")[:300],
        context_length=next(
            (length for length in lengths if isinstance(length, int) and 0 < length <= TOKENS_LIMIT), None
        ),
        reads_images=_reads_images(found),
    )


def _reads_images(found: dict[str, Any]) -> bool | None:
    """Returns whether the model reads images, or ``None`` if the server does not say. Servers say it in three ways."""
    architecture, capabilities = found.get("architecture"), found.get("capabilities")
    modalities = architecture.get("input_modalities") if isinstance(architecture, dict) else None
    if isinstance(modalities, list):  # OpenRouter
        return "image" in modalities
    if isinstance(capabilities, dict) and isinstance(capabilities.get("vision"), bool):  # Mistral
        return bool(capabilities["vision"])
    if isinstance(capabilities, list) and "completion" in capabilities:  # llama.cpp, Ollama
        return not {"multimodal", "vision"}.isdisjoint(each for each in capabilities if isinstance(each, str))
    return None


def _translated(error: Exception) -> ApiError:
    if isinstance(error, ApiError):
        return error
    forbidden = error if isinstance(error, ForbiddenPeerError) else getattr(error, "os_error", None)
    if isinstance(forbidden, ForbiddenPeerError):
        return UnreachableError(
            "The cluster's address is in a private network, and the API may not call it. Set a public address."
        )
    if isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ConnectionTimeoutError):
        return UpstreamTimeoutError("The language model's server did not respond in time. Try again.")
    unreachable = UnreachableError(
        "The language model's server cannot be reached. Try again in a moment.", headers={"Retry-After": "5"}
    )
    unreachable.was_connected = not isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
    return unreachable
