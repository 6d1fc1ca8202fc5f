"""Reads one file of personas, and detects its format from its content."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, BinaryIO, TypeVar

from functions.personas.files.columns import FileRow, HeadedTable, is_blank, object_row
from functions.personas.files.delimited import read_records
from functions.personas.files.json_values import read_values
from functions.personas.files.limits import UploadLimits
from functions.personas.files.sheets import read_rows
from functions.personas.files.text import open_text
from shared.files.errors import UnreadableFileError

T = TypeVar("T")

ZIP = b"PK\x03\x04"
FOREIGN = {
    b"\xd0\xcf\x11\xe0": "is an old or password-protected Excel file: save it as .xlsx without a password",
    b"\x1f\x8b": "is compressed: unpack it first",
    b"%PDF": "is a PDF: upload CSV, JSON, JSON Lines or XLSX",
    b"PK\x05\x06": "is an empty zip file",
}


class UploadFormat(StrEnum):
    CSV = "csv"
    JSON = "json"
    XLSX = "xlsx"


@dataclass(frozen=True)
class PersonaFile:
    """An open file of personas. Iterating over ``rows`` may raise UnreadableFileError."""

    format: UploadFormat
    encoding: str | None
    rows: Iterator[FileRow]


def _no_check() -> None:
    pass


def open_persona_file(file: BinaryIO, limits: UploadLimits, check_time: Callable[[], None] = _no_check) -> PersonaFile:
    """Opens a seekable file of personas. ``check_time`` is called for each record and may raise.

    Raises UnreadableFileError if the file is not CSV, JSON, JSON Lines or XLSX.
    """
    file.seek(0)
    beginning = file.read(4)
    if not beginning:
        raise UnreadableFileError("is empty")
    for mark, reason in FOREIGN.items():
        if beginning.startswith(mark):
            raise UnreadableFileError(reason)
    if beginning == ZIP:
        cells = _watched(read_rows(file, limits), check_time)
        return PersonaFile(UploadFormat.XLSX, None, _bounded(_table_rows(cells, limits), limits))
    stream, encoding = open_text(file)
    first = stream.read(1 << 16).lstrip()[:1]
    stream.seek(0)
    if first in ("[", "{"):
        values = _watched(read_values(stream, limits), check_time)
        rows = (object_row(number, value) for number, value in enumerate(values, start=1))
        return PersonaFile(UploadFormat.JSON, encoding, _bounded(rows, limits))
    records = _watched(read_records(stream, limits), check_time)
    return PersonaFile(UploadFormat.CSV, encoding, _bounded(_table_rows(records, limits), limits))


def _table_rows(records: Iterator[tuple[int, list[Any]]], limits: UploadLimits) -> Iterator[FileRow]:
    """Yields the rows below the heading row, which is the first row that is not blank."""
    table: HeadedTable | None = None
    for number, cells in records:
        if is_blank(cells):
            continue
        if table is None:
            table = HeadedTable(["" if cell is None else str(cell) for cell in cells], limits.columns)
        else:
            yield table.row(number, cells)
    if table is None:
        raise UnreadableFileError("is empty")


def _watched(records: Iterator[T], check_time: Callable[[], None]) -> Iterator[T]:
    for record in records:
        check_time()
        yield record


def _bounded(rows: Iterator[FileRow], limits: UploadLimits) -> Iterator[FileRow]:
    for number, row in enumerate(rows, start=1):
        if number > limits.rows:
            raise UnreadableFileError(
                f"has more than the {limits.rows:,} rows that the upload may still have: split the upload"
            )
        yield row
