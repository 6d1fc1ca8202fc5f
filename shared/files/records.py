"""Splits lines of delimited text into fields. Quotes follow RFC 4180, or an escape character."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum

# Lines that one record may span.
RECORD_LINES = 10_000


@dataclass(frozen=True)
class Marks:
    """The characters that structure a line. ``skips_spaces``: blanks after a delimiter do not belong to the field."""

    delimiter: str
    quote: str | None = '"'
    escape: str | None = None
    skips_spaces: bool = False


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
    if quote is None or quote not in line:
        fields = line.split(delimiter)
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
        if marks.skips_spaces:
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
    """Lines of a file, without their line ends. Lines that were read can be given back."""

    def __init__(self, source: Iterable[str], number: int = 0) -> None:
        self._source = iter(source)
        self._returned: list[str] = []
        # Number of the last line that was read, from 1.
        self.number = number
        # Lines that turned out not to belong to the record before them.
        self.given_back = 0

    @property
    def has_returned(self) -> bool:
        return bool(self._returned)

    def next(self) -> str | None:
        """Returns the next line, or ``None`` at the end."""
        line = self._returned.pop() if self._returned else next(self._source, None)
        self.number += line is not None
        return line

    def give_back(self, lines: list[str]) -> None:
        """Takes back the last lines that were read."""
        self._returned.extend(reversed(lines))
        self.number -= len(lines)

    def record(self, first: str, marks: Marks, limit: int) -> tuple[Fields, list[str]]:
        """Returns the record that begins with a line, and its further lines.

        A record with a flaw has no further lines: they are given back. ``limit`` bounds the record's characters.
        """
        found = split(first, marks)
        taken: list[str] = []
        size = len(first)
        flaw = found.flaw
        while flaw is Flaw.OPEN_QUOTE and size <= limit and len(taken) < RECORD_LINES:
            line = self.next()
            if line is None:
                break
            taken.append(line)
            size += len(line) + 1
            flaw = _flaw_after(line, marks)
        if flaw is not None:
            self.give_back(taken)
            self.given_back += len(taken)
            return found if found.flaw is flaw else replace(found, flaw=flaw), []
        return split("\n".join([first, *taken]), marks) if taken else found, taken

    def records(self, marks: Marks, limit: int) -> Iterator[tuple[int, Fields]]:
        """Yields each record with the number of its first line. Flawed lines are split leniently."""
        while (line := self.next()) is not None:
            number = self.number
            found, _ = self.record(line, marks, limit)
            yield number, found if found.flaw is None else split(line, marks, is_lenient=True)
