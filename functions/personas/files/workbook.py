"""XLSX: the first visible sheet of a workbook, which is a zip of XML files that anybody may have forged."""

import re
import warnings
import zlib
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from typing import IO, Any, BinaryIO
from zipfile import BadZipFile, ZipFile, ZipInfo

from openpyxl.reader.excel import ExcelReader
from openpyxl.styles.stylesheet import apply_stylesheet
from openpyxl.utils.exceptions import InvalidFileException
from openpyxl.worksheet._reader import FORMULA_TAG, WorkSheetParser

from functions.personas.files.columns import UnusableCell
from functions.personas.files.limits import UploadLimits
from shared.files.errors import UnreadableFileError

BLOCK_BYTES = 1 << 20
MARK_BYTES = 64
# A row is in memory as a whole, and so is the part before or after all rows.
ROW_BYTES = 4 << 20
SHARED_STRINGS = "sharedstrings"
_ROW = re.compile(rb"</?(?:[A-Za-z0-9_]{1,30}:)?row[\s>/]")

# What openpyxl, zipfile and the XML parser raise for a broken file: they take its structure for granted.
BROKEN = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BadZipFile,
    EOFError,
    InvalidFileException,
    LookupError,
    NotImplementedError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    zlib.error,
)


class _BoundedArchive(ZipFile):
    """Zip archive that refuses parts which declare more than their limit. zipfile stops at the declared size."""

    def __init__(self, file: BinaryIO, limits: UploadLimits) -> None:
        super().__init__(file)
        self._limits = limits
        if len(self.filelist) > limits.parts:
            raise UnreadableFileError(f"has {len(self.filelist):,} parts, more than a workbook needs")

    def read(self, name: str | ZipInfo, pwd: bytes | None = None) -> bytes:
        self._check(name, self._limits.part_bytes)
        return super().read(name, pwd)

    def open(self, name: str | ZipInfo, *arguments: Any, **options: Any) -> IO[bytes]:
        is_texts = SHARED_STRINGS in (name if isinstance(name, str) else name.filename).lower()
        self._check(name, self._limits.texts_bytes if is_texts else self._limits.sheet_bytes)
        return super().open(name, *arguments, **options)

    def _check(self, name: str | ZipInfo, limit: int) -> None:
        info = name if isinstance(name, ZipInfo) else self.getinfo(name)
        if info.file_size > limit:
            raise UnreadableFileError(
                f"unpacks to more than {limit >> 20} MB ({info.filename[:100]}): split it into smaller files"
            )


class _CellParser(WorkSheetParser):
    """Tells a formula without a value from an empty cell, and says what is wrong with an error's cell."""

    def parse_cell(self, element: Any) -> dict[str, Any]:
        cell: dict[str, Any] = super().parse_cell(element)
        if cell["value"] is None and element.find(FORMULA_TAG) is not None:
            cell["value"] = UnusableCell("holds a formula without a value: let your spreadsheet program calculate it")
        elif cell["data_type"] == "e":
            cell["value"] = UnusableCell(f"holds the error {str(cell['value'])[:20]}")
        return cell


def read_cells(file: BinaryIO, limits: UploadLimits) -> Iterator[tuple[int, list[Any]]]:
    """Yields the sheet's rows that are not left out, by number: text, numbers, truth values, ``None`` or UnusableCell.

    A formula is the value that it had when the file was saved. Raises UnreadableFileError.
    """
    try:
        yield from _read_cells(file, limits)
    except BROKEN as error:
        raise UnreadableFileError(
            f"is not a workbook that can be read ({type(error).__name__}); open it in a spreadsheet program, "
            "save it as .xlsx and upload it again"
        ) from error


def _read_cells(file: BinaryIO, limits: UploadLimits) -> Iterator[tuple[int, list[Any]]]:
    reader = _load(file, limits)
    book = reader.wb
    sheets = [(sheet, part) for sheet, part in reader.parser.find_sheets() if "chartsheet" not in part.Type]
    if not sheets:
        raise UnreadableFileError("has no sheet")
    path = next((part for sheet, part in sheets if sheet.state == "visible"), sheets[0][1]).target
    _check_rows(reader.archive, path)
    with reader.archive.open(path) as source:
        parser = _CellParser(
            source,
            reader.shared_strings,
            data_only=True,
            epoch=book.epoch,
            date_formats=book._date_formats,
            timedelta_formats=book._timedelta_formats,
        )
        for number, cells in parser.parse():
            yield number, _in_place(cells, limits.columns)


def _load(file: BinaryIO, limits: UploadLimits) -> Any:
    """Returns the parts that cells refer to: texts, date formats, sheets.

    Openpyxl's own ``read`` goes through all sheets first.
    """
    reader: Any = ExcelReader(file, read_only=True, data_only=True, keep_links=False)
    reader.archive = _BoundedArchive(file, limits)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reader.read_manifest()
        reader.read_strings()
        reader.read_workbook()
        apply_stylesheet(reader.archive, reader.wb)
    return reader


def _check_rows(archive: ZipFile, path: str) -> None:
    """Raises UnreadableFileError where no row begins or ends for too long to be held in memory."""
    unbroken = 0
    tail = b""
    with archive.open(path) as source:
        while block := source.read(BLOCK_BYTES):
            window = tail + block
            unbroken = 0 if _ROW.search(window) else unbroken + len(block)
            if unbroken > ROW_BYTES:
                raise UnreadableFileError(f"has a row that unpacks to more than {ROW_BYTES >> 20} MB")
            tail = window[-MARK_BYTES:]


def _in_place(cells: list[dict[str, Any]], columns: int) -> list[Any]:
    """Returns the values by column. A value beyond the limit is placed directly behind it."""
    values: list[Any] = []
    for cell in cells:
        if cell["value"] is not None:
            place = min(cell["column"] - 1, columns)
            values += [None] * (place + 1 - len(values))
            values[place] = _plain(cell["value"])
    return values


def _plain(value: Any) -> Any:
    match value:
        case datetime():
            return value.date().isoformat() if value.time() == time.min else value.isoformat()
        case date() | time():
            return value.isoformat()
        case timedelta():
            return str(value)
        case str() | bool() | int() | float() | UnusableCell():
            return value
    return UnusableCell("holds something other than text, numbers and dates")
