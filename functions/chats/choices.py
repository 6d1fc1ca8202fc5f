"""Makes several completions of one request. Each is a call of its own: guarded, limited, logged and counted."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, TypeVar

import anyio

from functions.chats.event_streams import Chunks
from functions.chats.service import ChatService
from functions.chats.turns import TurnRequest
from shared.models.chat import ChatCompletion, Usage

T = TypeVar("T")
# More calls of one request wait for the first ones.
CONCURRENT_CALLS = 8


class _Calls:
    """Calls that run at the same time. Their end lets each of them log what it used."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(CONCURRENT_CALLS)
        self._running: list[tuple[asyncio.Future[Any], anyio.CancelScope]] = []

    def start(self, call: Callable[[], Coroutine[Any, Any, T]]) -> "asyncio.Future[T | None]":
        scope = anyio.CancelScope()

        async def run() -> T | None:
            with scope:
                async with self._places:
                    return await call()
            return None

        future = asyncio.ensure_future(run())
        self._running.append((future, scope))
        return future

    async def end(self) -> None:
        """Cancels the calls that still run, and waits for them."""
        for _, scope in self._running:
            scope.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.gather(*(future for future, _ in self._running), return_exceptions=True)


async def complete_all(service: ChatService, turns: Sequence[TurnRequest]) -> ChatCompletion:
    """Returns one completion with a choice for each turn. After a failure, the other calls are cancelled."""
    if len(turns) == 1:
        return await service.complete(turns[0])
    calls = _Calls()
    try:
        found = await asyncio.gather(*(calls.start(partial(service.complete, turn)) for turn in turns))
    finally:
        await calls.end()
    return _together([each for each in found if each is not None])


async def stream_all(service: ChatService, turns: Sequence[TurnRequest]) -> Chunks:
    """Yields the chunks of all turns as they come, each with the index of its turn. The last one has the usage."""
    if len(turns) == 1:
        async with aclosing(service.stream(turns[0])) as chunks:
            async for chunk in chunks:
                yield chunk
        return
    usages: list[dict[str, Any]] = []
    reports: list[dict[str, Any]] = []
    first_id = last = None
    async with aclosing(_merged([service.stream(turn) for turn in turns])) as merged:
        async for index, chunk in merged:
            if chunk is None:
                yield None
                continue
            first_id = first_id or chunk["id"]
            if "usage" in chunk:
                usages.append(chunk["usage"])
                reports.append(chunk)
                last = chunk
            else:
                yield {**chunk, "id": first_id, "choices": [{**each, "index": index} for each in chunk["choices"]]}
    if last is not None:
        flagged = next((each for each in reports if each["guard"]["flagged"]), last)
        usage = _sum([Usage.model_validate(each) for each in usages]).model_dump(mode="json")
        yield {**flagged, "id": first_id, "usage": usage}


async def _merged(streams: Sequence[Chunks]) -> AsyncGenerator[tuple[int, dict[str, Any] | None], None]:
    """Yields what the streams yield, with the index of the stream. It ends with the first failure.

    The streams begin in their order, because clients make a place for each choice when they first hear of it.
    """
    held: list[list[dict[str, Any] | None]] = [[] for _ in streams]
    begun = 0
    queue: asyncio.Queue[tuple[int, dict[str, Any] | Exception | None, bool]] = asyncio.Queue(len(streams))

    async def read(index: int, stream: Chunks) -> None:
        try:
            async with aclosing(stream):
                async for chunk in stream:
                    await queue.put((index, chunk, True))
            await queue.put((index, None, False))
        except Exception as error:  # noqa: BLE001 - raised by the reader of the queue
            await queue.put((index, error, False))

    calls = _Calls()
    for place, each in enumerate(streams):
        calls.start(partial(read, place, each))
    try:
        running = len(streams)
        while running:
            index, found, is_running = await queue.get()
            if isinstance(found, Exception):
                raise found
            if is_running:
                held[index].append(found)
            else:
                running -= 1
            while begun < len(held) and held[begun]:
                begun += 1
            for place, chunks in enumerate(held[:begun]):
                for chunk in chunks:
                    yield place, chunk
                chunks.clear()
    finally:
        await calls.end()


def _together(completions: Sequence[ChatCompletion]) -> ChatCompletion:
    flagged = next((each.guard for each in completions if each.guard.flagged), completions[0].guard)
    choices = [{**each.choices[0], "index": index} for index, each in enumerate(completions)]
    usage = _sum([each.usage for each in completions])
    return completions[0].model_copy(update={"choices": choices, "usage": usage, "guard": flagged})


def _sum(usages: Sequence[Usage]) -> Usage:
    total: dict[str, Any] = {}
    for usage in usages:
        for name, value in usage:
            if isinstance(value, dict):
                total[name] = dict(Counter(total.get(name, {})) + Counter(value))
            elif value is not None:
                total[name] = total.get(name, 0) + value
    return Usage.model_validate(total)
