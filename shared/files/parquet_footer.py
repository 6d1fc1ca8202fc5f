"""The sizes of a Parquet file's row groups, from its footer (Thrift's compact protocol).

polars decodes a whole row group of a column in one step and does not report its size before, so a small file could
unpack to more than the memory. Layout: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
"""

from dataclasses import dataclass
from pathlib import Path

from shared.files.errors import UnreadableFileError

FOOTER_BYTES_LIMIT = 16 << 20
NESTING_LIMIT = 16
TRAILER_BYTES = 8
MAGIC = b"PAR1"

# Type codes of the compact protocol.
TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)
# Field numbers in parquet.thrift.
FILE_ROW_GROUPS, GROUP_BYTES, GROUP_ROWS = 4, 2, 3


@dataclass(frozen=True)
class RowGroup:
    """``size_bytes`` is the size of all columns, uncompressed but still encoded."""

    rows: int
    size_bytes: int


def row_groups(path: Path) -> list[RowGroup]:
    """Returns the row groups of a file. Raises UnreadableFileError for a footer that is damaged or huge."""
    damaged = UnreadableFileError("The Parquet file is damaged or cut off; write it again and upload it.")
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - TRAILER_BYTES))
        trailer = file.read()
        length = int.from_bytes(trailer[:4], "little")
        if trailer[4:] != MAGIC or not 0 < length <= size - TRAILER_BYTES - len(MAGIC):
            raise damaged
        if length > FOOTER_BYTES_LIMIT:
            raise UnreadableFileError("The Parquet file has too many columns or row groups; split it into several.")
        file.seek(size - TRAILER_BYTES - length)
        footer = file.read(length)
    try:
        return _Reader(footer).row_groups()
    except (IndexError, ValueError, OverflowError) as error:
        raise damaged from error


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def row_groups(self) -> list[RowGroup]:
        groups: list[RowGroup] = []
        field = 0
        while header := self._byte():
            field, kind = self._field(field, header)
            if field == FILE_ROW_GROUPS and kind == LIST:
                size, _ = self._list_header()
                groups += [self._row_group() for _ in range(size)]
            else:
                self._skip(kind, 0)
        return groups

    def _row_group(self) -> RowGroup:
        values = {GROUP_BYTES: 0, GROUP_ROWS: 0}
        field = 0
        while header := self._byte():
            field, kind = self._field(field, header)
            if field in values and kind == I64:
                values[field] = self._signed()
            else:
                self._skip(kind, 0)
        return RowGroup(rows=max(0, values[GROUP_ROWS]), size_bytes=max(0, values[GROUP_BYTES]))

    def _field(self, last: int, header: int) -> tuple[int, int]:
        delta, kind = header >> 4, header & 0x0F
        return (last + delta if delta else self._signed()), kind

    def _list_header(self) -> tuple[int, int]:
        header = self._byte()
        size = header >> 4
        size = self._unsigned() if size == 15 else size
        # Each element takes a byte at least.
        if size > len(self._data):
            raise ValueError("a list is longer than the footer")
        return size, header & 0x0F

    def _skip(self, kind: int, depth: int) -> None:
        if depth > NESTING_LIMIT:
            raise ValueError("the footer is nested too deeply")
        if kind in (I16, I32, I64):
            self._unsigned()
        elif kind == BINARY:
            self._advance(self._unsigned())
        elif kind == STRUCT:
            field = 0
            while header := self._byte():
                field, inner = self._field(field, header)
                self._skip(inner, depth + 1)
        elif kind in (LIST, SET):
            size, inner = self._list_header()
            for _ in range(size):
                self._skip_element(inner, depth + 1)
        elif kind == MAP:
            if size := self._unsigned():
                kinds = self._byte()
                for _ in range(min(size, len(self._data))):
                    self._skip_element(kinds >> 4, depth + 1)
                    self._skip_element(kinds & 0x0F, depth + 1)
        elif kind in (BYTE, DOUBLE):
            self._advance(1 if kind == BYTE else 8)
        elif kind not in (TRUE, FALSE):
            raise ValueError(f"the footer has a field of the unknown type {kind}")

    def _skip_element(self, kind: int, depth: int) -> None:
        """Skips an element, like a field, except that a boolean takes a byte."""
        self._skip(BYTE if kind in (TRUE, FALSE) else kind, depth)

    def _byte(self) -> int:
        value = self._data[self._position]
        self._position += 1
        return value

    def _advance(self, count: int) -> None:
        self._position += count
        if self._position > len(self._data):
            raise ValueError("the footer ends early")

    def _unsigned(self) -> int:
        value, shift = 0, 0
        while True:
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("a number is too long")

    def _signed(self) -> int:
        value = self._unsigned()
        return (value >> 1) ^ -(value & 1)
