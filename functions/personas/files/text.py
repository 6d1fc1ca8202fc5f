"""Decodes a file of text. The whole content decides which encoding it has."""

import io
import shutil
from tempfile import TemporaryFile
from typing import BinaryIO

from shared.files.encodings import NotTextError, find_encoding
from shared.files.errors import UnreadableFileError

# Codecs that skip one mark.
SKIPPED_BYTES = {"utf-8-sig": 3, "utf-16": 2, "utf-32": 4}


def open_text(file: BinaryIO) -> tuple[io.TextIOWrapper, str]:
    """Returns the file as text without byte order marks, line ends as they are, and the name of its encoding.

    Raises UnreadableFileError for what is no text.
    """
    try:
        encoding = find_encoding(file)
    except NotTextError as error:
        raise UnreadableFileError(str(error)) from error
    codec = encoding.name if encoding.mark_bytes else encoding.codec
    if encoding.mark_bytes > SKIPPED_BYTES.get(codec, 0):
        codec, file = encoding.codec, _without_marks(file, encoding.mark_bytes)
    file.seek(0)
    return io.TextIOWrapper(file, encoding=codec, errors=encoding.errors, newline=""), encoding.name


def _without_marks(file: BinaryIO, mark_bytes: int) -> BinaryIO:
    """Returns a copy of the text behind several marks; readers of the text go back to its beginning."""
    copy = TemporaryFile()  # noqa: SIM115 - the reader of the text closes it
    file.seek(mark_bytes)
    shutil.copyfileobj(file, copy, 1 << 20)
    return copy
