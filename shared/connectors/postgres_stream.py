"""Sockets to customers' databases that bound what a server may send, because pg8000 keeps messages in memory."""

import socket
import ssl
import time
from typing import Any

from shared.bounds import MIB, POSTGRES_ANSWER

# The first byte of a message with rows, which go to a file.
_COPY_DATA = b"d"
# Of one message: a row, for example.
MESSAGE_BYTES = 64 * MIB


class _BoundedStream:
    """A file over a socket, from which pg8000 reads the head of a message and its content in turns."""

    def __init__(self, file: Any, deadline: float) -> None:
        self._file = file
        self._deadline = deadline
        self._left = POSTGRES_ANSWER.size_bytes
        self._head: bytes | None = None

    def read(self, size: int) -> bytes:
        """Raises OSError for a message that is too long, after too many other messages, and after the deadline."""
        if not 0 <= size <= MESSAGE_BYTES:
            raise OSError(f"the server sent a message of more than {MESSAGE_BYTES // MIB} MB")
        if time.monotonic() > self._deadline:
            raise OSError("the server took too long")
        content: bytes = self._file.read(size)
        if self._head is None:
            self._head = content
            return content
        if not self._head.startswith(_COPY_DATA):
            self._left -= len(self._head) + size
            if self._left < 0:
                raise OSError(f"the server sent more than {POSTGRES_ANSWER.size_bytes // MIB} MB beside the rows")
        self._head = None
        return content

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class _BoundedMixin:
    """``deadline`` is on the monotonic clock."""

    deadline: float

    def makefile(self, *arguments: Any, **options: Any) -> Any:
        return _BoundedStream(super().makefile(*arguments, **options), self.deadline)  # type: ignore[misc]


class _BoundedSocket(_BoundedMixin, socket.socket):
    pass


class _BoundedTlsSocket(_BoundedMixin, ssl.SSLSocket):
    pass


def bounded(connection: socket.socket, seconds: float, context: ssl.SSLContext | None) -> socket.socket:
    """Returns the connection with bounds, which it keeps when ``context`` makes it one of TLS."""
    deadline = time.monotonic() + seconds
    if context is not None:
        context.sslsocket_class = type("BoundedTlsSocket", (_BoundedTlsSocket,), {"deadline": deadline})
    timeout = connection.gettimeout()
    wrapped = _BoundedSocket(connection.family, connection.type, connection.proto, connection.detach())
    wrapped.deadline = deadline
    wrapped.settimeout(timeout)
    return wrapped
