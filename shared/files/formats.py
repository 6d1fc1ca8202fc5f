"""Detects the format of an uploaded file, and turns gzip and other encodings than UTF-8 into a plain local file."""

import gzip
import json
import mmap
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import BinaryIO

import polars as pl

from shared.files.encodings import NotTextError, TextEncoding, decoded, find_encoding
from shared.files.errors import UnreadableFileError
from shared.files.foreign import looks_like_text, refuse_foreign, refuse_markup
from shared.files.limits import DEFAULT_LIMITS, ReadLimits
from shared.files.magic import GZIP_MAGIC, PARQUET_MAGIC

CHUNK_BYTES = 1 << 20
WINDOW_BYTES = 1 << 26
# At the beginning of a line, where files were put together.
_LATER_MARK = b"\n\xef\xbb\xbf"
# How a JSON object or array begins that does not end on its first line.
_OPEN_OBJECT = re.compile(r'\{\s*$|\{\s*"[^"\r\n]*"\s*:.*[\[{,:]\s*$')
_OPEN_ARRAY = re.compile(r"\[\s*[\[{]|\[\s*$")


class FileFormat(StrEnum):
    """The formats a scan understands; each may also come compressed with gzip."""

    CSV = "csv"
    PARQUET = "parquet"
    JSON_LINES = "jsonl"


@dataclass(frozen=True)
class PlainFile:
    """A local file without compression: Parquet, or text in UTF-8 without a byte order mark."""

    path: Path
    format: FileFormat
    name: str
    is_copy: bool = False
    # The encoding that the text had, and a sentence for the owner if that is not certain.
    encoding: str | None = None
    encoding_doubt: str | None = None


def detect_format(sample: bytes, name: str) -> FileFormat:
    """Returns the format of text from its first bytes in UTF-8, or else from its name.

    Raises UnreadableFileError for text of another format.
    """
    refuse_markup(sample)
    stem = name.lower().removesuffix(".gz")
    if stem.endswith((".parquet", ".pq")):
        raise UnreadableFileError(
            "The file is named as Parquet but does not begin as one; write it again and upload it."
        )
    text = sample.decode("utf-8", "ignore").lstrip()
    is_named_json = stem.endswith((".json", ".jsonl", ".ndjson"))
    first_line, _, rest = text.partition("\n")
    if _is_json_array(text, first_line, is_named_json=is_named_json):
        raise UnreadableFileError("Line 1 begins a JSON array; write one JSON object on each line (JSON Lines).")
    if rest.strip() and _OPEN_OBJECT.match(first_line.rstrip()):
        raise UnreadableFileError(
            "The file is a JSON object over several lines; write each object on one line (JSON Lines)."
        )
    return FileFormat.JSON_LINES if is_named_json or _is_json(first_line, dict) else FileFormat.CSV


def _is_json_array(text: str, first_line: str, *, is_named_json: bool) -> bool:
    # A CSV header may begin with [id].
    return text.startswith("[") and (is_named_json or _OPEN_ARRAY.match(text) is not None or _is_json(first_line, list))


def _is_json(line: str, kind: type) -> bool:
    if not line.startswith(("{", "[")):
        return False
    try:
        return isinstance(json.loads(line), kind)
    except (ValueError, RecursionError):
        return False


def to_plain_file(
    path: Path,
    scratch: Path,
    *,
    name: str | None = None,
    format: FileFormat | None = None,
    limits: ReadLimits = DEFAULT_LIMITS,
    encoding: str | None = None,
) -> PlainFile:
    """Unpacks gzip and turns text into UTF-8, in a copy under `scratch`; a file that needs neither is used in place.

    Without `format`, the content and the name decide. `encoding` is what the owner states.
    Raises UnreadableFileError when the file is empty, cut off, of another kind, or would take more than the limit.
    """
    name = name or path.name
    head = _head(path)
    if not head:
        raise UnreadableFileError("The file is empty; upload a file with a header and rows.")
    if not head.startswith(GZIP_MAGIC):
        return _plain(path, scratch, name, format, limits, encoding)
    unpacked = _write_copy(scratch, _decompressed(path), limits, "The gzip file unpacks to")
    try:
        plain = _plain(unpacked, scratch, name, format, limits, encoding)
    except BaseException:
        unpacked.unlink()
        raise
    if plain.path != unpacked:
        unpacked.unlink()
    return replace(plain, is_copy=True)


def _plain(
    path: Path, scratch: Path, name: str, format: FileFormat | None, limits: ReadLimits, stated: str | None
) -> PlainFile:
    head = _head(path)
    if not head:
        raise UnreadableFileError("The gzip file holds nothing; upload a file with a header and rows.")
    # The first column of a CSV file may be called PAR1.
    if format is FileFormat.PARQUET or (head.startswith(PARQUET_MAGIC) and not looks_like_text(head)):
        return PlainFile(path=path, format=FileFormat.PARQUET, name=name)
    refuse_foreign(path, head)
    with path.open("rb") as file:
        try:
            encoding = find_encoding(file, stated, is_utf8)
        except NotTextError as error:
            raise UnreadableFileError(f"The file {error}.") from error
        is_plain = encoding.is_utf8 and not encoding.mark_bytes and not _has_later_mark(path)
        copy = path if is_plain else _write_copy(scratch, _utf8(path, encoding), limits, "As UTF-8, the file takes")
    try:
        found = format or detect_format(_head(copy), name)
    except UnreadableFileError:
        if not is_plain:
            copy.unlink()
        raise
    return PlainFile(
        path=copy,
        format=found,
        name=name,
        is_copy=not is_plain,
        encoding=encoding.name,
        encoding_doubt=encoding.doubt,
    )


def is_utf8(block: bytes) -> bool:
    """Returns whether whole characters are UTF-8; polars checks ten times as fast as Python decodes."""
    try:
        pl.Series([block]).cast(pl.String)
    except pl.exceptions.PolarsError:
        return False
    return True


def _has_later_mark(path: Path) -> bool:
    # A single byte is found ten times as fast, and most files don't have it.
    return has_byte(path, _LATER_MARK[1:2]) and has_byte(path, _LATER_MARK)


def has_byte(path: Path, byte: bytes) -> bool:
    """Returns whether a byte, or a few bytes, are in the file (about 10 GB/s). Only a part of the file is in memory."""
    size = path.stat().st_size
    with path.open("rb") as file:
        for start in range(0, size, WINDOW_BYTES):
            # A part begins where pages do, so bytes at the end of one belong to the next, too.
            length = min(WINDOW_BYTES + len(byte) - 1, size - start)
            with mmap.mmap(file.fileno(), length, access=mmap.ACCESS_READ, offset=start) as window:
                if window.find(byte) >= 0:
                    return True
    return False


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(CHUNK_BYTES)


def _utf8(path: Path, encoding: TextEncoding) -> Iterator[bytes]:
    """Yields text that find_encoding has checked, as UTF-8 without its byte order marks."""
    end = b""
    with path.open("rb") as file:
        for chunk in _encoded(file, encoding):
            text = (end + chunk).replace(_LATER_MARK, b"\n")
            end = text[-len(_LATER_MARK) :]
            yield text[: -len(_LATER_MARK)]
        yield end


def _encoded(file: BinaryIO, encoding: TextEncoding) -> Iterator[bytes]:
    if not encoding.is_utf8:
        yield from (text.encode() for text in decoded(file, encoding))
        return
    file.seek(encoding.mark_bytes)
    while chunk := file.read(CHUNK_BYTES):
        yield chunk


def _write_copy(scratch: Path, chunks: Iterator[bytes], limits: ReadLimits, excess: str) -> Path:
    """Raises UnreadableFileError that begins with `excess` for more than the limit."""
    written = 0
    with NamedTemporaryFile(dir=scratch, prefix="decoded-", delete=False) as target:
        copy = Path(target.name)
        try:
            for chunk in chunks:
                written += len(chunk)
                if written > limits.decoded_bytes:
                    raise UnreadableFileError(
                        f"{excess} more than {limits.decoded_bytes >> 20:,} MiB; split it into smaller files."
                    )
                target.write(chunk)
        except BaseException:
            copy.unlink()
            raise
    return copy


def _decompressed(path: Path) -> Iterator[bytes]:
    try:
        with gzip.open(path, "rb") as source:
            while chunk := source.read(CHUNK_BYTES):
                yield chunk
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UnreadableFileError("The gzip file is damaged or cut off; compress and upload it again.") from error
