"""Connections to servers that users name: no name and no redirect leads them into our own network."""

import asyncio
import socket
from ipaddress import ip_address
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from shared.network.address_guard import AddressGuard

CONNECT_SECONDS = 3
CONNECTIONS = 200
# Most servers hang up after five idle seconds (uvicorn's and cpp-httplib's default): a call must not meet that moment.
KEPT_SECONDS = 4


class ForbiddenPeerError(OSError):
    """The host's name leads to an address that may not be called."""


class GuardedResolver(AbstractResolver):
    """Looks names up when a connection is made, and gives out only addresses that may be called.

    The connection goes to the very address that was checked: a name that means something else a moment later (DNS
    rebinding) gains nothing.
    """

    def __init__(self, guard: AddressGuard) -> None:
        self._guard = guard
        self._resolver = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        for each in found:
            if not self._guard.allows(ip_address(each["host"].partition("%")[0])):
                raise ForbiddenPeerError(f"connections to {host} are not allowed")
        return found

    async def close(self) -> None:
        await self._resolver.close()


async def read_at_most(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """Returns the body, or its first ``limit`` bytes where it is longer."""
    content = bytearray()
    async for chunk in response.content.iter_any():
        content += chunk
        if len(content) >= limit:
            break
    return bytes(content[:limit])


class Sessions:
    """One session of kept-alive connections for each event loop."""

    def __init__(self, guard: AddressGuard) -> None:
        self._guard = guard
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def current(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if self._session is None or self._loop is not loop:
            self._session, self._loop = self._make(), loop
        return self._session

    def check_host(self, host: str) -> None:
        """Raises ForbiddenPeerError for an address in place of a name, which no resolver gets to see."""
        try:
            address = ip_address(host.partition("%")[0])
        except ValueError:
            return
        if not self._guard.allows(address):
            raise ForbiddenPeerError(f"connections to {host} are not allowed")

    def _make(self) -> aiohttp.ClientSession:
        connector: Any = aiohttp.TCPConnector(
            resolver=GuardedResolver(self._guard),
            use_dns_cache=False,
            limit=CONNECTIONS,
            keepalive_timeout=KEPT_SECONDS,
        )
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
        return aiohttp.ClientSession(
            connector=connector, timeout=timeout, auto_decompress=True, cookie_jar=aiohttp.DummyCookieJar()
        )
