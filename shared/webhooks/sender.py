"""Sends one POST to a user's address: guarded, without redirects, and for a limited time."""

import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from socket import SHUT_RDWR, create_connection, socket
from threading import Event, Timer
from urllib.parse import urlsplit

from shared.network.address_guard import AddressGuard, ForbiddenAddressError

LIMIT_SECONDS = 15.0


@dataclass(frozen=True)
class Answer:
    """Response of a receiver. ``error`` says why there was no response, and is ``None`` otherwise."""

    duration_ms: int
    status_code: int | None = None
    error: str | None = None
    retry_after: str | None = None
    body: bytes = b""


class WebhookSender:
    def __init__(self, guard: AddressGuard, limit_seconds: float = LIMIT_SECONDS) -> None:
        self._guard = guard
        self._limit = limit_seconds

    def post(self, url: str, headers: Mapping[str, str], body: bytes, *, read_bytes: int = 0) -> Answer:
        """Never raises for what the address does. Of the answer's body at most ``read_bytes`` are read."""
        started, is_late = time.monotonic(), Event()
        try:
            self._guard.check_url(url, "url", allow_query=True)
            with self._connection(url, is_late) as connection:
                connection.request("POST", _target(url), body, dict(headers))
                response = connection.getresponse()
                status, retry_after = response.status, response.getheader("Retry-After")
                content = response.read(read_bytes) if read_bytes else b""
        except ForbiddenAddressError as error:
            return Answer(_since(started), error=str(error))
        except ssl.SSLCertVerificationError as error:
            return Answer(_since(started), error=f"its certificate is not valid: {error.verify_message}")
        except (OSError, HTTPException, UnicodeError) as error:
            late = is_late.is_set() or isinstance(error, TimeoutError)
            reason = f"did not answer within {self._limit:g} s" if late else f"can't be reached: {type(error).__name__}"
            return Answer(_since(started), error=reason)
        return Answer(_since(started), status, None, retry_after, content)

    @contextmanager
    def _connection(self, url: str, is_late: Event) -> Iterator[HTTPConnection]:
        """Yields a connection to a peer that may be called. It is cut when the time is up."""
        parts = urlsplit(url)
        host, is_secure = parts.hostname or "", parts.scheme == "https"
        port = parts.port or (443 if is_secure else 80)
        peer = self._guard.check_socket(create_connection((host, port), self._limit))
        if is_secure:
            peer = self._trusted.wrap_socket(peer, server_hostname=host, do_handshake_on_connect=False)

        def cut() -> None:
            is_late.set()
            # Not the TLS layer's own: that would take what the reader is using away from it.
            socket.shutdown(peer, SHUT_RDWR)

        timer = Timer(self._limit, cut)
        timer.daemon = True
        timer.start()
        try:
            if isinstance(peer, ssl.SSLSocket):
                peer.do_handshake()
            connection = (HTTPSConnection if is_secure else HTTPConnection)(host, port)
            connection.sock = peer
            yield connection
        finally:
            timer.cancel()
            peer.close()

    @cached_property
    def _trusted(self) -> ssl.SSLContext:
        return ssl.create_default_context()


def _target(url: str) -> str:
    parts = urlsplit(url)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _since(started: float) -> int:
    return round((time.monotonic() - started) * 1000)
