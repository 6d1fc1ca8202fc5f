"""Shows the first rows of a file under given options, without a scan."""

import gzip
import io
import zlib
from pathlib import Path

from shared.bounds import PREVIEWED_FILE
from shared.connectors.storage import ConnectorStorage, FileVersion
from shared.errors import ValidationFailedError
from shared.files.confined import prepare_child, run_confined
from shared.files.errors import UnreadableFileError
from shared.files.magic import GZIP_MAGIC, PARQUET_MAGIC
from shared.models.preview import Preview
from shared.models.reading import ReadOptions
from shared.scratch import scratch_folder

# Of a text; of a gzip file, the unpacked text.
TEXT_BYTES = 8 << 20
# The columns of a Parquet file are described at its end, so it is read whole.
PARQUET_BYTES = PREVIEWED_FILE.size_bytes
CHUNK_BYTES = 1 << 16
_READER = "functions.connectors.preview_rows"
# The end of a line in each kind of encoding. No text of one kind holds the end of a kind before it.
NEWLINES = ("\n".encode("utf-32-le"), "\n".encode("utf-32-be"), "\n".encode("utf-16-le"), "\n".encode("utf-16-be"),
            b"\n", b"\r")  # fmt: skip


def prepare() -> None:
    """Starts a process that can read files, because importing polars takes long."""
    prepare_child(_READER, PREVIEWED_FILE)


def preview_file(storage: ConnectorStorage, file: str, options: ReadOptions, rows: int) -> Preview:
    """Returns the first rows of a file as it is now.

    Raises UnreadableFileError, MissingFileError, FileChangedError, StorageError, and ValidationFailedError for a
    Parquet file that is too large.
    """
    version = storage.head(file)
    if version.size_bytes == 0:
        raise UnreadableFileError("The file is empty; upload a file with a header and rows.")
    with scratch_folder() as folder:
        path = folder / "file"
        is_partial = _fetch(storage, version, path, options)
        arguments = {
            "path": str(path),
            "name": file.rpartition("/")[2],
            "options": options.model_dump(mode="json", exclude_none=True),
            "rows": rows,
        }
        found = run_confined(f"{_READER}:read_rows", arguments, PREVIEWED_FILE)
    return Preview.model_validate({**found, "is_partial": is_partial})


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
