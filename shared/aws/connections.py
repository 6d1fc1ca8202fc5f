"""Connections to AWS that stay open, by the standard library's HTTP client, with the errors of botocore's session."""

import ssl
from collections import deque
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from io import BytesIO
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from botocore.awsrequest import AWSResponse
from botocore.compat import ensure_bytes
from botocore.exceptions import (
    BotoCoreError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ReadTimeoutError,
    SSLError,
)
from botocore.httpsession import create_urllib3_context, get_cert_path
from urllib3.util.wait import wait_for_read

_PORTS = {False: 80, True: 443}


class _Place(NamedTuple):
    host: str
    port: int
    path: str
    is_secure: bool

    @property
    def name(self) -> str:
        """Returns the value of the header ``Host``, in the form in which botocore signs it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.is_secure] else f"{host}:{self.port}"


class Connections:
    """Sends requests as botocore's session does, in half of its time. Requests through a proxy go through ``session``.

    ``verify`` says whether, or by which file of certificates, servers prove who they are.
    """

    def __init__(self, session: Any, *, connect_seconds: float, read_seconds: float, kept: int, verify: Any) -> None:
        self._session = session
        self._connect_seconds = connect_seconds
        self._read_seconds = read_seconds
        self._verify = verify
        self._tls: ssl.SSLContext | None = None
        self._places: dict[str, _Place | None] = {}
        # The newest one is used first, so that connections that nobody needs grow old.
        self._idle: deque[tuple[_Place, HTTPConnection]] = deque(maxlen=kept)

    def send(self, request: Any) -> AWSResponse:
        """Sends a request. Raises the errors of botocore's session, by which botocore decides on retries."""
        place = self._place(request.url)
        if place is None:
            answer: AWSResponse = self._session.send(request)
            return answer
        connection = self._waiting(place) or self._connected(place, request.url)
        try:
            # The head and the body in one packet.
            connection.sock.sendall(_head(request, place) + request.body)
            response = HTTPResponse(connection.sock, method=request.method)
            response.begin()
            content = response.read()
        except (HTTPException, OSError) as error:
            connection.close()
            raise _translated(error, request) from error
        except BaseException:
            connection.close()
            raise
        if response.will_close:
            connection.close()
        else:
            self._idle.append((place, connection))
        headers: Any = response.headers
        return AWSResponse(request.url, response.status, headers, _Body(content))

    def close(self) -> None:
        while self._idle:
            self._idle.pop()[1].close()
        self._session.close()

    def _place(self, url: str) -> _Place | None:
        """Returns where a request goes, or ``None`` if it goes through a proxy."""
        if url not in self._places:
            parts, proxy = urlsplit(url), self._session._proxy_config.proxy_url_for(url)
            path = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
            is_secure = parts.scheme == "https"
            place = _Place(parts.hostname or "", parts.port or _PORTS[is_secure], path, is_secure)
            self._places[url] = None if proxy else place
        return self._places[url]

    def _waiting(self, place: _Place) -> HTTPConnection | None:
        """Returns an open connection to the same server, if there is one."""
        while self._idle:
            try:
                known, connection = self._idle.pop()
            except IndexError:  # another thread was faster
                return None
            # Only the end of the connection can be read from one that waits.
            if known == place and not wait_for_read(connection.sock, timeout=0):
                return connection
            connection.close()
        return None

    def _connected(self, place: _Place, url: str) -> HTTPConnection:
        seconds = self._connect_seconds
        connection = (
            HTTPSConnection(place.host, place.port, timeout=seconds, context=self._context())
            if place.is_secure
            else HTTPConnection(place.host, place.port, timeout=seconds)
        )
        try:
            connection.connect()
        except TimeoutError as error:
            raise ConnectTimeoutError(endpoint_url=url, error=error) from error
        except ssl.SSLError as error:
            raise SSLError(endpoint_url=url, error=error) from error
        except OSError as error:
            raise EndpointConnectionError(endpoint_url=url, error=error) from error
        connection.sock.settimeout(self._read_seconds)
        return connection

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            context: ssl.SSLContext = create_urllib3_context()
            if self._verify:
                context.load_verify_locations(get_cert_path(self._verify))
                context.verify_mode = ssl.CERT_REQUIRED
                # urllib3 compares the names itself, so botocore's context does not.
                context.check_hostname = True
            else:
                context.verify_mode = ssl.CERT_NONE
            self._tls = context
        return self._tls


def _translated(error: Exception, request: Any) -> BotoCoreError:
    if isinstance(error, TimeoutError):
        return ReadTimeoutError(endpoint_url=request.url, error=error)
    if isinstance(error, ssl.SSLError):
        return SSLError(endpoint_url=request.url, error=error)
    return ConnectionClosedError(error=error, request=request, endpoint_url=request.url)


def _head(request: Any, place: _Place) -> bytes:
    """Returns the lines before the body. All values are botocore's own, and no caller chooses one."""
    headers = [name.encode() + b": " + ensure_bytes(value) for name, value in request.headers.items()]
    first = f"{request.method} {place.path} HTTP/1.1\r\nHost: {place.name}".encode()
    return b"\r\n".join([first, *headers, b"", b""])


class _Body(BytesIO):
    """A response's body with the part of urllib3's interface that botocore uses."""

    def stream(self) -> list[bytes]:
        return [self.read()]
