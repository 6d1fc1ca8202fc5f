"""Recognises content that is not CSV, Parquet or JSON Lines under any name, and states what its owner can do."""

import re
from dataclasses import dataclass
from pathlib import Path

from shared.files.errors import UnreadableFileError

UPLOAD = "export its data as CSV, Parquet or JSON Lines, and upload that"
UNPACK = "unpack it and upload the files in it; gzip is allowed"
SAVE_SHEET = "save the sheet as CSV (UTF-8) and upload that"
# A zip lists its parts at its end.
ZIP_LIST_BYTES = 1 << 20


@dataclass(frozen=True)
class _Kind:
    """A kind of file with its first bytes, from `offset` on."""

    magic: bytes
    words: str
    remedy: str = UPLOAD
    offset: int = 0
    # These first bytes may also begin a line of text. In a file of this kind, others that text never has follow.
    may_be_text: bool = False


KINDS = (
    _Kind(b"\x1f\x8b", "compressed with gzip twice", "compress it once and upload it again"),
    _Kind(b"BZh", "compressed with bzip2", UNPACK, may_be_text=True),
    _Kind(b"\xfd7zXZ\x00", "compressed with xz", UNPACK),
    _Kind(b"\x28\xb5\x2f\xfd", "compressed with Zstandard", UNPACK),
    _Kind(b"\x04\x22\x4d\x18", "compressed with LZ4", UNPACK),
    _Kind(b"\xff\x06\x00\x00sNaPpY", "compressed with Snappy", UNPACK),
    _Kind(b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", UNPACK),
    _Kind(b"Rar!\x1a\x07", "a RAR archive", UNPACK),
    _Kind(b"ustar", "a tar archive", UNPACK, offset=257, may_be_text=True),
    _Kind(
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        "an old Excel workbook (.xls) or another old Office file, or is protected by a password",
        SAVE_SHEET,
    ),
    _Kind(b"%PDF-", "a PDF document"),
    _Kind(b"{\\rtf", "a document in Rich Text Format (RTF)"),
    _Kind(b"\x89PNG\r\n\x1a\n", "a PNG image"),
    _Kind(b"\xff\xd8\xff", "a JPEG image"),
    _Kind(b"GIF87a", "a GIF image", may_be_text=True),
    _Kind(b"GIF89a", "a GIF image", may_be_text=True),
    _Kind(b"II*\x00", "a TIFF image"),
    _Kind(b"MM\x00*", "a TIFF image"),
    _Kind(b"BM", "a BMP image", may_be_text=True),
    _Kind(b"WEBP", "a WebP image", offset=8, may_be_text=True),
    _Kind(b"ftyp", "a HEIC image or a video", offset=4, may_be_text=True),
    _Kind(b"Obj\x01", "an Avro file"),
    _Kind(b"ORC", "an ORC file", may_be_text=True),
    _Kind(b"ARROW1\x00\x00", "an Arrow (Feather) file"),
    _Kind(b"FEA1", "an old Feather file", may_be_text=True),
    _Kind(b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    _Kind(b"\x93NUMPY", "a NumPy array"),
    _Kind(b"SQLite format 3\x00", "an SQLite database"),
    _Kind(b"\x00\x01\x00\x00Standard ", "an Access database"),
    _Kind(b"$FL2", "an SPSS file", may_be_text=True),
    _Kind(b"$FL3", "a compressed SPSS file", may_be_text=True),
    _Kind(b"<stata_dta>", "a Stata file"),
    _Kind(b"HEADER RECORD*******LIB", "a SAS transport file"),
    _Kind(bytes(12) + b"\xc2\xea\x81\x60", "a SAS file"),
    _Kind(
        b"\x00\x05\x16\x07",
        "what macOS keeps about another file (its name begins with ._), not data",
        "upload the file without ._ before its name",
    ),
    _Kind(b"RDX2\n", "an R file"),
    _Kind(b"RDX3\n", "an R file"),
    _Kind(b"-----BEGIN PGP MESSAGE", "encrypted (PGP)", "decrypt it and upload it again"),
)
# Markup is recognised after decoding, without regard to capitals. A CSV header may begin with <DATE>.
MARKUP = (
    (re.compile(rb"<!doctype html|<(?:html|head|body|table|script|meta)\b"), "an HTML page, not a file of data"),
    (re.compile(rb"<\?xml|<!doctype|<svg\b"), "an XML document"),
)
_PICKLE = re.compile(rb"\x80[\x02-\x05](?:\x95|[}\](c\x8c])")
_NOT_IN_TEXT = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
ZIPS = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
ZIP_PARTS = (
    (b"xl/workbook.", "an Excel workbook", SAVE_SHEET),
    (b"opendocument.spreadsheet", "an OpenDocument spreadsheet", SAVE_SHEET),
    # Where the parts were zipped anew, the kind of document is not among the first bytes.
    (b"META-INF/manifest.xml", "an OpenDocument spreadsheet or another document of that kind", SAVE_SHEET),
    (b"Index/Document.iwa", "a Numbers or Pages document", UPLOAD),
    (b"word/document.xml", "a Word document", UPLOAD),
    (b"ppt/presentation.xml", "a PowerPoint presentation", UPLOAD),
)


def refuse_foreign(path: Path, head: bytes) -> None:
    """Raises UnreadableFileError for a binary file of another kind, by its first bytes; it may have any name."""
    for kind in KINDS:
        if head.startswith(kind.magic, kind.offset) and not (kind.may_be_text and looks_like_text(head)):
            raise _refusal(kind.words, kind.remedy)
    if _PICKLE.match(head):
        raise _refusal("a Python pickle, which can hold programs and is never opened", UPLOAD)
    if head.startswith(ZIPS):
        raise _refusal(*_kind_of_zip(path, head))


def refuse_markup(text: bytes) -> None:
    """Raises UnreadableFileError for HTML and XML, by the beginning in UTF-8."""
    beginning = text[:1000].lstrip().lower()
    for pattern, words in MARKUP:
        if pattern.match(beginning):
            raise _refusal(words, UPLOAD)


def _refusal(words: str, remedy: str) -> UnreadableFileError:
    return UnreadableFileError(f"The file is {words}; {remedy}.")


def looks_like_text(head: bytes) -> bool:
    """Returns whether the first bytes hold no character that only binary files have."""
    return not _NOT_IN_TEXT.search(head[:4096])


def _kind_of_zip(path: Path, head: bytes) -> tuple[str, str]:
    """Returns the words for a zip and the remedy, by the names of its parts."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - ZIP_LIST_BYTES))
        names = head + file.read()
    for part, words, remedy in ZIP_PARTS:
        if part in names:
            return words, remedy
    return "a ZIP archive", UNPACK
