"""Decodes a file of text. The whole content decides which encoding it has."""

import codecs
import io
from typing import BinaryIO

from shared.files.errors import UnreadableFileError
from shared.files.text import BYTE_ORDER_MARKS, WESTERN

BLOCK_BYTES = 1 << 20
# UTF-32's mark begins with that of UTF-16.
MARKS = ((codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"), *BYTE_ORDER_MARKS)
WITHOUT_MARK = ("utf-8", *WESTERN)


def open_text(file: BinaryIO) -> tuple[io.TextIOWrapper, str]:
    """Returns the file as text, line ends as they are, and the name of its encoding.

    With a byte order mark it is UTF-8, UTF-16 or UTF-32. Without one it is UTF-8 if all of it is valid UTF-8, else
    Windows-1252, else Latin-1. Raises UnreadableFileError for what is no text.
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
    """Returns whether all of the file decodes. Raises UnreadableFileError for NUL, which no text holds."""
    decoder = codecs.getincrementaldecoder(encoding)()
    file.seek(0)
    try:
        while block := file.read(BLOCK_BYTES):
            if "\0" in decoder.decode(block):
                raise UnreadableFileError("is not text: it holds NUL; upload CSV, JSON, JSON Lines or XLSX")
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True
