"""Content that is not CSV, Parquet or JSON Lines is refused for what it is; what is one of them is read as that."""

import bz2
import gzip
import io
import json
import lzma
import pickle
import sqlite3
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal
from zipfile import ZipFile

import openpyxl
import polars as pl
import pytest

from shared.files.errors import UnreadableFileError
from shared.files.formats import FileFormat, to_plain_file

TABLE = b"id,name\n1,Ada\n2,Grace\n"
NAMES = ["data.csv", "data.jsonl", "data.parquet", "data.txt", "data"]


def plain_format(folder: Path, content: bytes, name: str) -> FileFormat:
    (folder / name).write_bytes(content)
    (folder / "scratch").mkdir(exist_ok=True)
    return to_plain_file(folder / name, folder / "scratch").format


def tar(mode: Literal["w", "w:gz"]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode=mode) as archive:
        entry = tarfile.TarInfo("data.csv")
        entry.size = len(TABLE)
        archive.addfile(entry, io.BytesIO(TABLE))
    return target.getvalue()


def zipped(name: str, content: bytes = TABLE) -> bytes:
    target = io.BytesIO()
    with ZipFile(target, "w") as archive:
        archive.writestr("[Content_Types].xml", b"<Types/>" * 1000)
        archive.writestr(name, content)
    return target.getvalue()


def workbook() -> bytes:
    book = openpyxl.Workbook()
    book.worksheets[0].append(["id", "name"])
    target = io.BytesIO()
    book.save(target)
    return target.getvalue()


def database() -> bytes:
    with sqlite3.connect(":memory:") as connection:
        connection.execute("create table t (a)")
        return connection.serialize()


def written(write: Callable[[pl.DataFrame, io.BytesIO], object]) -> bytes:
    target = io.BytesIO()
    write(pl.DataFrame({"a": [1, 2]}), target)
    return target.getvalue()


SAVE, UNPACK, EXPORT = "save the sheet as CSV", "unpack it and upload the files in it", "export its data as CSV"
FOREIGN: dict[str, tuple[bytes, str, str]] = {
    "tar": (tar("w"), "a tar archive", UNPACK),
    "tar.gz": (tar("w:gz"), "a tar archive", UNPACK),
    "zip": (zipped("data.csv"), "a ZIP archive", UNPACK),
    "empty zip": (b"PK\x05\x06" + bytes(18), "a ZIP archive", UNPACK),
    "xlsx": (workbook(), "an Excel workbook", SAVE),
    "xlsx in gzip": (gzip.compress(workbook()), "an Excel workbook", SAVE),
    "ods": (zipped("mimetype", b"application/vnd.oasis.opendocument.spreadsheet"), "an OpenDocument spreadsheet", SAVE),
    "docx": (zipped("word/document.xml"), "a Word document", EXPORT),
    "xls": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500), "an old Excel workbook", SAVE),
    "avro": (b"Obj\x01\x04\x14avro.codec\x08null\x16avro.schema", "an Avro file", EXPORT),
    "orc": (b"ORC\n\x1d\n\x03\x00\x12" + bytes(40) + b"\x08\x03ORC\x17", "an ORC file", EXPORT),
    "pdf": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<<>>\nendobj\n", "a PDF document", EXPORT),
    "pdf of text": (b"%PDF-1.4\n1 0 obj\n<</Type/Catalog>>\nendobj\n", "a PDF document", EXPORT),
    "png": (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "a PNG image", EXPORT),
    "jpeg": (b"\xff\xd8\xff\xe0\x00\x10JFIF\x00", "a JPEG image", EXPORT),
    "gif": (b"GIF89a\x01\x00\x01\x00\x80\x00\x00", "a GIF image", EXPORT),
    "tiff": (b"II*\x00\x08\x00\x00\x00", "a TIFF image", EXPORT),
    "html": (b"\n<!DOCTYPE html>\n<html><body><table>", "an HTML page", EXPORT),
    "html of a report": (b"<html xmlns:x='excel'><table><tr><td>1</td></tr></table></html>", "an HTML page", EXPORT),
    "html in UTF-16": ("<HTML><body>1</body></HTML>".encode("utf-16"), "an HTML page", EXPORT),
    "xml": (b'\xef\xbb\xbf<?xml version="1.0"?>\n<rows><row/></rows>', "an XML document", EXPORT),
    "rtf": (b"{\\rtf1\\ansi hello}", "Rich Text Format", EXPORT),
    "sqlite": (database(), "an SQLite database", EXPORT),
    "bzip2": (bz2.compress(TABLE), "compressed with bzip2", UNPACK),
    "xz": (lzma.compress(TABLE), "compressed with xz", UNPACK),
    "zstd": (b"\x28\xb5\x2f\xfd\x24\x00\x01\x00\x00", "compressed with Zstandard", UNPACK),
    "7z": (b"7z\xbc\xaf\x27\x1c\x00\x04", "a 7-Zip archive", UNPACK),
    "rar": (b"Rar!\x1a\x07\x01\x00", "a RAR archive", UNPACK),
    "arrow": (written(lambda frame, file: frame.write_ipc(file)), "an Arrow (Feather) file", EXPORT),
    "pickle": (pickle.dumps({"a": [1]}, protocol=4), "a Python pickle", EXPORT),
    "pickle of version 2": (pickle.dumps([1, 2], protocol=2), "a Python pickle", EXPORT),
    "sas": (bytes(12) + b"\xc2\xea\x81\x60\xb3\x14\x11\xcf\xbd\x92", "a SAS file", EXPORT),
    "spss": (b"$FL2@(#) SPSS DATA FILE\x02\x00\x00\x00", "an SPSS file", EXPORT),
    "stata": (b"<stata_dta><header><release>118</release>", "a Stata file", EXPORT),
    "hdf5": (b"\x89HDF\r\n\x1a\n\x00", "an HDF5 file", EXPORT),
    "gzip twice": (gzip.compress(gzip.compress(TABLE)), "compressed with gzip twice", "compress it once"),
    "noise": (bytes(range(256)) * 100, "is binary, not text", "upload CSV"),
}


@pytest.mark.row("FL-3")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", FOREIGN)
def test_another_kind_is_refused_for_what_it_is_under_any_name(tmp_path: Path, kind: str, name: str) -> None:
    content, words, remedy = FOREIGN[kind]
    with pytest.raises(UnreadableFileError) as refused:
        plain_format(tmp_path, content, name)
    assert words in str(refused.value)
    assert remedy in str(refused.value)
    assert not list((tmp_path / "scratch").iterdir())


@pytest.mark.row("FL-3")
@pytest.mark.parametrize("name", ["data.parquet", "data.csv", "data.jsonl", "data.txt", "data"])
@pytest.mark.parametrize("is_compressed", [False, True])
def test_parquet_is_parquet_under_any_name(tmp_path: Path, name: str, is_compressed: bool) -> None:
    content = written(lambda frame, file: frame.write_parquet(file))
    assert plain_format(tmp_path, gzip.compress(content) if is_compressed else content, name) is FileFormat.PARQUET


@pytest.mark.row("FL-3")
@pytest.mark.parametrize("name", ["data.jsonl", "data.json", "data.csv", "data.txt", "data.log", "data"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp1252"])
def test_json_lines_are_known_by_their_content(tmp_path: Path, name: str, encoding: str) -> None:
    content = '\n \n{"name": "Zoë", "tags": [1, {"a": 2}]}\n{"name": "René"}\n'.encode(encoding)
    assert plain_format(tmp_path, content, name) is FileFormat.JSON_LINES


ROWS = [{"id": row, "name": f"Person {row}", "tags": [1, 2]} for row in range(30_000)]


@pytest.mark.row("FL-3")
@pytest.mark.parametrize("name", ["data.jsonl", "data.json", "data.csv", "data"])
@pytest.mark.parametrize(
    ("text", "words"),
    [
        (json.dumps(ROWS[:3]), "a JSON array"),
        (json.dumps(ROWS), "a JSON array"),
        (json.dumps(ROWS[:3], indent=2), "a JSON array"),
        ("\n".join(json.dumps(list(row.values())) for row in ROWS[:3]), "a JSON array"),
        ("[\n" + ",\n".join(json.dumps(row) for row in ROWS) + "\n]", "a JSON array"),
        (json.dumps(ROWS[0], indent=4), "a JSON object over several lines"),
        (json.dumps({"rows": ROWS}, indent=1), "a JSON object over several lines"),
        ('{"rows": [\n' + ",\n".join(json.dumps(row) for row in ROWS[:3]) + "\n]}", "a JSON object over several lines"),
        ('{\r\n  "id": 1\r\n}\r\n', "a JSON object over several lines"),
    ],
)
def test_other_json_is_refused_with_what_to_do(tmp_path: Path, text: str, words: str, name: str) -> None:
    with pytest.raises(UnreadableFileError, match=r"on (each|one) line \(JSON Lines\)") as refused:
        plain_format(tmp_path, text.encode(), name)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    "content",
    [
        b"<DATE>,<TIME>,<OPEN>\n2024.01.01,10:00,1.5\n",
        b"[id],[name]\n1,Ada\n",
        b"{id},{name}\n1,Ada\n",
        b'{"a": 1},x\n{"a": 2},y\n',
        b"ORC,BM\n1,2\n",
        b"PAR1,PAR2\n1,2\n",
        b"BZh,GIF89a\n1,2\n",
        b"$FL2,price\n1,2\n",
        b"MM,II\n1,2\n",
        b"PK,name\n1,Ada\n",
        b"name,x\n" + b"a" * 249 + b",ustar\n",
        b"x\n",
    ],
)
def test_a_header_that_looks_like_another_kind_is_csv(tmp_path: Path, content: bytes) -> None:
    assert plain_format(tmp_path, content, "data.csv") is FileFormat.CSV
