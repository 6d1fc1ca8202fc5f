"""Reads the server-sent events of a completion as the WHATWG's standard says, and the common deviations from it.

Lines end with LF, CR or CRLF, and an event may have several ``data`` lines. Deviations: the empty line after an event
is missing, the last line has no end, or the server sends one JSON text in place of events.
"""

import re
from collections.abc import Iterator
from typing import Any

from shared.bounds import MODEL_ANSWER, MODEL_EVENT
from shared.llm.completions import BrokenResponseError
from shared.network.foreign_json import ForeignJsonError, decoded, harmless, joined

ServerEvent = dict[str, Any]
_BOM = b"\xef\xbb\xbf"
# The first half of a surrogate pair at the end of a string.
_CUT_CHARACTER = re.compile(rb'\\u[dD][89abAB][0-9a-fA-F]{2}"')


class EventReader:
    """A reader of one response, in pieces that may end anywhere. ``is_done`` is true after ``[DONE]``.

    An event is a JSON object. One that the server names an error has the key ``error``.
    """

    def __init__(self) -> None:
        self.is_done = False
        self._waiting = bytearray()
        self._has_lines = False
        self._is_json = False
        self._skips_line_feed = False
        self._kind = b""
        self._data: list[bytes] = []
        self._size = 0
        # An event that ends in the middle of a character waits for the next one.
        self._held: ServerEvent | None = None

    def read(self, piece: bytes) -> Iterator[ServerEvent]:
        """Yields the events that end in this piece. Raises BrokenResponseError for one that is too large or no JSON."""
        for line in self._lines(piece):
            event = self._whole(line) if line.startswith(b"data: {") else None
            if event is not None:
                yield event
            elif line or self._data or self._kind:
                yield from self._take(line)
                if self.is_done:
                    break

    def close(self) -> Iterator[ServerEvent]:
        """Yields what is left after the end of the response. Of an event that was cut off, nothing is left."""
        last = bytes(self._waiting)
        if self._is_json:
            yield from self._read(last.removeprefix(_BOM))
        elif not self.is_done:
            try:
                yield from self._take(last)
                yield from self._take(b"")
            except BrokenResponseError:
                pass
        yield from self._release()

    def _lines(self, piece: bytes) -> list[bytes]:
        if self._skips_line_feed and piece.startswith(b"\n"):
            piece = piece[1:]
        self._skips_line_feed = piece.endswith(b"\r")
        if len(piece) + len(self._waiting) + self._size > (MODEL_ANSWER if self._is_json else MODEL_EVENT).size_bytes:
            raise BrokenResponseError("The language model's server sent an event that is too large.")
        if self._has_lines and not self._waiting and piece.endswith(b"\n"):
            return piece.splitlines()
        self._waiting += piece
        if not self._has_lines and self._waiting[:64].removeprefix(_BOM).lstrip().startswith((b"{", b"[")):
            self._is_json = True
        # An event may come in very many pieces, so only its end is split.
        if self._is_json or not (b"\n" in piece or b"\r" in piece):
            return []
        *lines, rest = (bytes(self._waiting) + b".").splitlines()
        self._waiting = bytearray(rest[:-1])
        if not self._has_lines:
            lines[0] = lines[0].removeprefix(_BOM)
            self._has_lines = any(line.strip() for line in lines)
        return lines

    def _whole(self, line: bytes) -> ServerEvent | None:
        """Returns the event of a line that is all of it, as most are, or ``None`` if it needs a closer look."""
        if self._data or self._kind or self._held is not None:
            return None
        try:
            value, is_suspect = decoded(line[5:])
        except ForeignJsonError:
            return None
        return value if isinstance(value, dict) and not is_suspect else None

    def _take(self, line: bytes) -> Iterator[ServerEvent]:
        if not line:
            data, self._data, self._size = b"\n".join(self._data), [], 0
            if data:
                yield from self._read(data)
            self._kind = b""
            return
        name, _, value = line.partition(b":")
        value = value.strip()
        if name == b"event":
            self._kind = value
        elif name != b"data" or not value:
            return
        elif value == b"[DONE]":
            yield from self._take(b"")
            self.is_done = True
            yield from self._release()
        elif not self._data and value.endswith(b"}"):  # it may be whole, so nothing waits for the empty line
            try:
                found = decoded(value)
            except ForeignJsonError:
                self._wait(value)
            else:
                yield from self._read(value, found)
        else:
            self._wait(value)

    def _wait(self, value: bytes) -> None:
        self._data.append(value)
        self._size += len(value)

    def _read(self, data: bytes, found: tuple[Any, bool] | None = None) -> Iterator[ServerEvent]:
        """Yields the event of a text, and before it the event that waits for it."""
        is_error = self._kind == b"error"
        try:
            value, is_suspect = found or decoded(data)
            if self._held is not None:
                self._held, value = joined(self._held, value)
                yield from self._release()
                is_suspect = True
            whole = harmless(value) if is_suspect else value
            if is_suspect and _CUT_CHARACTER.search(data) and isinstance(value, dict) and not is_error:
                self._held = value
                return
            value = whole
        except ForeignJsonError:
            value = data.decode(errors="replace") if is_error else None
        if is_error and not (isinstance(value, dict) and value.get("error")):
            value = {"error": value or "no reason given"}
        if not isinstance(value, dict):
            raise BrokenResponseError("The language model's server sent an event that is not a JSON object.")
        yield value

    def _release(self) -> Iterator[ServerEvent]:
        if self._held is not None:
            held, self._held = self._held, None
            yield harmless(held)
