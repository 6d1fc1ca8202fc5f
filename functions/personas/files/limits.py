"""Defines the limits of uploaded files."""

from dataclasses import dataclass

from shared.bounds import WORKBOOK


@dataclass(frozen=True)
class UploadLimits:
    """The limits of uploaded files. ``rows`` and ``file_bytes`` are the limits of a whole upload."""

    rows: int = 100_000
    columns: int = WORKBOOK.columns
    file_bytes: int = WORKBOOK.size_bytes
    # The limit of one record or JSON value, which is in memory as a whole.
    row_characters: int = 1 << 20
    # The limits of a workbook's unpacked parts. Sheets may be larger than other parts, because they are read by row.
    sheet_bytes: int = 512 << 20
    texts_bytes: int = 128 << 20
    part_bytes: int = 8 << 20
    parts: int = 2_000
    # The limit of all cells together, as text. A text that many cells share counts each time.
    cells_bytes: int = 128 << 20
    # The time that is left to read a workbook.
    seconds: float = WORKBOOK.deadline


DEFAULT_LIMITS = UploadLimits()
