"""Decodes text files, and detects their encoding from their whole content."""

import codecs
import io
from typing import BinaryIO

from shared.files.errors import UnreadableFileError
from shared.files.text import BYTE_ORDER_MARKS, WESTERN

BLOCK_BYTES = 1 << 20
# The marks of UTF-32 come first, because they begin with the marks of UTF-16.
MARKS = ((codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"), *BYTE_ORDER_MARKS)
WITHOUT_MARK = ("utf-8", *WESTERN)


def open_text(file: BinaryIO) -> tuple[io.TextIOWrapper, str]:
    """Returns the file as text with unchanged line ends, and the name of its encoding.

    A byte order mark decides the encoding. Without a mark, the encoding is the first of UTF-8, Windows-1252 and
    Latin-1 that can decode the whole file. Raises UnreadableFileError if the file is not text.
    """
    file.seek(0)
    beginning = file.read(4)
    marked = next((encoding for mark, encoding in MARKS if beginning.startswith(mark)), None)
    encoding = next((each for each in ([marked] if marked else WITHOUT_MARK) if _is_in(file, each)), None)
    if encoding is None:
        raise UnreadableFileError(f"is not valid {marked or 'text'}; save it as UTF-8 and upload it again")
    file.seek(0)
    return io.TextIOWrapper(file, encoding=encoding, newline=""), encoding


def _is_in(file: BinaryIO, encoding: str) -> bool:
    """Returns whether the encoding can decode the whole file. Raises UnreadableFileError if the file contains NUL."""
    decoder = codecs.getincrementaldecoder(encoding)()
    file.seek(0)
    try:
        while block := file.read(BLOCK_BYTES):
            if "\0" in decoder.decode(block):
                raise UnreadableFileError("is not text, because it contains NUL: upload CSV, JSON, JSON Lines or XLSX")
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True
