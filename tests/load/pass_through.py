"""The least that a proxy in Python can do: an ASGI app that sends each request on and its response back."""

import os
from typing import Any

import aiohttp
from starlette.types import Receive, Scope, Send

UPSTREAM = "UPSTREAM_ORIGIN"
_session: list[aiohttp.ClientSession] = []


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        return
    if not _session:
        _session.append(aiohttp.ClientSession())
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    headers: dict[str, Any] = {"Content-Type": "application/json"}
    url = os.environ[UPSTREAM] + scope["path"]
    async with _session[0].request(scope["method"], url, data=body or None, headers=headers) as response:
        kind = response.headers.get("Content-Type", "").encode()
        await send({"type": "http.response.start", "status": response.status, "headers": [(b"content-type", kind)]})
        async for part in response.content.iter_any():
            await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
