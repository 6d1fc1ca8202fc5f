"""Reads JSON files value by value: a list, an object with a list ``personas``, or JSON Lines."""

import json
import re
from collections.abc import Iterator
from typing import Any, TextIO

from functions.personas.files.limits import UploadLimits
from shared.files.errors import UnreadableFileError

_BLANKS = re.compile(r"[ \t\r\n]*")
_WRAPPED = re.compile(r'\{[ \t\r\n]*"personas"[ \t\r\n]*:[ \t\r\n]*\[')


class _Window:
    """The part of the text from the current position to at least the maximum length of a row."""

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
        """Returns the next character that is not blank, or "" at the end."""
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
        """Skips the text at the current position if the pattern matches it. Returns whether it matches."""
        found = pattern.match(self._text, self._position)
        if found:
            self._position = found.end()
        return bool(found)

    def value(self) -> Any:
        """Returns the next JSON value. Raises UnreadableFileError with the number of the row."""
        self._fill()
        self._values += 1
        try:
            value, self._position = self._decoder.raw_decode(self._text, self._position)
        except RecursionError:
            raise UnreadableFileError(f"is nested too deeply at row {self._values:,}") from None
        except ValueError as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else "a number has too many digits"
            raise UnreadableFileError(
                f"is not valid JSON, or has a row of more than {self._row_characters:,} characters, "
                f"at row {self._values:,}: {reason}"
            ) from None
        return value

    def rest(self) -> str:
        """Returns the rest of the text. Raises UnreadableFileError if the rest is longer than a row."""
        self._fill()
        text = self._text[self._position :]
        if len(text) > self._row_characters:
            raise UnreadableFileError("has too much text after the list of personas: put the list last")
        return text


def read_values(stream: TextIO, limits: UploadLimits) -> Iterator[Any]:
    """Yields the values that should be personas. Raises UnreadableFileError if the text is not JSON."""
    window = _Window(stream, limits.row_characters)
    first = window.next_character()
    if window.skip(_WRAPPED):
        yield from _elements(window)
        _check_rest_of_object(window.rest())
    elif first == "[":
        window.skip(re.compile(r"\["))
        yield from _elements(window)
        if window.next_character():
            raise UnreadableFileError("has text after the list of personas; use one list, or one object per line")
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
