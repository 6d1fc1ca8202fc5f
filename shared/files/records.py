"""Splits lines of delimited text into fields. Quotes follow RFC 4180, or an escape character."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import BinaryIO

CHUNK_BYTES = 1 << 16


@dataclass(frozen=True)
class Marks:
    """The characters that structure a line. ``skips_spaces``: blanks after a delimiter do not belong to the field."""

    delimiter: str
    quote: str | None = '"'
    escape: str | None = None
    skips_spaces: bool = False

    @property
    def joins_blanks(self) -> bool:
        """Returns whether several blanks are one delimiter, as in aligned columns."""
        return self.delimiter == " " and self.skips_spaces


class Flaw(Enum):
    """Reason why a line is no record."""

    OPEN_QUOTE = "a quote is not closed"
    TEXT_AFTER_QUOTE = "there is text after a closing quote"


@dataclass(frozen=True)
class Fields:
    """Fields of a line. ``is_plain``: any reader of RFC 4180 splits the line equally."""

    fields: list[str]
    is_plain: bool = True
    flaw: Flaw | None = None


def split(line: str, marks: Marks, *, is_lenient: bool = False) -> Fields:
    """Splits a line, or the joined lines of one record.

    A quote inside a field that does not begin with one is text. If ``is_lenient``, so is a quote inside a quoted field
    that no delimiter follows.
    """
    delimiter, quote = marks.delimiter, marks.quote
    if marks.joins_blanks:
        line = line.strip(" ")
    if quote is None or quote not in line:
        fields = line.split(delimiter)
        if marks.joins_blanks:
            return Fields([field for field in fields if field], is_plain=False)
        if marks.skips_spaces:
            return Fields([field.strip(" ") for field in fields], is_plain=True)
        return Fields(fields)
    found: list[str] = []
    is_plain = not marks.skips_spaces and marks.escape is None
    start = 0
    while True:
        if marks.skips_spaces:
            while line.startswith(" ", start):
                start += 1
        if line.startswith(quote, start):
            field, start, is_regular, flaw = _quoted(line, start + 1, marks, is_lenient=is_lenient)
            if flaw is not None:
                return Fields(found, flaw=flaw)
            is_plain = is_plain and is_regular
        else:
            end = line.find(delimiter, start)
            end = len(line) if end < 0 else end
            field, start = line[start:end], end
            is_plain = is_plain and quote not in field
            field = field.rstrip(" ") if marks.skips_spaces else field
        found.append(field)
        if start >= len(line):
            return Fields(found, is_plain)
        start += len(delimiter)


def _quoted(line: str, start: int, marks: Marks, *, is_lenient: bool) -> tuple[str, int, bool, Flaw | None]:
    """Returns the field whose opening quote is before ``start``, where it ends, and whether it is regular."""
    quote, position, is_regular = marks.quote or "", start, True
    parts: list[str] = []
    while True:
        end = line.find(quote, position)
        if marks.escape is not None:
            escape = line.find(marks.escape, position)
            if escape >= 0 and (end < 0 or escape < end):
                parts.append(line[position:escape] + line[escape + 1 : escape + 2])
                position = escape + 2
                continue
        if end < 0:
            return "", len(line), False, Flaw.OPEN_QUOTE
        if line.startswith(quote, end + 1) and marks.escape is None:
            parts.append(line[position : end + 1])
            position = end + 2
            continue
        parts.append(line[position:end])
        after = end + 1
        if marks.skips_spaces and not marks.joins_blanks:
            while line.startswith(" ", after):
                after += 1
        if after >= len(line) or line.startswith(marks.delimiter, after):
            return "".join(parts), after, is_regular, None
        if not is_lenient:
            return "", after, False, Flaw.TEXT_AFTER_QUOTE
        parts.append(quote)
        position, is_regular = end + 1, False


def _flaw_after(line: str, marks: Marks) -> Flaw | None:
    """Returns the flaw of a record after a further line, which begins inside a quoted field."""
    _, end, _, flaw = _quoted(line, 0, marks, is_lenient=False)
    if flaw is not None or end >= len(line):
        return flaw
    return split(line[end + len(marks.delimiter) :], marks).flaw


def join(fields: Iterable[str], delimiter: str, quote: str = '"') -> str:
    """Returns the fields as one record of RFC 4180."""
    return delimiter.join(_written(field, delimiter, quote) for field in fields)


def _written(field: str, delimiter: str, quote: str) -> str:
    if delimiter in field or quote in field or "\n" in field or "\r" in field or field[:1] == " " or not field:
        return f"{quote}{field.replace(quote, quote * 2)}{quote}" if field else ""
    return field


class Lines:
    """Lines of a file in UTF-8, without their line ends, and the records that they form."""

    def __init__(self, source: BinaryIO, number: int = 0) -> None:
        """``number`` is that of the line before the present position, from 1."""
        self._source = source
        self.number = number
        # Lines that turned out not to belong to the record before them, and are read again.
        self.reread = 0

    def next(self) -> str | None:
        """Returns the next line, or ``None`` at the end."""
        line = self._source.readline()
        if not line:
            return None
        self.number += 1
        return _text(line)

    def place(self) -> tuple[int, int]:
        """Returns where the next line is, for ``go_back``."""
        return self._source.tell(), self.number

    def go_back(self, place: tuple[int, int]) -> None:
        """Goes back to a place."""
        self.reread += self.number - place[1]
        self._source.seek(place[0])
        self.number = place[1]

    def record(self, first: str, marks: Marks, limit: int) -> tuple[Fields, str]:
        """Returns the record that begins with a line, and all of its text.

        The text of a record with a flaw is the first line only. ``limit`` bounds a record's bytes.
        """
        found = split(first, marks)
        flaw, place, texts = found.flaw, self.place(), [first]
        size = len(first)
        while flaw is Flaw.OPEN_QUOTE and (more := self._through_next(marks.quote or "", limit - size)) is not None:
            texts.append(more)
            size += len(more)
            flaw = _flaw_after(more, marks)
        if flaw is not None:
            self.go_back(place)
            return found if found.flaw is flaw else replace(found, flaw=flaw), first
        text = "\n".join(texts)
        return split(text, marks) if len(texts) > 1 else found, text

    def records(self, marks: Marks, limit: int) -> Iterator[tuple[int, Fields]]:
        """Yields each record with the number of its first line.

        Flawed lines are split leniently. One that cannot even be split so is one field.
        """
        while (line := self.next()) is not None:
            number = self.number
            found, _ = self.record(line, marks, limit)
            if found.flaw is not None:
                found = split(line, marks, is_lenient=True)
            yield number, found if found.flaw is None else replace(found, fields=[line])

    def _through_next(self, quote: str, limit: int) -> str | None:
        """Returns the text up to the end of the line with the next quote, or ``None`` if it is too far away."""
        parts: list[bytes] = []
        while limit > 0 and (chunk := self._source.read(CHUNK_BYTES)):
            limit -= len(chunk)
            at = chunk.find(quote.encode())
            if at < 0:
                parts.append(chunk)
                continue
            end = chunk.find(b"\n", at) + 1
            if end:
                self._source.seek(end - len(chunk), os.SEEK_CUR)
                parts.append(chunk[:end])
            else:
                parts += [chunk, self._source.readline()]
            text = b"".join(parts)
            self.number += text.count(b"\n") + (not text.endswith(b"\n"))
            return _text(text)
        return None


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace").removesuffix("\n").removesuffix("\r")
