"""Text in common encodings becomes the same UTF-8, with a doubt where the encoding is only likely."""

import codecs
import gzip
import io
import time
from collections.abc import Callable
from encodings.aliases import aliases
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.files import encodings, formats
from shared.files.column_names import clean_name
from shared.files.encodings import NotTextError, decoded, find_encoding
from shared.files.errors import UnreadableFileError
from shared.files.formats import FileFormat, PlainFile, to_plain_file
from shared.files.limits import ReadLimits
from shared.models.reading import ReadOptions, check_encoding
from tests.unit.files.tables import CASES, table_in

TEXT = "città,età\nForlì,41\nCantù,52\n"


def plain(folder: Path, content: bytes, name: str = "data.csv", encoding: str | None = None) -> PlainFile:
    source, scratch = folder / name, folder / "scratch"
    source.write_bytes(content)
    scratch.mkdir(exist_ok=True)
    found = to_plain_file(source, scratch, encoding=encoding)
    assert found.is_copy == (found.path.parent == scratch)
    assert list(scratch.iterdir()) == ([found.path] if found.is_copy else []), "no other copy is left"
    return found


def refusal(folder: Path, content: bytes, name: str = "data.csv", encoding: str | None = None) -> str:
    with pytest.raises(UnreadableFileError) as refused:
        plain(folder, content, name, encoding)
    assert not list((folder / "scratch").iterdir()), "no copy is left"
    return str(refused.value)


@pytest.mark.row("FL-3")
@pytest.mark.parametrize(("rows", "share"), [(5, 1), (5, 0.6), (100, 0.1), (3000, 1)])
@pytest.mark.parametrize(("language", "encoding"), CASES)
def test_the_words_show_the_encoding(tmp_path: Path, language: str, encoding: str, rows: int, share: float) -> None:
    for seed in range(3 if rows < 1000 else 1):
        text = table_in(language, rows, share=share, seed=seed)
        found = plain(tmp_path, text.encode(encoding))
        assert found.path.read_text("utf-8") == text
        assert found.encoding != "utf-8"
        assert "State the encoding" in (found.encoding_doubt or "")
        found.path.unlink()


@pytest.mark.row("FL-3")
@pytest.mark.parametrize("is_compressed", [False, True])
@pytest.mark.parametrize(
    ("mark", "codec", "detected"),
    [
        (b"", "utf-8", "utf-8"),
        (codecs.BOM_UTF8, "utf-8", "utf-8-sig"),
        (codecs.BOM_UTF8 * 2, "utf-8", "utf-8-sig"),
        (codecs.BOM_UTF16_LE, "utf-16-le", "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16-be", "utf-16"),
        (codecs.BOM_UTF32_LE, "utf-32-le", "utf-32"),
        (codecs.BOM_UTF32_BE, "utf-32-be", "utf-32"),
        (codecs.BOM_UTF16_LE * 2, "utf-16-le", "utf-16"),
        (b"", "utf-16-le", "utf-16-le"),
        (b"", "utf-16-be", "utf-16-be"),
        (b"", "utf-32-le", "utf-32-le"),
        (b"", "utf-32-be", "utf-32-be"),
    ],
)
def test_marks_and_zero_bytes_show_unicode(
    tmp_path: Path, mark: bytes, codec: str, detected: str, is_compressed: bool
) -> None:
    content = mark + TEXT.encode(codec)
    found = plain(tmp_path, gzip.compress(content) if is_compressed else content)
    assert found.path.read_bytes() == TEXT.encode()
    assert (found.encoding, found.encoding_doubt, found.format) == (detected, None, FileFormat.CSV)
    assert found.is_copy == (is_compressed or detected != "utf-8")


@pytest.mark.parametrize("language", ["Chinese (simplified)", "Japanese", "Russian", "Greek"])
@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_unicode_without_a_mark_needs_no_western_letters(tmp_path: Path, language: str, codec: str) -> None:
    text = table_in(language, 5)
    assert plain(tmp_path, text.encode(codec)).path.read_text("utf-8") == text


@pytest.mark.parametrize(
    ("encoding", "codec"),
    [("shift_jis", "shift_jis"), ("UTF-16", "utf-16-be"), ("cp500", "cp500"), ("utf-8", "utf-8-sig"), ("gbk", "gbk")],
)
def test_a_stated_encoding_is_used(tmp_path: Path, encoding: str, codec: str) -> None:
    text = table_in("Japanese", 5) if codec in ("shift_jis", "gbk") else "a,b\n1,x\n"
    found = plain(tmp_path, text.encode(codec), encoding=encoding)
    assert (found.path.read_text("utf-8"), found.encoding_doubt) == (text, None)


@pytest.mark.parametrize("name", ["utf_7", "punycode", "idna", "unicode_escape", "raw_unicode_escape", "zip", "x"])
def test_codecs_that_files_never_have_can_not_be_stated(name: str) -> None:
    with pytest.raises(ValidationError, match="is not an encoding of text"):
        ReadOptions(encoding=name)


@given(st.sampled_from(sorted(set(aliases.values()))), st.binary(max_size=80))
@settings(max_examples=500, deadline=None)
def test_no_encoding_that_can_be_stated_crashes_a_reader(name: str, content: bytes) -> None:
    try:
        stated = check_encoding(name)
    except ValueError:
        return
    try:
        found = find_encoding(io.BytesIO(content), stated)
    except NotTextError:
        return
    assert "".join(decoded(io.BytesIO(content), found)).encode() is not None


def test_a_stated_encoding_wins_over_a_mark_with_a_warning(tmp_path: Path) -> None:
    found = plain(tmp_path, codecs.BOM_UTF8 + b"a\n1\n", encoding="cp1252")
    assert found.path.read_text("utf-8") == "ï»¿a\n1\n"
    assert "as stated" in (found.encoding_doubt or "")


@pytest.mark.row("FL-3")
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(("encoding", "faulty"), [("utf-8", b"K\xf6ln"), ("cp1252", b"\x81"), ("shift_jis", b"\xfd")])
def test_a_byte_that_a_stated_encoding_lacks_is_refused_with_its_line(
    tmp_path: Path, encoding: str, faulty: bytes, line_end: str
) -> None:
    content = ("a,b\n" + "1,x\n" * 300_000).encode() + b"2," + faulty + b"\n3,y\n"
    message = refusal(tmp_path, content.replace(b"\n", line_end.encode()), encoding=encoding)
    assert "at line 300,002" in message
    assert "state its encoding" in message


@pytest.mark.row("FL-3")
@pytest.mark.parametrize("codec", ["utf-8", "cp1252", "utf-16"])
def test_nul_is_refused_with_its_line(tmp_path: Path, codec: str) -> None:
    content = ("a,b\n" + "1,é\n" * 400_000 + "1,x\0y\n").encode(codec)
    assert "NUL character at line 400,002" in refusal(tmp_path, content)


def test_a_cut_off_utf_16_file_is_refused(tmp_path: Path) -> None:
    assert "is not valid utf-16 at line 3" in refusal(tmp_path, TEXT.encode("utf-16")[:-1])


def test_utf_8_with_other_lines_is_read_in_both_with_the_first_line(tmp_path: Path) -> None:
    good = table_in("German", 200)
    found = plain(tmp_path, good.encode() + "201,Köln,Fürth,new,1\n".encode("cp1252"))
    assert found.path.read_text("utf-8") == good + "201,Köln,Fürth,new,1\n"
    assert "line 202 is the first" in (found.encoding_doubt or "")


def test_a_letter_outside_utf_8_far_behind_the_beginning_counts(tmp_path: Path) -> None:
    text = "a,b\n" + "1,plain\n" * 400_000 + "2,Łódź\n3,Żywiec\n"
    found = plain(tmp_path, text.encode("cp1250"))
    assert (found.path.read_text("utf-8"), found.encoding) == (text, "cp1250")


def test_a_damaged_letter_of_a_known_encoding_is_refused_with_its_line(tmp_path: Path) -> None:
    content = table_in("Chinese (simplified)", 50).encode("gb18030") + b"51,\xd6,x,new,1\n"
    assert "is not valid gb18030 at line 52" in refusal(tmp_path, content)


def test_a_language_that_no_candidate_knows_is_left_to_the_library(tmp_path: Path) -> None:
    text = "ชื่อ,เมือง\n" + "สมชาย ใจดี,กรุงเทพ\nสมหญิง รักไทย,เชียงใหม่\nวิชัย มีสุข,ภูเก็ต\n" * 10
    found = plain(tmp_path, text.encode("cp874"))
    assert (found.path.read_text("utf-8"), found.encoding) == (text, "cp874")


def test_text_that_grows_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_bytes("a,b\n".encode("utf-16") + "1,深圳\n".encode("utf-16-le") * 200_000)
    with pytest.raises(UnreadableFileError, match="As UTF-8, the file takes more than 1 MiB"):
        to_plain_file(tmp_path / "data.csv", tmp_path, limits=ReadLimits(decoded_bytes=1 << 20))
    assert [path.name for path in tmp_path.iterdir()] == ["data.csv"]


@pytest.mark.parametrize("rows", [100, 5_000])
def test_the_guess_takes_bounded_time(rows: int) -> None:
    lines = [("é" * 2000 + f",{row},ä{row}b" * 300).encode("cp1252") for row in range(rows)]
    content = io.BytesIO(b"\n".join(lines))
    begun = time.perf_counter()
    find_encoding(content)
    assert time.perf_counter() - begun < 5


@pytest.mark.parametrize("check", [encodings.is_utf8, formats.is_utf8])
@given(
    text=st.text(min_size=1, max_size=60),
    block=st.integers(1, 7),
    position=st.integers(0, 80),
    faulty=st.sampled_from([b"\x80", b"\xc3", b"\xf0\x9f\x98", b"\xf5", b""]),
)
@example(text="é", block=1, position=1, faulty=b"")
@example(text="\U0001f600", block=3, position=80, faulty=b"")
@settings(max_examples=300, deadline=None)
def test_the_check_of_utf_8_is_that_of_python_wherever_blocks_end(
    check: Callable[[bytes], bool], text: str, block: int, position: int, faulty: bytes
) -> None:
    raw = text.encode("utf-8", "surrogatepass").replace(b"\0", b"")
    content = raw[:position] + faulty + raw[position:]
    try:
        content.decode()
        expected = True
    except UnicodeDecodeError:
        expected = False
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encodings, "BLOCK_BYTES", block)
        assert encodings._is_all_utf8(io.BytesIO(content), 0, check) == expected


@given(st.binary(max_size=300), st.integers(1, 9))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_decoded_or_refused(content: bytes, block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encodings, "BLOCK_BYTES", block * 40)
        try:
            found = find_encoding(io.BytesIO(content))
        except NotTextError:
            return
        text = "".join(decoded(io.BytesIO(content), found))
    assert text.encode().decode() == text
    assert "\0" not in text


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("\ufeffid", "id"),
        ("cust\u200bomer", "customer"),
        ("\u200e amount\u200f ", "amount"),
        ("first\nname", "first name"),
        ("na\u00adme\x00", "name"),
        ("città 東京", "città 東京"),
        ("\u200b", ""),
    ],
)
def test_names_of_columns_have_no_invisible_characters(name: str, expected: str) -> None:
    assert clean_name(name) == expected
