"""Detects the format of an uploaded file, and decodes gzip and UTF-16 into a plain local file."""

import codecs
import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from tempfile import NamedTemporaryFile

from shared.files.errors import UnreadableFileError
from shared.files.limits import DEFAULT_LIMITS, ReadLimits
from shared.files.text import BYTE_ORDER_MARKS, WESTERN

CHUNK_BYTES = 1 << 20
GZIP_MAGIC = b"\x1f\x8b"
PARQUET_MAGIC = b"PAR1"
FOREIGN_MAGIC = {
    b"PK\x03\x04": "a ZIP archive or Excel workbook",
    b"%PDF": "a PDF document",
    b"BZh": "a bzip2 archive",
    b"7z\xbc\xaf": "a 7-Zip archive",
    b"\xfd7zXZ": "an xz archive",
    b"\x28\xb5\x2f\xfd": "a Zstandard archive",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"Obj\x01": "an Avro file",
    b"ORC": "an ORC file",
}


class FileFormat(StrEnum):
    """The formats a scan understands; each may also come compressed with gzip."""

    CSV = "csv"
    PARQUET = "parquet"
    JSON_LINES = "jsonl"


@dataclass(frozen=True)
class PlainFile:
    """A local file without compression: parquet, or text whose beginning is UTF-8."""

    path: Path
    format: FileFormat
    name: str
    is_copy: bool = False


def detect_format(sample: bytes, name: str) -> FileFormat:
    """Returns the format of uncompressed content from its first bytes, or else from its name.

    Raises UnreadableFileError for content of another format.
    """
    if sample.startswith(PARQUET_MAGIC):
        return FileFormat.PARQUET
    for magic, kind in FOREIGN_MAGIC.items():
        # Three letters may also begin a header; a binary file has NUL bytes soon after.
        if sample.startswith(magic) and b"\x00" in sample[:4096]:
            raise UnreadableFileError(f"The file is {kind}; upload it as CSV, Parquet or JSON Lines, gzip allowed.")
    stem = name.lower().removesuffix(".gz")
    if stem.endswith((".csv", ".tsv", ".tab", ".txt")):
        return FileFormat.CSV
    if stem.endswith((".parquet", ".pq")):
        raise UnreadableFileError(
            "The file is named as Parquet but does not begin as one; write it again and upload it."
        )
    text = sample.lstrip(codecs.BOM_UTF8).lstrip()
    is_named_json = stem.endswith((".json", ".jsonl", ".ndjson"))
    if is_named_json and text.startswith(b"["):
        raise UnreadableFileError("The file is one JSON array; write one JSON object on each line (JSON Lines).")
    if is_named_json or _is_json_object(text.split(b"\n", 1)[0]):
        return FileFormat.JSON_LINES
    return FileFormat.CSV


def _is_json_object(line: bytes) -> bool:
    if not line.startswith(b"{"):
        return False
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def detect_encoding(sample: bytes) -> str:
    """Returns the codec of text from its beginning: a byte order mark, UTF-16's pattern of zero bytes, else UTF-8."""
    for mark, encoding in BYTE_ORDER_MARKS:
        if sample.startswith(mark):
            return encoding
    even, odd = sample[0:4096:2], sample[1:4096:2]
    if len(odd) >= 2 and odd.count(0) > 0.4 * len(odd) and even.count(0) < 0.05 * len(even):
        return "utf-16-le"
    if len(odd) >= 2 and even.count(0) > 0.4 * len(even) and odd.count(0) < 0.05 * len(odd):
        return "utf-16-be"
    return "utf-8"


def to_plain_file(
    path: Path,
    scratch: Path,
    *,
    name: str | None = None,
    format: FileFormat | None = None,
    limits: ReadLimits = DEFAULT_LIMITS,
) -> PlainFile:
    """Decodes gzip and UTF-16, in streaming, into a copy under `scratch`; a file that needs neither is used in place.

    Raises UnreadableFileError when it is empty, truncated, binary, or would decode to more than the limit.
    """
    name = name or path.name
    is_copy = False
    sample = _head(path)
    if not sample:
        raise UnreadableFileError("The file is empty; upload a file with a header and rows.")
    if sample.startswith(GZIP_MAGIC):
        path, is_copy = _write_copy(scratch, _decompressed(path, limits)), True
        sample = _head(path)
        if not sample:
            path.unlink()
            raise UnreadableFileError("The gzip file holds nothing; upload a file with a header and rows.")
    try:
        encoding = detect_encoding(sample)
        found = format or detect_format(_decoded_head(sample, encoding), name)
        if found is not FileFormat.PARQUET:
            if encoding.startswith("utf-16"):
                original, was_copy = path, is_copy
                path, is_copy = _write_copy(scratch, _transcoded(original, (encoding,))), True
                if was_copy:
                    original.unlink()
            elif sample.count(0) > max(8, len(sample) // 100):
                raise UnreadableFileError("The file is binary, not text; upload CSV, Parquet or JSON Lines.")
    except UnreadableFileError:
        if is_copy:
            path.unlink()
        raise
    return PlainFile(path=path, format=found, name=name, is_copy=is_copy)


def transcode_from_western(plain: PlainFile, scratch: Path) -> PlainFile:
    """Rewrites a text that turned out not to be UTF-8 as if it were Windows-1252, Latin-1 where that has none."""
    copy = _write_copy(scratch, _transcoded(plain.path, WESTERN))
    if plain.is_copy:
        plain.path.unlink()
    return PlainFile(path=copy, format=plain.format, name=plain.name, is_copy=True)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(CHUNK_BYTES)


def _decoded_head(sample: bytes, encoding: str) -> bytes:
    return sample if encoding.startswith("utf-8") else sample.decode(encoding, "replace").lstrip("\ufeff").encode()


def _write_copy(scratch: Path, chunks: Iterator[bytes]) -> Path:
    with NamedTemporaryFile(dir=scratch, prefix="decoded-", delete=False) as target:
        copy = Path(target.name)
        try:
            for chunk in chunks:
                target.write(chunk)
        except BaseException:
            copy.unlink()
            raise
    return copy


def _decompressed(path: Path, limits: ReadLimits) -> Iterator[bytes]:
    written = 0
    try:
        with gzip.open(path, "rb") as source:
            while chunk := source.read(CHUNK_BYTES):
                written += len(chunk)
                if written > limits.decoded_bytes:
                    raise UnreadableFileError(
                        f"The gzip file unpacks to more than {limits.decoded_bytes >> 20:,} MiB; "
                        "split it into smaller files."
                    )
                yield chunk
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UnreadableFileError(
            f"The gzip file is damaged or cut off ({error}); compress and upload it again."
        ) from error


def _transcoded(path: Path, encodings: tuple[str, ...]) -> Iterator[bytes]:
    """Returns the text of `path` as UTF-8. The next encoding decodes bytes that an encoding lacks."""
    first, *others = encodings

    def with_next(error: UnicodeError) -> tuple[str, int]:
        if not isinstance(error, UnicodeDecodeError) or not others:
            raise error
        return error.object[error.start : error.end].decode(others[0]), error.end

    handler = f"shared.files.{'-'.join(encodings)}"
    codecs.register_error(handler, with_next)
    decoder = codecs.getincrementaldecoder(first)(handler)
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield decoder.decode(chunk).encode()
            yield decoder.decode(b"", final=True).encode()
    except UnicodeError as error:
        raise UnreadableFileError(f"The file is not valid {first}; save it as UTF-8 and upload it again.") from error
