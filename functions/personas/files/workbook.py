"""Reads the first visible sheet of an XLSX workbook. A workbook is a zip of XML files, which may be hostile.

It runs in a child process, because the XML parser holds everything between two rows in memory.
"""

import json
import warnings
import zlib
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import IO, Any, BinaryIO
from zipfile import BadZipFile, ZipFile, ZipInfo

from openpyxl.reader.excel import ExcelReader
from openpyxl.styles.stylesheet import apply_stylesheet
from openpyxl.utils.exceptions import InvalidFileException
from openpyxl.worksheet._reader import FORMULA_TAG, WorkSheetParser

from functions.personas.files.columns import UnusableCell, is_blank
from functions.personas.files.limits import UploadLimits
from shared.files.errors import UnreadableFileError

SHARED_STRINGS = "sharedstrings"

# openpyxl, zipfile and the XML parser raise these errors for a broken file, because they do not check its structure.
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
    """A zip archive that refuses parts with a declared size above the limit. ``zipfile`` stops at the declared size."""

    def __init__(self, file: BinaryIO, limits: UploadLimits) -> None:
        super().__init__(file)
        self._limits = limits
        if len(self.filelist) > limits.parts:
            raise UnreadableFileError(f"has {len(self.filelist):,} parts; a workbook needs fewer parts")

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
    """A cell parser that returns an UnusableCell for a formula without a value and for a cell with an error."""

    def parse_cell(self, element: Any) -> dict[str, Any]:
        cell: dict[str, Any] = super().parse_cell(element)
        if cell["value"] is None and element.find(FORMULA_TAG) is not None:
            cell["value"] = UnusableCell("has a formula without a value: let your spreadsheet program calculate it")
        elif cell["data_type"] == "e":
            cell["value"] = UnusableCell(f"has the error {str(cell['value'])[:20]}")
        return cell


def write_cells(source: str, target: str, limits: dict[str, Any]) -> None:
    """Writes the number and the cells of each row that is not blank as one line of JSON.

    It ends with the first row beyond the limit. An unusable cell is an object with the reason. Raises
    UnreadableFileError.
    """
    bounds = UploadLimits(**limits)
    # The first row names the columns, and a row beyond the limit shows that there is one.
    left = bounds.rows + 2
    written = 0
    with Path(source).open("rb") as book, Path(target).open("w", encoding="utf-8") as lines:
        for number, cells in read_cells(book, bounds):
            if is_blank(cells):
                continue
            line = json.dumps([number, cells], default=_reason)
            if len(line) > bounds.row_characters:
                raise UnreadableFileError(f"has a row of more than {bounds.row_characters:,} characters")
            written += len(line)
            if written > bounds.cells_bytes:
                raise UnreadableFileError(f"has cells of more than {bounds.cells_bytes >> 20} MB: split it")
            lines.write(f"{line}\n")
            left -= 1
            if not left:
                break


def _reason(cell: UnusableCell) -> dict[str, str]:
    return {"reason": cell.reason}


def read_cells(file: BinaryIO, limits: UploadLimits) -> Iterator[tuple[int, list[Any]]]:
    """Yields the number and the cells of each row: text, number, Boolean, ``None`` or UnusableCell.

    A formula has the value that the file stores for it. Raises UnreadableFileError.
    """
    try:
        yield from _read_cells(file, limits)
    except BROKEN as error:
        raise UnreadableFileError(
            f"is a broken workbook ({type(error).__name__}): open it in a spreadsheet program, "
            "save it as .xlsx and upload it again"
        ) from error


def _read_cells(file: BinaryIO, limits: UploadLimits) -> Iterator[tuple[int, list[Any]]]:
    reader = _load(file, limits)
    book = reader.wb
    sheets = [(sheet, part) for sheet, part in reader.parser.find_sheets() if "chartsheet" not in part.Type]
    if not sheets:
        raise UnreadableFileError("has no sheet")
    path = next((part for sheet, part in sheets if sheet.state == "visible"), sheets[0][1]).target
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
    """Loads the parts that cells refer to: texts, date formats and the list of sheets.

    openpyxl's own ``read`` would parse all sheets.
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


def _in_place(cells: list[dict[str, Any]], columns: int) -> list[Any]:
    """Returns the values at the positions of their columns. Values beyond the limit share the next position."""
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
    return UnusableCell("has a value that is not text, a number or a date")
