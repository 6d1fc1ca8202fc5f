"""Malicious and damaged files are refused with a reason, in little time and memory."""

import io
import json
import struct
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from zipfile import ZIP_DEFLATED, ZipFile

import openpyxl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from functions.personas.files.columns import FileRow, PersonaRow, RefusedRow
from functions.personas.files.limits import DEFAULT_LIMITS, UploadLimits
from functions.personas.files.reader import open_persona_file
from functions.personas.upload_store import row_line
from shared.files.errors import UnreadableFileError

HEADINGS = "name,birthdate,notes"
SHEET = "xl/worksheets/sheet1.xml"
STRINGS = "xl/sharedStrings.xml"
TYPES = "[Content_Types].xml"
SHARED_TEXTS = (
    b'<Override PartName="/xl/sharedStrings.xml" '
    b'ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.sharedStrings+xml"/>'
)


def rows(content: bytes, limits: UploadLimits = DEFAULT_LIMITS) -> Iterator[FileRow]:
    return open_persona_file(io.BytesIO(content), limits).rows


def complaint(content: bytes, limits: UploadLimits = DEFAULT_LIMITS) -> str:
    with pytest.raises(UnreadableFileError) as refused:
        for _ in rows(content, limits):
            pass
    return str(refused.value)


def workbook(**parts: bytes) -> bytes:
    """Returns a workbook of two rows, with parts replaced."""
    book = openpyxl.Workbook()
    for row in (["name", "birthdate", "notes"], ["Ada", "1815-12-10", "x"]):
        book.worksheets[0].append(row)
    plain = io.BytesIO()
    book.save(plain)
    target = io.BytesIO()
    with ZipFile(plain) as source, ZipFile(target, "w", ZIP_DEFLATED, compresslevel=9) as copy:
        known = {name: source.read(name) for name in source.namelist()}
        # openpyxl writes no shared texts.
        known[TYPES] = known[TYPES].replace(b"</Types>", SHARED_TEXTS + b"</Types>")
        for name, content in {STRINGS: b"<sst/>", **known, **parts}.items():
            copy.writestr(name, content)
    return target.getvalue()


def sheet(inner: str) -> bytes:
    namespace = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    return f'<worksheet xmlns="{namespace}"><sheetData>{inner}</sheetData></worksheet>'.encode()


@pytest.mark.parametrize(
    ("part", "limit"),
    [
        (SHEET, UploadLimits(sheet_bytes=50 << 20)),
        (STRINGS, UploadLimits(texts_bytes=50 << 20)),
        ("xl/styles.xml", UploadLimits()),
    ],
    ids=["sheet", "texts", "styles"],
)
def test_a_zip_bomb_is_refused_before_it_unpacks(part: str, limit: UploadLimits) -> None:
    bomb = workbook(**{part: b"<a>" + b" " * (60 << 20) + b"</a>"})
    assert len(bomb) < 200_000
    tracemalloc.start()
    try:
        assert "unpacks to more than" in complaint(bomb, limit)
        assert tracemalloc.get_traced_memory()[1] < 5 << 20
    finally:
        tracemalloc.stop()


def test_a_zip_bomb_with_a_false_size_unpacks_only_the_declared_size() -> None:
    content = bytearray(workbook(**{SHEET: sheet("") + b" " * (60 << 20)}))
    real, declared = struct.pack("<I", len(sheet("")) + (60 << 20)), struct.pack("<I", 300)
    assert content.count(real) == 2
    content = content.replace(real, declared)
    assert "is a broken workbook" in complaint(bytes(content), UploadLimits(sheet_bytes=1 << 20))


@pytest.mark.row("SE-5")
@pytest.mark.parametrize("cell", ["<c/>", "<c/><!--<row >-->"], ids=["cells", "comments that look like rows"])
def test_a_row_that_fills_the_memory_is_refused(cell: str) -> None:
    wide = sheet('<row r="1">' + cell * (2 << 20) + "</row>")
    assert "takes more than" in complaint(workbook(**{SHEET: wide}))


@pytest.mark.parametrize("part", [SHEET, STRINGS, "xl/workbook.xml", "xl/styles.xml", TYPES])
def test_entities_are_never_expanded(part: str) -> None:
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    bomb = f'<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY l0 "lol">{laughs}]><lolz>&l9;</lolz>'
    assert "EntitiesForbidden" in complaint(workbook(**{part: bomb.encode()}))
    outside = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><x>&f;</x>'
    assert "EntitiesForbidden" in complaint(workbook(**{part: outside.encode()}))


def test_a_huge_row_number_does_not_create_the_rows_before_it() -> None:
    cells = "".join(
        f'<c r="{column}{{row}}" t="inlineStr"><is><t>{text}</t></is></c>'
        for column, text in (("A", "name"), ("B", "birthdate"), ("C", "notes"))
    )
    inner = f'<row r="1">{cells.format(row=1)}</row><row r="2000000000">{cells.format(row=2)}</row>'
    (row,) = rows(workbook(**{SHEET: sheet(inner)}))
    assert row.number == 2_000_000_000


def test_a_cell_in_a_column_over_the_limit_is_refused() -> None:
    inner = '<row r="1"><c r="ZZZ1" t="inlineStr"><is><t>name</t></is></c></row>'
    assert "more than 100 columns" in complaint(workbook(**{SHEET: sheet(inner)}))


def test_a_truncated_workbook_is_refused() -> None:
    whole = workbook()
    for end in range(4, len(whole) - 1, 97):
        assert complaint(whole[:end])


def test_a_locked_or_old_workbook_is_refused_with_its_own_error() -> None:
    assert "without a password" in complaint(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500))


@pytest.mark.row("PE-3")
def test_two_hundred_columns_are_refused() -> None:
    headings = [*HEADINGS.split(","), *(f"c{number}" for number in range(197))]
    assert complaint(",".join(headings).encode()).startswith("has more than 100 columns")
    book = openpyxl.Workbook(write_only=True)
    book.create_sheet().append(headings)
    target = io.BytesIO()
    book.save(target)
    assert complaint(target.getvalue()).startswith("has more than 100 columns")
    assert complaint(",".join(headings[:100]).encode() + b"\nAda\n", UploadLimits(rows=0)).startswith(
        "has more than the 0"
    )


def test_a_file_with_a_million_rows_is_refused_at_the_first_row_over_the_limit() -> None:
    content = io.BytesIO((HEADINGS + "\n" + "Ada,1815-12-10,x\n" * 1_000_000).encode())
    found = open_persona_file(content, DEFAULT_LIMITS).rows
    assert sum(1 for _ in islice(found, 100_000)) == 100_000
    with pytest.raises(UnreadableFileError, match=r"has more than the 100,000 rows"):
        next(found)


def test_the_time_limit_is_also_checked_at_blank_lines() -> None:
    class TooLateError(Exception):
        pass

    checks = 0

    def check_time() -> None:
        nonlocal checks
        checks += 1
        if checks == 1000:
            raise TooLateError

    content = io.BytesIO(HEADINGS.encode() + b"\n" * 1_000_000)
    with pytest.raises(TooLateError):
        list(open_persona_file(content, DEFAULT_LIMITS, check_time).rows)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_nul_character_is_refused(encoding: str) -> None:
    assert "NUL" in complaint(f"{HEADINGS}\nA\0da,1815-12-10,x\n".encode(encoding))


@pytest.mark.parametrize(
    "text",
    [
        "[" * 500_000,
        '{"a":' * 500_000,
        '[{"name":"x","data":' + "[" * 500_000,
        '{"personas": ' + "[" * 500_000,
    ],
)
def test_deeply_nested_json_is_refused(text: str) -> None:
    assert complaint(text.encode())


def test_a_row_with_json_nested_too_deeply_is_refused() -> None:
    person = {"name": "Ada", "birthdate": "1815-12-10", "notes": "", "data": json.loads("[" * 50 + "]" * 50)}
    (row,) = rows(json.dumps([person]).encode())
    assert isinstance(row, RefusedRow)
    assert "nested" in row.reason


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "9" * 40, "1e200"])
def test_a_row_with_a_number_that_cannot_be_stored_is_refused(number: str) -> None:
    (row,) = rows(f'[{{"name": "Ada", "birthdate": "1815-12-10", "notes": "", "x": {number}}}]'.encode())
    assert isinstance(row, RefusedRow)
    assert "number" in row.reason


def test_a_number_of_ten_thousand_digits_is_refused() -> None:
    assert "too many digits" in complaint(b'[{"x": ' + b"9" * 10_000 + b"}]")


@pytest.mark.parametrize(
    "content",
    [
        b"x" * (3 << 20),
        f'{HEADINGS}\n"'.encode() + b"x\n" * (1 << 20),
        b'[{"name": "' + b"x" * (8 << 20) + b'"}]',
        b'{"name": "' + b"x" * (8 << 20),
    ],
    ids=["line", "quote", "JSON text", "open JSON text"],
)
def test_an_endless_row_is_refused(content: bytes) -> None:
    message = complaint(content)
    assert "more than 1,048,576 characters" in message or "look for a quote that is not closed" in message


def test_many_different_keys_need_little_memory() -> None:
    people = (json.dumps({f"{'k' * 1000}{number}": 1}) for number in range(5_000))
    content = "\n".join(people).encode()
    tracemalloc.start()
    try:
        assert all(isinstance(row, RefusedRow) for row in rows(content))
        assert tracemalloc.get_traced_memory()[1] < 30 << 20
    finally:
        tracemalloc.stop()


def check_any(content: bytes) -> None:
    """Checks that any content gives rows or an UnreadableFileError."""
    with suppress(UnreadableFileError):
        for row in rows(content, UploadLimits(row_characters=5_000, rows=500)):
            if isinstance(row, PersonaRow):
                row_line(row.persona)
            else:
                assert row.reason


@given(st.binary(max_size=400))
@example(b"\xff\xfe\x00\x00")
@example(b"\xff\xfe[")
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    check_any(content)


@given(st.text(max_size=300), st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]))
@settings(max_examples=200, deadline=None)
def test_any_table_is_read_or_refused(text: str, encoding: str) -> None:
    check_any(f"{HEADINGS}\n{text}".encode(encoding, "replace"))


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["name", "Full name", "dob", "notes", "data", "personas", ""]) | st.text(), inner
        )
    ),
    max_leaves=15,
)


@given(JSON_VALUES, st.integers(0, 40))
@settings(max_examples=300, deadline=None)
def test_any_json_is_read_or_refused(value: object, cut: int) -> None:
    text = json.dumps(value)
    for content in (text, f"[{text}]", f"{text}\n{text}", f'{{"personas": [{text}]}}', text[: len(text) - cut]):
        check_any(content.encode())


WORKBOOK = workbook()


@given(st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_damaged_workbook_is_read_or_refused(data: st.DataObject) -> None:
    damaged = bytearray(WORKBOOK)
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(4, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    check_any(bytes(damaged))


XML = st.text(st.sampled_from('<>/="&; rcvft0129AZsheetData#!-N'), max_size=120)
ATTRIBUTES = st.sampled_from(
    ["", 't="s"', 't="d"', 't="b"', 't="e"', 't="inlineStr"', 's="1"', 's="9"', 'r="0"', 'r="x"']
)


@given(st.lists(st.tuples(ATTRIBUTES, st.text("0123456789.-eTZ:#", max_size=12)), max_size=6), XML)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_sheet_is_read_or_refused(cells: list[tuple[str, str]], junk: str) -> None:
    inner = "<row>" + "".join(f"<c {attributes}><v>{value}</v></c>" for attributes, value in cells) + "</row>"
    check_any(workbook(**{SHEET: sheet(inner + inner)}))
    check_any(workbook(**{SHEET: sheet(junk)}))
