"""The API for the chat benchmark. ``X-Store-Milliseconds`` reports how long a request waited for the emulated store."""

import time
from contextvars import ContextVar
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import Message, Receive, Scope, Send

from functions.api import build_api
from shared.resources import Resources

_waited: ContextVar[list[float]] = ContextVar("waited")


class TimedSession:
    """A session of botocore that adds up the time of a request's calls."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def send(self, request: Any) -> Any:
        began = time.perf_counter()
        try:
            return self._session.send(request)
        finally:
            if (times := _waited.get(None)) is not None:
                times[0] += time.perf_counter() - began


resources = Resources()
api = build_api(resources)


def _time_the_store() -> None:
    endpoint = resources.dynamodb._endpoint  # type: ignore[attr-defined]
    if not isinstance(endpoint.http_session, TimedSession):
        endpoint.http_session = TimedSession(endpoint.http_session)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        await api(scope, receive, send)
        return
    _time_the_store()
    times = [0.0]
    _waited.set(times)

    async def send_timed(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message)["X-Store-Milliseconds"] = f"{times[0] * 1000:.3f}"
        await send(message)

    await api(scope, receive, send_timed)
