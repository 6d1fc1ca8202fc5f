"""Reads the first rows of a file under given options, without a scan."""

import gzip
import io
import math
import zlib
from datetime import date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl

from shared.connectors.storage import ConnectorStorage, FileVersion
from shared.errors import ValidationFailedError
from shared.files.basic_types import type_of
from shared.files.column_types import col
from shared.files.errors import UnreadableFileError
from shared.files.formats import GZIP_MAGIC, PARQUET_MAGIC, FileFormat
from shared.files.limits import ReadLimits
from shared.files.readers import opened
from shared.files.sources import Source, is_blank_row
from shared.models.preview import Preview, PreviewColumn
from shared.models.reading import ReadOptions

# Of a text; of a gzip file, the unpacked text.
TEXT_BYTES = 8 << 20
# The columns of a Parquet file are described at its end, so it is read whole.
PARQUET_BYTES = 64 << 20
CHUNK_BYTES = 1 << 16
# Finding the types of more columns takes longer than a request may take.
LIMITS = ReadLimits(decoded_bytes=PARQUET_BYTES, columns=5_000)
COLUMNS_LIMIT = 1000
TEXT_CHARACTERS = 200
# A text may have rows without values among its first ones. They are no rows of the data.
BLANK_ROWS = 100
# A Lambda function answers at most 6 MB.
ROWS_BYTES = 3_000_000
# The end of a line in each kind of encoding. No text of one kind holds the end of a kind before it.
NEWLINES = ("\n".encode("utf-32-le"), "\n".encode("utf-32-be"), "\n".encode("utf-16-le"), "\n".encode("utf-16-be"),
            b"\n", b"\r")  # fmt: skip


def preview_file(storage: ConnectorStorage, file: str, options: ReadOptions, rows: int) -> Preview:
    """Returns the first rows of a file as it is now.

    Raises UnreadableFileError, MissingFileError, FileChangedError, StorageError, and ValidationFailedError for a
    Parquet file that is too large.
    """
    version = storage.head(file)
    if version.size_bytes == 0:
        raise UnreadableFileError("The file is empty; upload a file with a header and rows.")
    with TemporaryDirectory(prefix="preview-") as folder:
        path = Path(folder) / "file"
        is_partial = _fetch(storage, version, path, options)
        with opened(path, name=file.rpartition("/")[2], limits=LIMITS, options=options) as source:
            return _preview(source, rows, is_partial=is_partial)


def _fetch(storage: ConnectorStorage, version: FileVersion, target: Path, options: ReadOptions) -> bool:
    """Writes the file, or the beginning of a long text, and returns whether it is only the beginning."""
    stored = storage.beginning(version, TEXT_BYTES)
    content, is_whole = unpacked(stored, is_whole=len(stored) == version.size_bytes)
    if content.startswith(PARQUET_MAGIC) and not is_whole:
        if version.size_bytes > PARQUET_BYTES:
            raise ValidationFailedError.of(
                "body.file",
                f"is Parquet of {version.size_bytes / 2**20:,.0f} MiB, and a preview reads at most "
                f"{PARQUET_BYTES >> 20} MiB; scan it to see its columns",
            )
        storage.download(version, target)
        return False
    quote = '"' if options.quote is None else options.quote
    target.write_bytes(content if is_whole else whole_lines(content, quote.encode()))
    return not is_whole


def unpacked(stored: bytes, *, is_whole: bool) -> tuple[bytes, bool]:
    """Returns the first 8 MiB of the content without gzip, and whether that is all of it.

    A damaged gzip file is returned as it is, because the reader reports what is wrong with it.
    """
    if not stored.startswith(GZIP_MAGIC):
        return stored, is_whole
    content = bytearray()
    try:
        with gzip.open(io.BytesIO(stored)) as source:
            while len(content) <= TEXT_BYTES and (chunk := source.read1(CHUNK_BYTES)):
                content += chunk
    except EOFError:
        if is_whole:
            return stored, True
    except (gzip.BadGzipFile, zlib.error):
        return stored, True
    return bytes(content[:TEXT_BYTES]), is_whole and len(content) <= TEXT_BYTES


def whole_lines(content: bytes, quote: bytes) -> bytes:
    """Returns the beginning of a text up to the end of its last whole line that is not within quotes.

    Where quotes seem not to be balanced at all, lines count alone.
    """
    newline = next((each for each in NEWLINES if _end_of_line(content, each, len(content))), None)
    if newline is None:
        return content
    end = last = _end_of_line(content, newline, len(content))
    is_open = bool(quote) and content.count(quote, 0, end) % 2 == 1
    while is_open and end > last // 2:
        before = _end_of_line(content, newline, content.rfind(quote, 0, end))
        is_open = content.count(quote, before, end) % 2 == 0
        end = before
    return content[: last if is_open or end <= last // 2 else end]


def _end_of_line(content: bytes, newline: bytes, end: int) -> int:
    """Returns where the last line before ``end`` ends; 0 if no line does."""
    start = content.rfind(newline, 0, end)
    while start > 0 and start % len(newline):
        start = content.rfind(newline, 0, start + len(newline) - 1)
    return max(0, start + len(newline)) if start >= 0 else 0


def _preview(source: Source, rows: int, *, is_partial: bool) -> Preview:
    empty = _empty_columns(source) if _is_text(source) else set()
    parts = [_first_rows(source, columns, rows + BLANK_ROWS) for columns in source.batches()]
    frame = pl.concat(parts, how="horizontal")[:, :COLUMNS_LIMIT]
    if _is_text(source):
        frame = frame.filter(~is_blank_row(frame.columns))
    notes = source.notes
    return Preview(
        format=source.plain.format.value,
        encoding=notes.encoding,
        dialect=notes.dialect,
        columns=[
            PreviewColumn(
                name=name,
                type="string" if name in empty else type_of(dtype).value,
                formats=notes.formats.get(name, []),
            )
            for name, dtype in frame.schema.items()
        ],
        rows=_shown_rows(frame.head(rows)),
        warnings=notes.warnings,
        warning_count=notes.warning_count,
        affected_rows=notes.affected_rows,
        is_partial=is_partial,
    )


def _is_text(source: Source) -> bool:
    return source.plain.format is not FileFormat.PARQUET


def _empty_columns(source: Source) -> set[str]:
    """Returns the columns without values. That reads every row, after which the source's notes are complete."""
    facts, schema = source.aggregate(lambda schema: [col(name).count() for name in schema])
    return {name for name in schema if facts[name] == 0}


def _first_rows(source: Source, columns: list[str] | None, rows: int) -> pl.DataFrame:
    def query(frame: pl.LazyFrame) -> pl.LazyFrame:
        names = frame.collect_schema().names()[:COLUMNS_LIMIT] if columns is None else columns
        return frame.select(col(name) for name in names).head(rows)

    return source.collect(query)


def _shown_rows(frame: pl.DataFrame) -> list[list[Any]]:
    shown: list[list[Any]] = []
    size = 0
    for row in frame.iter_rows():
        values = [_shown(value) for value in row]
        size += sum(len(value.encode()) if isinstance(value, str) else 8 for value in values)
        if shown and size > ROWS_BYTES:
            break
        shown.append(values)
    return shown


def _shown(value: Any) -> Any:
    match value:
        case str():
            return value[:TEXT_CHARACTERS]
        case datetime():
            return f"{value.isoformat()}Z"
        case date():
            return value.isoformat()
        case float():
            return value if math.isfinite(value) else None
    return value
