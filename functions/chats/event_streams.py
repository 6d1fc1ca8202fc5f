"""Sends responses to clients that may disconnect at any time: a whole body, or server-sent events."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Any, TypeVar

import anyio
from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.types import Send

from shared.errors import ApiError, ClientGoneError
from shared.http.errors import unexpected

T = TypeVar("T")
# ``None`` says that there is text, but that it may not be sent yet.
Chunks = AsyncGenerator[dict[str, Any] | None, None]
ErrorBody = Callable[[ApiError], dict[str, Any]]
DONE = b"data: [DONE]\n\n"
# A comment, which clients leave out. Without it, gateways and clients take a silent stream for a dead one.
WAITING = b": waiting\n\n"
QUIET_SECONDS = 10.0


async def while_connected(request: Request, work: Awaitable[T]) -> T:
    """Returns the result of ``work``. If the client disconnects, it cancels ``work`` and raises ClientGoneError."""
    # The scope cancels what is not shielded. A task group would do the same at five times the cost.
    with anyio.CancelScope() as scope:

        async def watch() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass
            scope.cancel()

        watcher = asyncio.create_task(watch())
        try:
            return await work
        finally:
            watcher.cancel()
    raise ClientGoneError("The client disconnected before the response.")


class EventStream(StreamingResponse):
    """A response that sends each chunk immediately. If the client disconnects, it closes ``chunks``."""

    def __init__(self, first: dict[str, Any] | None, chunks: Chunks, error_body: ErrorBody) -> None:
        super().__init__(iter(()), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
        self._first = first
        self._chunks = chunks
        self._error_body = error_body

    @classmethod
    async def open(cls, request: Request, chunks: Chunks, error_body: ErrorBody) -> "EventStream":
        """Opens the stream. It raises an error before the first chunk, so that the response has the error's status."""
        # A completion without content has no chunks in OpenAI's format.
        return cls(await while_connected(request, anext(chunks, None)), chunks, error_body)

    async def stream_response(self, send: Send) -> None:
        written_at = time.monotonic()

        async def write(content: bytes, *, more: bool = True) -> None:
            nonlocal written_at
            written_at = time.monotonic()
            await send({"type": "http.response.body", "body": content, "more_body": more})

        async def keep_alive() -> None:
            while True:
                await asyncio.sleep(written_at + QUIET_SECONDS - time.monotonic())
                if time.monotonic() - written_at >= QUIET_SECONDS:
                    await write(WAITING)

        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        keeper = asyncio.create_task(keep_alive())
        try:
            await self._write_all(write)
        finally:
            keeper.cancel()
            with suppress(asyncio.CancelledError, OSError):  # OSError: the client has disconnected
                await keeper
        await write(b"", more=False)

    async def _write_all(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        async with aclosing(self._chunks) as chunks:
            await write(_event(self._first))
            try:
                async for chunk in chunks:
                    await write(_event(chunk))
                await write(DONE)
            except OSError:
                raise  # the client has disconnected
            except ApiError as error:
                await write(_event(self._error_body(error)))
            except Exception as error:
                await write(_event(self._error_body(unexpected(error))))
                raise


def _event(data: dict[str, Any] | None) -> bytes:
    if data is None:
        return WAITING
    # Events of OpenAI's responses carry their type as their name, too.
    name = b"event: " + str(data["type"]).encode() + b"\n" if "sequence_number" in data else b""
    return name + b"data: " + json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"
