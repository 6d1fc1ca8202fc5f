"""Reads CSV files with commas, semicolons, tabs or bars. A quoted cell may have several lines."""

import csv
import io
from collections.abc import Iterator

from functions.personas.files.columns import HEADINGS, AmbiguousHeadingsError, field_positions
from functions.personas.files.limits import UploadLimits
from shared.files.errors import UnreadableFileError
from shared.files.text import DELIMITERS

SAMPLE_CHARACTERS = 1 << 16


class _Lines:
    """An iterator over the lines of a file. It limits the length of each record, which may have several lines."""

    def __init__(self, stream: io.TextIOWrapper, limit: int) -> None:
        self._stream = stream
        self._limit = limit
        self.taken = 0

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._stream.readline(self._limit + 1)
        self.taken += len(line)
        if self.taken > self._limit:
            raise UnreadableFileError(
                f"has a row of more than {self._limit:,} characters; look for a quote without an end"
            )
        if not line:
            raise StopIteration
        return line


def read_records(stream: io.TextIOWrapper, limits: UploadLimits) -> Iterator[tuple[int, list[str]]]:
    """Yields the number and the cells of each record, also of blank lines. Raises UnreadableFileError with the line."""
    delimiter = _detect_delimiter(stream.read(SAMPLE_CHARACTERS))
    stream.seek(0)
    lines = _Lines(stream, limits.row_characters)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        for number, record in enumerate(reader, start=1):
            lines.taken = 0
            yield number, record
    except csv.Error as error:
        raise UnreadableFileError(
            f"cannot be read at line {reader.line_num:,} ({error}); look for a quote that is not closed or not doubled"
        ) from error


def _detect_delimiter(sample: str) -> str:
    """Returns the delimiter for which the heading row has the most persona fields, and then the most columns."""

    def worth(delimiter: str) -> tuple[int, int]:
        reader = csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter)
        headings: list[str] = []
        try:
            headings = next((record for record in reader if record), headings)
            return len(field_positions(tuple(headings))), len(headings)
        except AmbiguousHeadingsError:
            return len(HEADINGS), len(headings)
        except csv.Error:
            return 0, 0

    return max(DELIMITERS, key=worth)
