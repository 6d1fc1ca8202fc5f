"""How much of a file is read before it is refused."""

from dataclasses import dataclass


@dataclass(frozen=True)
class UploadLimits:
    """``rows`` and ``file_bytes`` are those of a whole upload."""

    rows: int = 100_000
    columns: int = 100
    file_bytes: int = 128 << 20
    # Of one row: a line, a record that spans lines, a JSON value.
    row_characters: int = 1 << 20
    # What a workbook's parts unpack to: the sheet and its texts, which are read row by row, and any other part.
    sheet_bytes: int = 512 << 20
    texts_bytes: int = 128 << 20
    part_bytes: int = 8 << 20
    parts: int = 2_000


DEFAULT_LIMITS = UploadLimits()
