"""Tests of the file formats that users have."""

import csv
import io
import json
import tracemalloc
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functions.personas.files.columns import FileRow, PersonaRow, RefusedRow
from functions.personas.files.limits import DEFAULT_LIMITS, UploadLimits
from functions.personas.files.reader import open_persona_file
from shared.files.errors import UnreadableFileError
from shared.models.persona import PersonaCreate

HEADINGS = "name,birthdate,notes,city"
ADA = "Ada Lovelace,1815-12-10,Likes engines.,London"


def read(content: bytes, limits: UploadLimits = DEFAULT_LIMITS) -> list[FileRow]:
    return list(open_persona_file(io.BytesIO(content), limits).rows)


def only(content: bytes) -> dict[str, Any]:
    """Returns the one persona of a file, without its row number."""
    (row,) = read(content)
    assert isinstance(row, PersonaRow), row
    return row.persona.model_dump()


def reason(content: bytes) -> str:
    """Returns why the one row of a file is refused."""
    (row,) = read(content)
    assert isinstance(row, RefusedRow), row
    return row.reason


PERSON = {"name": "Ada Lovelace", "birthdate": "1815-12-10", "notes": "Likes engines.", "data": {"city": "London"}}


@pytest.mark.row("PE-3")
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_csv_is_read_with_any_delimiter_and_line_end(delimiter: str, line_end: str) -> None:
    content = f"{HEADINGS}\n{ADA}\n".replace(",", delimiter).replace("\n", line_end)
    assert only(content.encode()) == PERSON


@pytest.mark.parametrize(
    ("encoding", "detected"),
    [
        ("utf-8", "utf-8"),
        ("utf-8-sig", "utf-8-sig"),
        ("utf-16", "utf-16"),
        ("utf-32", "utf-32"),
        ("cp1252", "cp1252"),
    ],
)
def test_the_encoding_is_detected_from_the_content(encoding: str, detected: str) -> None:
    content = f"{HEADINGS}\nRenée “Zoë” Müller,1990-01-31,Süß,Köln\n".encode(encoding)
    opened = open_persona_file(io.BytesIO(content), DEFAULT_LIMITS)
    (row,) = opened.rows
    assert isinstance(row, PersonaRow)
    assert (row.persona.name, row.persona.data, opened.encoding) == ("Renée “Zoë” Müller", {"city": "Köln"}, detected)


def test_a_file_with_bytes_that_cp1252_lacks_is_read_as_latin_1() -> None:
    opened = open_persona_file(io.BytesIO(f"{HEADINGS}\n{ADA}\x81\xe9\n".encode("latin-1")), DEFAULT_LIMITS)
    (row,) = opened.rows
    assert isinstance(row, PersonaRow)
    assert (opened.encoding, row.persona.data) == ("cp1252", {"city": "London\x81é"})


@pytest.mark.row("FL-3")
@pytest.mark.parametrize(
    ("encoding", "detected", "mark"),
    [
        ("utf-8", "utf-8-sig", b"\xef\xbb\xbf" * 2),
        ("utf-16-be", "utf-16-be", b""),
        ("utf-32-le", "utf-32-le", b""),
        ("utf-32-be", "utf-32", b"\x00\x00\xfe\xff"),
        ("utf-16-le", "utf-16", b"\xff\xfe" * 2),
        ("cp1250", "cp1250", b""),
    ],
)
def test_encodings_are_those_of_the_scan(encoding: str, detected: str, mark: bytes) -> None:
    content = mark + f"{HEADINGS}\nŁucja Świątek,1990-01-31,Źródło,Łódź\n".encode(encoding)
    opened = open_persona_file(io.BytesIO(content), DEFAULT_LIMITS)
    (row,) = opened.rows
    assert isinstance(row, PersonaRow)
    assert (row.persona.name, row.persona.data, opened.encoding) == ("Łucja Świątek", {"city": "Łódź"}, detected)


@pytest.mark.parametrize("mark", [b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf"], ids=["UTF-16 LE", "UTF-16 BE", "UTF-8"])
def test_a_wrong_byte_order_mark_is_refused(mark: bytes) -> None:
    with pytest.raises(UnreadableFileError, match=r"is not valid|NUL"):
        read(mark + b"\xd8\x00\xd8\xff\xff")


def test_quoted_cells_may_contain_delimiters_quotes_and_line_breaks() -> None:
    content = f'{HEADINGS}\n"Lovelace, Ada",1815-12-10,"says ""hi""\nand goes",London\n'
    assert only(content.encode())["notes"] == 'says "hi"\nand goes'
    assert only(content.encode())["name"] == "Lovelace, Ada"


@pytest.mark.parametrize(
    "headings",
    ["Name,Birthdate,Notes", "Full Name,Date of birth,Comment", "FULL_NAME,date-of-birth,Note", " name , DOB , notes "],
)
def test_headings_are_recognised_by_their_meaning(headings: str) -> None:
    assert only(f"{headings}\nAda,1815-12-10,x\n".encode()) == {
        "name": "Ada",
        "birthdate": "1815-12-10",
        "notes": "x",
        "data": None,
    }


def test_the_exact_heading_wins_over_a_similar_one() -> None:
    assert only(b"full name,name,birthdate,notes\nx,Ada,1815-12-10,\n")["data"] == {"full name": "x"}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("full name,FULL-NAME,dob,notes\n", "same meaning"),
        ("name,birthdate,notes,city,city\n", "two columns called 'city'"),
        ("name,notes\n", "no column for birthdate"),
        ("hello\n", "no column for name and birthdate and notes"),
        ("\n\n", "is empty"),
        ('name,birthdate,notes\n"Ada"x,1815-12-10,\n', "line 2"),
        ('name,birthdate,notes\n"Ada,1815-12-10,\n', "not closed"),
    ],
)
def test_an_unreadable_file_is_refused_with_the_reason(content: str, complaint: str) -> None:
    with pytest.raises(UnreadableFileError, match=complaint):
        read(content.encode())


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        (",1815-12-10,x", "name: "),
        ("Ada,,x", "birthdate: must be a date such as 1990-12-31"),
        ("Ada,10.12.1815,x", "birthdate: "),
        ("Ada,1815-12-10,x,y,z", "has 5 cells"),
        ("Ada,1815-12-10," + "x" * 10_001, "notes: "),
        ("A\x01da,1815-12-10,x", "name: holds a control character"),
        ("Ada", "birthdate: "),
    ],
)
def test_an_unusable_row_is_refused_with_the_reason(row: str, complaint: str) -> None:
    assert reason(f"{HEADINGS}\n{row}\n".encode()).startswith(complaint)


def test_rows_have_the_numbers_of_a_spreadsheet() -> None:
    rows = read(f"\n{HEADINGS}\n{ADA}\n\n,,,\nsomebody\n".encode())
    assert [row.number for row in rows] == [3, 6]


def test_cells_that_look_like_formulas_stay_text() -> None:
    person = only(f'{HEADINGS},x,y\n"=1+1",1815-12-10,@SUM(A1),+1,-2,"=cmd|/C calc!A0"\n'.encode())
    assert person["name"] == "=1+1"
    assert person["notes"] == "@SUM(A1)"
    assert person["data"] == {"city": "+1", "x": "-2", "y": "=cmd|/C calc!A0"}


JSON_PERSON = {"name": "Ada Lovelace", "birthdate": "1815-12-10", "notes": "Likes engines.", "city": "London"}


@pytest.mark.row("PE-3")
@pytest.mark.parametrize(
    "text",
    [
        json.dumps([JSON_PERSON]),
        json.dumps([JSON_PERSON], indent=4),
        json.dumps({"personas": [JSON_PERSON]}),
        json.dumps({"personas": [JSON_PERSON], "source": {"system": "crm"}}, indent=2),
        json.dumps({"source": "crm", "personas": [JSON_PERSON]}),
        json.dumps(JSON_PERSON),
        "\n" + json.dumps(JSON_PERSON) + "\n\n",
        json.dumps([PERSON]),
        json.dumps([{**JSON_PERSON, "data": None}]),
    ],
)
def test_json_may_be_a_list_an_object_with_a_list_or_one_object_on_each_line(text: str) -> None:
    assert only(text.encode()) == PERSON
    assert only(text.encode("utf-16")) == PERSON


def test_json_lines_are_numbered() -> None:
    rows = read("\n".join(json.dumps(each) for each in (JSON_PERSON, {"name": "x"}, 7)).encode())
    assert [(row.number, type(row)) for row in rows] == [(1, PersonaRow), (2, RefusedRow), (3, RefusedRow)]


@pytest.mark.parametrize("text", ["[]", '{"personas": []}', " [ \n ] "])
def test_an_empty_list_has_no_rows(text: str) -> None:
    assert read(text.encode()) == []


@pytest.mark.parametrize(
    "text",
    ["[", "[{]", '[{"name": "Ada"}', "[{}{}]", "[{},]", "[{}] x", '{"personas": [{}]', '{"personas": [{}], "x"}', "{"],
)
def test_broken_json_is_refused(text: str) -> None:
    with pytest.raises(UnreadableFileError):
        read(text.encode())


@pytest.mark.parametrize("size", [10, 1_000, 70_000, 200_000])
def test_a_json_value_may_be_in_several_blocks(size: int) -> None:
    limits = UploadLimits(row_characters=210_000)
    people = [{**JSON_PERSON, "name": f"Person {number}", "city": "x" * size} for number in range(8)]
    for text in (json.dumps(people), "\n".join(map(json.dumps, people)), json.dumps({"personas": people})):
        assert len(read(text.encode(), limits)) == 8


def workbook(*rows: list[Any]) -> bytes:
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet()
    for row in rows:
        sheet.append(row)
    target = io.BytesIO()
    book.save(target)
    return target.getvalue()


# openpyxl does not write texts that start with = or # as texts.
WORDS = st.text(
    st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"], exclude_characters="=#"), max_size=20
)
PEOPLE = st.fixed_dictionaries(
    {
        "name": WORDS.map(str.strip).filter(bool),
        "birthdate": st.dates(date(1900, 1, 1), date(2020, 1, 1)).map(str),
        "notes": WORDS,
        "city": WORDS.filter(str.strip),
    }
)


@pytest.mark.row("PE-3")
@given(st.lists(PEOPLE, min_size=1, max_size=5))
@settings(max_examples=50)
def test_every_format_returns_the_written_people(people: list[dict[str, str]]) -> None:
    headings = ["name", "birthdate", "notes", "city"]
    cells = [[person[heading] for heading in headings] for person in people]
    table = io.StringIO()
    csv.writer(table).writerows([headings, *cells])
    files = (
        table.getvalue().encode(),
        json.dumps(people).encode(),
        "\n".join(json.dumps(person, ensure_ascii=False) for person in people).encode(),
        workbook(headings, *cells),
    )
    written = [PersonaCreate.model_validate({**person, "data": {"city": person["city"]}}) for person in people]
    for content in files:
        assert [row.persona for row in read(content) if isinstance(row, PersonaRow)] == written


NAMES = ["name", "birthdate", "notes", "value"]


@pytest.mark.row("PE-3")
@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("text", "text"),
        (3, 3),
        (2.5, 2.5),
        (True, True),
        (date(2020, 2, 29), "2020-02-29"),
        (datetime(2020, 2, 29, 12, 30), "2020-02-29T12:30:00"),  # noqa: DTZ001 - a workbook knows no time zones
        (timedelta(hours=30), "1 day, 6:00:00"),
    ],
)
def test_cells_of_a_workbook_keep_their_types(value: Any, kept: Any) -> None:
    person = only(workbook(NAMES, ["Ada", date(1990, 1, 31), 7.0, value]))
    assert person == {"name": "Ada", "birthdate": "1990-01-31", "notes": "7", "data": {"value": kept}}


def test_the_rows_of_a_workbook_may_begin_anywhere() -> None:
    rows = read(workbook([], ["", None], NAMES, [], ["Ada", "1990-01-31", "x"], ["Bob"]))
    assert [(row.number, type(row)) for row in rows] == [(5, PersonaRow), (6, RefusedRow)]


def test_the_first_visible_sheet_is_read() -> None:
    book = openpyxl.Workbook()
    for title in ("hidden", "shown", "other"):
        sheet = book.create_sheet(title)
        sheet.append(NAMES)
        sheet.append([title, "1990-01-31", "x"])
    del book["Sheet"]
    book["hidden"].sheet_state = "hidden"
    target = io.BytesIO()
    book.save(target)
    assert only(target.getvalue())["name"] == "shown"


def test_a_formula_without_a_value_is_refused() -> None:
    """Programs that do not calculate, such as openpyxl, write formulas without values."""
    assert "formula without a value" in reason(workbook(NAMES, ["Ada", "1990-01-31", "x", "=1+1"]))


def test_the_value_of_a_formula_is_read() -> None:
    content = replace_part(
        workbook(NAMES, ["Ada", "1990-01-31", "x", "=1+1"]), "xl/worksheets/sheet1.xml", b"<v></v>", b"<v>2</v>"
    )
    content = replace_part(content, "xl/worksheets/sheet1.xml", b"<v />", b"<v>2</v>")
    assert only(content)["data"] == {"value": 2}


def test_a_row_with_an_error_value_is_refused() -> None:
    rows = read(workbook(NAMES, ["Ada", "1990-01-31", "x", "#N/A"], ["Bob", "1990-01-31", "x", 1]))
    assert [type(row) for row in rows] == [RefusedRow, PersonaRow]


def replace_part(content: bytes, part: str, old: bytes, new: bytes) -> bytes:
    """Returns the zip with one part changed."""
    target = io.BytesIO()
    with ZipFile(io.BytesIO(content)) as source, ZipFile(target, "w", ZIP_DEFLATED) as copy:
        for name in source.namelist():
            data = source.read(name)
            copy.writestr(name, data.replace(old, new) if name == part else data)
    return target.getvalue()


@pytest.mark.row("X-17")
@pytest.mark.parametrize("form", ["csv", "json"])
def test_a_file_of_100_megabytes_is_read_in_little_memory(tmp_path: Path, form: str) -> None:
    notes = "x" * 9_900
    path = tmp_path / "people"
    with path.open("w") as file:
        file.write("name,birthdate,notes\n" if form == "csv" else "[")
        for number in range(10_200):
            person = {"name": f"Person {number}", "birthdate": "1990-01-31", "notes": notes}
            file.write(
                ",".join(person.values()) + "\n" if form == "csv" else f"{',' * bool(number)}{json.dumps(person)}"
            )
        file.write("" if form == "csv" else "]")
    assert path.stat().st_size > 100_000_000
    with path.open("rb") as content:
        tracemalloc.start()
        try:
            assert sum(isinstance(row, PersonaRow) for row in open_persona_file(content, DEFAULT_LIMITS).rows) == 10_200
            assert tracemalloc.get_traced_memory()[1] < 30 << 20
        finally:
            tracemalloc.stop()
