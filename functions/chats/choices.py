"""Makes several completions of one request. Each is a call of its own: guarded, limited, logged and counted."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from functions.chats.event_streams import Chunks
from functions.chats.service import ChatService
from functions.chats.turns import TurnRequest
from shared.models.chat import ChatCompletion, Usage

# More calls of one request wait for the first ones.
CONCURRENT_CALLS = 8


async def complete_all(service: ChatService, turns: Sequence[TurnRequest]) -> ChatCompletion:
    """Returns one completion with a choice for each turn. After a failure, the other calls are cancelled."""
    if len(turns) == 1:
        return await service.complete(turns[0])
    places = asyncio.Semaphore(CONCURRENT_CALLS)

    async def complete(turn: TurnRequest) -> ChatCompletion:
        async with places:
            return await service.complete(turn)

    calls = [asyncio.ensure_future(complete(turn)) for turn in turns]
    try:
        return _together(await asyncio.gather(*calls))
    finally:
        await _end(calls)


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
    """Yields what the streams yield, with the index of the stream. It ends with the first failure."""
    queue: asyncio.Queue[tuple[int, dict[str, Any] | Exception | None, bool]] = asyncio.Queue(len(streams))
    places = asyncio.Semaphore(CONCURRENT_CALLS)

    async def read(index: int, stream: Chunks) -> None:
        try:
            async with places, aclosing(stream):
                async for chunk in stream:
                    await queue.put((index, chunk, True))
            await queue.put((index, None, False))
        except Exception as error:  # noqa: BLE001 - raised by the reader of the queue
            await queue.put((index, error, False))

    tasks = [asyncio.ensure_future(read(index, stream)) for index, stream in enumerate(streams)]
    try:
        running = len(tasks)
        while running:
            index, found, is_running = await queue.get()
            if isinstance(found, Exception):
                raise found
            if is_running:
                yield index, found
            else:
                running -= 1
    finally:
        await _end(tasks)


async def _end(tasks: Sequence["asyncio.Future[Any]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


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
