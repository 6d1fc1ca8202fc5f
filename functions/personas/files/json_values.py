"""JSON, one value after the other: a list, an object with the list ``personas``, or JSON Lines."""

import json
import re
from collections.abc import Iterator
from typing import Any, TextIO

from functions.personas.files.limits import UploadLimits
from shared.files.errors import UnreadableFileError

_BLANKS = re.compile(r"[ \t\r\n]*")
_WRAPPED = re.compile(r'\{[ \t\r\n]*"personas"[ \t\r\n]*:[ \t\r\n]*\[')


class _Window:
    """A part of the text that always reaches one row's length ahead of where we are."""

    def __init__(self, stream: TextIO, row_characters: int) -> None:
        self._stream = stream
        self._row_characters = row_characters
        self._decoder = json.JSONDecoder()
        self._text = ""
        self._position = 0
        self._values = 0

    def _fill(self) -> None:
        while len(self._text) - self._position < self._row_characters:
            block = self._stream.read(4 * self._row_characters)
            if not block:
                return
            self._text = self._text[self._position :] + block
            self._position = 0

    def next_character(self) -> str:
        """Returns the next character that is not blank, "" at the end."""
        while True:
            self._fill()
            blanks = _BLANKS.match(self._text, self._position)
            self._position = blanks.end() if blanks else self._position
            if self._position < len(self._text):
                return self._text[self._position]
            if not self._stream_has_more():
                return ""

    def _stream_has_more(self) -> bool:
        block = self._stream.read(self._row_characters)
        self._text, self._position = block, 0
        return bool(block)

    def skip(self, pattern: re.Pattern[str]) -> bool:
        """Skips the text that the pattern matches here."""
        found = pattern.match(self._text, self._position)
        if found:
            self._position = found.end()
        return bool(found)

    def value(self) -> Any:
        """Raises UnreadableFileError that names the row."""
        self._fill()
        self._values += 1
        try:
            value, self._position = self._decoder.raw_decode(self._text, self._position)
        except RecursionError:
            raise UnreadableFileError(f"is nested too deeply at its row {self._values:,}") from None
        except ValueError as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else "a number has too many digits"
            raise UnreadableFileError(
                f"is not valid JSON, or has a row of more than {self._row_characters:,} characters, "
                f"at its row {self._values:,}: {reason}"
            ) from None
        return value

    def rest(self) -> str:
        """Returns the rest of the text. Raises UnreadableFileError when it is longer than a row."""
        self._fill()
        text = self._text[self._position :]
        if len(text) > self._row_characters:
            raise UnreadableFileError("goes on for too long after the list of personas: put the list last")
        return text


def read_values(stream: TextIO, limits: UploadLimits) -> Iterator[Any]:
    """Yields the values that should be personas. Raises UnreadableFileError for what is not JSON."""
    window = _Window(stream, limits.row_characters)
    first = window.next_character()
    if window.skip(_WRAPPED):
        yield from _elements(window)
        _check_rest_of_object(window.rest())
    elif first == "[":
        window.skip(re.compile(r"\["))
        yield from _elements(window)
        if window.next_character():
            raise UnreadableFileError("goes on after the list of personas; use one list, or one object a line")
    else:
        while window.next_character():
            value = window.value()
            if isinstance(value, dict) and "name" not in value and isinstance(value.get("personas"), list):
                yield from value["personas"]
            else:
                yield value


def _elements(window: _Window) -> Iterator[Any]:
    if window.next_character() == "]":
        window.skip(_END)
        return
    while True:
        window.next_character()
        yield window.value()
        after = window.next_character()
        if not window.skip(_COMMA if after == "," else _END):
            raise UnreadableFileError("is not valid JSON: its list is not closed, or a comma is missing")
        if after == "]":
            return


_COMMA = re.compile(",")
_END = re.compile(r"\]")


def _check_rest_of_object(rest: str) -> None:
    try:
        json.loads("{" + rest.lstrip(" \t\r\n").removeprefix(","))
    except (ValueError, RecursionError):
        raise UnreadableFileError("is not valid JSON after its list of personas") from None
