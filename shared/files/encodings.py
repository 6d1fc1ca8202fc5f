"""Finds the encoding of a file of text: stated by its owner, marked, seen in its bytes, or guessed from its words."""

import codecs
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import BinaryIO

from shared.files.encoding_guess import Guess, guess_encodings

BLOCK_BYTES = 1 << 20
# The mark of UTF-32 begins with that of UTF-16.
MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le", "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32-be", "utf-32"),
    (codecs.BOM_UTF8, "utf-8", "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16-le", "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16-be", "utf-16"),
)
PATTERN_BYTES = 4096
# Text never has more of these control characters than this share; a binary file has. Some are delimiters.
CONTROL_CHARACTERS = bytes({*range(0x20)} - {0x01, 0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x1B, 0x1F})
BINARY_SHARE = 0.02
# The guess sees the beginning and lines from the whole file.
SAMPLE_BYTES = 128 << 10
BEGINNING_BYTES = 48 << 10
LINES_OF_BLOCK = 8
SAMPLED_LINE_BYTES = 2000
# From this share of lines that are UTF-8 on, the others are at fault.
MIXED_SHARE = 0.8

LABELS = {
    "cp1250": "Windows-1250",
    "cp1251": "Windows-1251",
    "cp1252": "Windows-1252",
    "cp1253": "Windows-1253",
    "cp1254": "Windows-1254",
    "cp1255": "Windows-1255",
    "cp1256": "Windows-1256",
    "cp932": "Shift_JIS",
    "cp949": "EUC-KR",
    "cp950": "Big5",
}
# A letter takes several bytes in these, so that one byte cannot be read in another encoding.
MULTIBYTE = frozenset({"cp932", "cp949", "cp950", "euc_jp", "gb18030"})

_NOT_ASCII = re.compile(rb"[\x80-\xff]")
_LINE_END = re.compile(rb"[\r\n]")


class NotTextError(Exception):
    """Error raised for what can't be decoded. The message begins with a verb; its subject is the file."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True)
class TextEncoding:
    """How the bytes of one file are text."""

    # The usual name, such as "utf-16" or "cp1252".
    name: str
    # The codec of the bytes behind the marks.
    codec: str
    # Bytes of byte order marks at the beginning.
    mark_bytes: int = 0
    # What the decoder does with bytes that the codec lacks.
    errors: str = "strict"
    # A sentence for the owner, if the encoding is only likely.
    doubt: str | None = None

    @property
    def is_utf8(self) -> bool:
        """Returns whether the bytes behind the marks are UTF-8."""
        return self.codec == "utf-8" and self.errors == "strict"


UTF8 = TextEncoding("utf-8", "utf-8")


def is_utf8(block: bytes) -> bool:
    """Returns whether whole characters are UTF-8."""
    try:
        codecs.utf_8_decode(block, "strict", True)
    except UnicodeDecodeError:
        return False
    return True


def find_encoding(
    file: BinaryIO, stated: str | None = None, is_utf8: Callable[[bytes], bool] = is_utf8
) -> TextEncoding:
    """Returns the encoding in which all of the file can be decoded, by passes over the file.

    Most files are UTF-8, so callers may have a faster check of it. Raises NotTextError that names the line for bytes
    that are no text, and for NUL characters.
    """
    file.seek(0)
    head = file.read(BLOCK_BYTES)
    found = _stated(head, stated) if stated else _marked(head) or _by_zero_bytes(head)
    if found is None:
        if _is_binary(head):
            raise NotTextError("is binary, not text; upload CSV, Parquet or JSON Lines")
        found = UTF8 if _is_all_utf8(file, 0, is_utf8) else _of_words(file)
    elif not found.is_utf8 or not _is_all_utf8(file, found.mark_bytes, is_utf8):
        _check(file, found)
    return found


def decoded(file: BinaryIO, encoding: TextEncoding) -> Iterator[str]:
    """Yields the text, without marks, block after block.

    Raises NotTextError that names the line of a byte that the encoding lacks, or of a NUL character.
    """
    decoder = codecs.getincrementaldecoder(encoding.codec)(encoding.errors)
    file.seek(encoding.mark_bytes)
    newlines = returns = 0
    is_last = False

    def line(before: str) -> int:
        # Only files of old Macs have no line feed.
        return (newlines + before.count("\n") or returns + before.count("\r")) + 1

    while not is_last:
        block = file.read(BLOCK_BYTES)
        is_last = not block
        try:
            text = decoder.decode(block, final=is_last)
        except UnicodeDecodeError as error:
            number = line(error.object[: error.start].decode(encoding.codec, "ignore"))
            raise NotTextError(
                f"is not valid {encoding.name} at line {number:,} (byte 0x{error.object[error.start]:02x}); "
                "state its encoding, or save it as UTF-8 and upload it again",
                number,
            ) from error
        if "\0" in text:
            number = line(text.partition("\0")[0])
            raise NotTextError(
                f"holds a NUL character at line {number:,}, which text never has; export it again", number
            )
        newlines += text.count("\n")
        returns += text.count("\r")
        yield text


def _check(file: BinaryIO, encoding: TextEncoding) -> None:
    """Raises NotTextError if not all of the file is text in the encoding."""
    for _ in decoded(file, encoding):
        pass


def _is_all_utf8(file: BinaryIO, mark_bytes: int, is_utf8: Callable[[bytes], bool]) -> bool:
    """Returns whether all bytes behind the marks are UTF-8. Raises NotTextError for NUL."""
    file.seek(mark_bytes)
    rest = b""
    while block := file.read(BLOCK_BYTES):
        if b"\0" in block:
            # All bytes before it count for the line.
            _check(file, TextEncoding("latin-1", "latin-1"))
        block = rest + block
        cut = len(block) - _open_bytes(block)
        rest = block[cut:]
        if not block.isascii() and not is_utf8(block[:cut]):
            return False
    return not rest


def _open_bytes(block: bytes) -> int:
    """Returns how many bytes at the end begin a character of UTF-8 that the block does not end."""
    for count, byte in enumerate(reversed(block[-3:]), start=1):
        if byte < 0x80:
            return 0
        if byte >= 0xC0:
            return count if count < 2 + (byte >= 0xE0) + (byte >= 0xF0) else 0
    return 0


def _stated(head: bytes, stated: str) -> TextEncoding:
    name = codecs.lookup(stated).name
    marked = _marked(head)
    if marked and name in (marked.name, marked.codec):
        return marked
    if name == "utf-8-sig":
        return UTF8
    if name in ("utf-16", "utf-32"):
        seen = _by_zero_bytes(head)
        order = seen.codec if seen and seen.codec.startswith(name) else f"{name}-le"
        return TextEncoding(name, order)
    doubt = (
        f"The file was read as {name}, as stated, but it begins with the mark of {marked.codec}." if marked else None
    )
    return TextEncoding(name, name, doubt=doubt)


def _marked(head: bytes) -> TextEncoding | None:
    for mark, codec, name in MARKS:
        if head.startswith(mark):
            # Programs that join files, or mark a file that has a mark, leave two.
            count = 2 if head.startswith(mark * 2) else 1
            return TextEncoding(name, codec, count * len(mark))
    return None


def _by_zero_bytes(head: bytes) -> TextEncoding | None:
    """Returns UTF-32 or UTF-16 if the zero bytes are where these have them."""
    head = head[:PATTERN_BYTES]
    if b"\0" not in head:
        return None
    zeros = [_zero_share(head[start::4]) for start in range(4)]
    if len(head) >= 8 and min(zeros[2:]) > 0.9 and zeros[0] < 0.1:
        return TextEncoding("utf-32-le", "utf-32-le")
    if len(head) >= 8 and min(zeros[:2]) > 0.9 and zeros[3] < 0.1:
        return TextEncoding("utf-32-be", "utf-32-be")
    even, odd = _zero_share(head[::2]), _zero_share(head[1::2])
    for codec, zero, other in (("utf-16-le", odd, even), ("utf-16-be", even, odd)):
        if len(head) >= 4 and other < 0.05 and (zero > 0.4 or (zero > 0.05 and _is_table(head, codec))):
            return TextEncoding(codec, codec)
    return None


def _zero_share(part: bytes) -> float:
    return part.count(0) / max(1, len(part))


def _is_table(head: bytes, codec: str) -> bool:
    """Returns whether text of few ASCII letters, such as Chinese, has delimiters and line ends in a UTF-16 codec."""
    try:
        text, _ = getattr(codecs, codec.replace("-", "_") + "_decode")(head, "strict", False)
    except UnicodeDecodeError:
        return False
    return "\n" in text and any(mark in text for mark in ',;\t|"')


def _is_binary(head: bytes) -> bool:
    controls = len(head) - len(head.translate(None, CONTROL_CHARACTERS))
    return controls > 8 + BINARY_SHARE * len(head)


def _of_words(file: BinaryIO) -> TextEncoding:
    """Returns the encoding of text that is not UTF-8.

    Raises NotTextError that names the first line that the likeliest encodings lack.
    """
    lines = _sample(file)
    faulty = [line for line in lines if not is_utf8(line)]
    if len(lines) - len(faulty) >= MIXED_SHARE * len(lines):
        return _mixed(file, faulty)
    failure: NotTextError | None = None
    for guess in guess_encodings(lines):
        encoding = _guessed(guess)
        try:
            _check(file, encoding)
        except NotTextError as error:
            failure = failure or error
        else:
            return encoding
    raise failure or NotTextError("is not text; save it as UTF-8 and upload it again")


def _guessed(guess: Guess) -> TextEncoding:
    name = codecs.lookup(guess.codec).name
    reason = f"because its words look {guess.language}" if guess.language else "but few of its words fit"
    rival = f" {_label(guess.rival)} fits nearly as well." if guess.rival else ""
    return TextEncoding(
        name,
        guess.codec,
        errors="strict" if guess.codec in MULTIBYTE else _with_fallback("latin-1"),
        doubt=f"The file is not UTF-8; it was read as {_label(guess.codec)} {reason}.{rival} "
        "State the encoding if letters look wrong.",
    )


def _label(codec: str) -> str:
    name = codecs.lookup(codec).name
    return f"{LABELS[name]} ({name})" if name in LABELS else name


def _mixed(file: BinaryIO, faulty: list[bytes]) -> TextEncoding:
    """Returns UTF-8 with another encoding for the bytes that are not UTF-8: files are joined, or were cut off."""
    other = next((guess.codec for guess in guess_encodings(faulty) if guess.codec not in MULTIBYTE), "cp1252")
    line = None
    try:
        _check(file, UTF8)
    except NotTextError as error:
        line = error.line
    mixed = TextEncoding(
        "utf-8",
        "utf-8",
        errors=_with_fallback(other),
        doubt=f"The file is UTF-8, but not in all lines; line {line:,} is the first. "
        f"Bytes that are not UTF-8 were read as {_label(other)}. Save all of it as UTF-8 if letters look wrong.",
    )
    _check(file, mixed)
    return mixed


def _with_fallback(codec: str) -> str:
    """Registers an error handler that decodes a byte in another codec, or else in Latin-1, and returns its name."""
    handler = f"shared.files.{codec}"

    def decode(error: UnicodeError) -> tuple[str, int]:
        if not isinstance(error, UnicodeDecodeError):
            raise error
        faulty = error.object[error.start : error.end]
        try:
            return faulty.decode(codec), error.end
        except UnicodeDecodeError:
            return faulty.decode("latin-1"), error.end

    codecs.register_error(handler, decode)
    return handler


def _sample(file: BinaryIO) -> list[bytes]:
    """Returns lines with bytes outside ASCII: many from the beginning, and some from every block of the file."""
    lines: list[bytes] = []
    size = position = 0
    file.seek(0)
    while (block := file.read(BLOCK_BYTES)) and size < SAMPLE_BYTES:
        if not block.isascii():
            few = LINES_OF_BLOCK if lines else None
            for line in islice(_lines_outside_ascii(block, is_first=position == 0), few):
                lines.append(line)
                size += len(line)
                if few is None and size > BEGINNING_BYTES:
                    break
        position += len(block)
    return lines


def _lines_outside_ascii(block: bytes, *, is_first: bool) -> Iterator[bytes]:
    """Yields lines, except those that the block cuts off; where there is no other, yields what it has of one."""
    first_end = _LINE_END.search(block)
    position = first_end.end() if first_end and not is_first else 0
    last = max(block.rfind(b"\n"), block.rfind(b"\r")) + 1
    stop = last if last > position else len(block)
    while found := _NOT_ASCII.search(block, position, stop):
        first = found.start()
        earliest = max(position, first - SAMPLED_LINE_BYTES // 2)
        start = max(earliest, *(block.rfind(end, earliest, first) + 1 for end in (b"\n", b"\r")))
        end = _LINE_END.search(block, first, stop)
        position = end.start() if end else stop
        line = block[start:position]
        if len(line) > SAMPLED_LINE_BYTES:
            line = line[:SAMPLED_LINE_BYTES]
            # Between fields, so that no letter of several bytes is cut.
            line = line[: max(map(line.rfind, (b",", b";", b"\t", b" "))) + 1] or line
        yield line
