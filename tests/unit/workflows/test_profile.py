"""Profiles of good files: types over the whole file, nulls, distinct values and ranges."""

import csv
import gzip
import io
import json
import math
import re
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from functions.workflows.connector_scan.profile import ColumnProfile, FileProfile, profile_file
from shared.files.column_types import ColumnType
from shared.files.formats import FileFormat
from shared.files.readers import scan_frame
from shared.models.missing_values import MISSING, MISSING_WORDS
from shared.models.reading import WarningCode


def profile_of(folder: Path, content: str | bytes, name: str = "data.csv") -> FileProfile:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return profile_file(path)


def column(profile: FileProfile, name: str) -> ColumnProfile:
    return next(column for column in profile.columns if column.name == name)


def types(profile: FileProfile) -> dict[str, str]:
    return {column.name: column.type.value for column in profile.columns}


def test_each_kind_of_column_is_recognised(tmp_path: Path) -> None:
    profile = profile_of(
        tmp_path,
        "id,income,active,opened,seen,city\n"
        '1,10.5,true,2024-01-31,2024-01-31T10:00:00Z,"Turin, Italy"\n'
        "2,,false,2023-12-01,2024-02-01T10:00:00+02:00,Lyon\n"
        "3,-2e3,TRUE,,2024-02-02T10:00:00.250Z,Lyon\n",
    )
    assert profile == FileProfile(
        format=FileFormat.CSV,
        rows=3,
        columns=(
            ColumnProfile("id", ColumnType.INTEGER, nulls=0, distinct=3, minimum=1, maximum=3),
            ColumnProfile("income", ColumnType.FLOAT, nulls=1, distinct=2, minimum=-2000.0, maximum=10.5),
            ColumnProfile("active", ColumnType.BOOLEAN, nulls=0, distinct=2),
            ColumnProfile("opened", ColumnType.DATE, nulls=1, distinct=2, minimum="2023-12-01", maximum="2024-01-31"),
            ColumnProfile(
                "seen",
                ColumnType.DATETIME,
                nulls=0,
                distinct=3,
                minimum="2024-01-31T10:00:00Z",
                maximum="2024-02-02T10:00:00.250000Z",
            ),
            ColumnProfile("city", ColumnType.STRING, nulls=0, distinct=2),
        ),
    )


@pytest.mark.row("CN-4")
@pytest.mark.parametrize("name", ["data.csv", "data.jsonl"])
def test_integers_mixed_with_a_fraction_on_the_last_row_become_float(tmp_path: Path, name: str) -> None:
    values = [*map(str, range(60_000)), "1.5"]
    if name.endswith("csv"):
        content = "a,b\n" + "".join(f"{value},x\n" for value in values)
    else:
        content = "".join(f'{{"a": {value}, "b": "x"}}\n' for value in values)
    profile = profile_of(tmp_path, content, name)
    assert (profile.rows, types(profile)) == (60_001, {"a": "float", "b": "string"})
    assert (column(profile, "a").minimum, column(profile, "a").maximum) == (0.0, 59_999.0)
    assert scan_frame(tmp_path / name).select(pl.col("a").sum()).collect().item() == sum(range(60_000)) + 1.5


@pytest.mark.parametrize(
    ("early", "late", "expected"),
    [
        ("1", "x", "string"),
        ("1", "NA", "int"),
        ("1.5", "NaN", "float"),
        ("true", "no idea", "string"),
        ("true", "NULL", "boolean"),
        ("2024-01-01", "soon", "string"),
        ("2024-01-01", "NULL", "date"),
        ("", "7", "int"),
        ("", "2024-02-30", "string"),
        ("1", "7 ", "int"),
        ("05/01/2024", "31/01/2024", "date"),
        ("05/01/2024", "05/02/2024", "string"),
    ],
)
def test_a_value_far_behind_the_sample_still_decides_the_type(
    tmp_path: Path, early: str, late: str, expected: str
) -> None:
    content = "a,n\n" + "".join(f"{early},{row}\n" for row in range(20_000)) + f"{late},20000\n"
    profile = profile_of(tmp_path, content)
    assert types(profile) == {"a": expected, "n": "int"}
    assert column(profile, "a").nulls == (20_000 if not early else 0) + (late in MISSING)


@pytest.mark.parametrize(
    ("content", "expected", "rows"),
    [
        ("a;b\n1,5;x\n2,25;y\n", {"a": "float", "b": "string"}, 2),
        ("a\tb\n1\tx\n", {"a": "int", "b": "string"}, 1),
        ("a|b\n1|x\n", {"a": "int", "b": "string"}, 1),
        ('a,b\n1,"two\nlines"\n2,"with ""quotes"", and comma"\n', {"a": "int", "b": "string"}, 2),
        ("a,b\r\n1,x\r\n2,y\r\n", {"a": "int", "b": "string"}, 2),
        ("a,b\r1,x\r2,y\r", {"a": "int", "b": "string"}, 2),
        ("\n\na,b\n1,x\n\n2,y\n\n\n", {"a": "int", "b": "string"}, 2),
        ('"a\nb",b\n1,x\n', {"a b": "int", "b": "string"}, 1),
        ('a,b\n1,5" pipe\n2,6" pipe\n', {"a": "int", "b": "string"}, 2),
        ("only\n1\n\n2\n", {"only": "int"}, 2),
        ("name,age\n", {"name": "string", "age": "string"}, 0),
        ("name,age", {"name": "string", "age": "string"}, 0),
        ("id,id,,id_2\n1,2,3,4\n", {"id": "int", "id_3": "int", "column_3": "int", "id_2": "int"}, 1),
        ("12,north,0.5\n13,south,0.7\n", {"column_1": "int", "column_2": "string", "column_3": "float"}, 2),
        ('name 0,name 1\n"a,b",1\n', {"name 0": "string", "name 1": "int"}, 1),
        ("name 0,name 1\n1, 7 \n", {"name 0": "int", "name 1": "int"}, 1),
        ("country,2020\nIT,Rome\n", {"country": "string", "2020": "string"}, 1),
        ("a,b\n99999999999999999999,1\n1,2\n", {"a": "string", "b": "int"}, 2),
    ],
)
def test_a_dialect_is_understood(tmp_path: Path, content: str, expected: dict[str, str], rows: int) -> None:
    profile = profile_of(tmp_path, content)
    assert (types(profile), profile.rows) == (expected, rows)
    assert list(tmp_path.iterdir()) == [tmp_path / "data.csv"], "decoded copies are removed"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252", "latin-1"])
@pytest.mark.parametrize("is_compressed", [False, True])
def test_an_encoding_is_recognised(tmp_path: Path, encoding: str, is_compressed: bool) -> None:
    text = "città,età\n" + "Forlì,41\n" * 3 + "Cantù,52\n"
    content = text.encode(encoding)
    profile = profile_of(tmp_path, gzip.compress(content) if is_compressed else content)
    assert types(profile) == {"città": "string", "età": "int"}
    frame = scan_frame(tmp_path / "data.csv", scratch=tmp_path).collect()
    assert frame["città"].to_list() == ["Forlì"] * 3 + ["Cantù"]


def test_a_letter_outside_utf8_far_behind_the_sample_is_read(tmp_path: Path) -> None:
    content = b"a,b\n" + b"1,plain\n" * 30_000 + "2,Köln €\n".encode("cp1252")
    profile = profile_of(tmp_path, content)
    assert (profile.rows, types(profile)) == (30_001, {"a": "int", "b": "string"})
    assert "Köln €" in scan_frame(tmp_path / "data.csv").select(pl.col("b").unique()).collect()["b"].to_list()


def test_parquet_types_become_the_basic_ones(tmp_path: Path) -> None:
    moment = datetime(2024, 1, 1, 12, tzinfo=UTC)
    frame = pl.DataFrame(
        {
            "small": pl.Series([1, 2, None], dtype=pl.Int8),
            "price": [Decimal("1.50"), Decimal("2.25"), None],
            "ratio": [0.5, math.nan, math.inf],
            "kind": pl.Series(["a", "b", "a"], dtype=pl.Categorical),
            "tags": [["x"], [], None],
            "at": [moment, moment + timedelta(hours=1), None],
            "day": [date(2024, 1, 1), None, None],
            "clock": [time(1), None, None],
            "raw": [b"\xff", b"\x00", None],
        }
    )
    frame.write_parquet(tmp_path / "data.parquet")
    profile = profile_file(tmp_path / "data.parquet")
    assert types(profile) == {
        "small": "int",
        "price": "float",
        "ratio": "float",
        "kind": "string",
        "tags": "string",
        "at": "datetime",
        "day": "date",
        "clock": "string",
        "raw": "string",
    }
    assert (profile.format, profile.rows) == (FileFormat.PARQUET, 3)
    assert column(profile, "small") == ColumnProfile("small", ColumnType.INTEGER, 1, 2, 1, 2)
    assert column(profile, "ratio") == ColumnProfile("ratio", ColumnType.FLOAT, 1, 2, 0.5, None)
    assert column(profile, "at").maximum == "2024-01-01T13:00:00Z"
    assert column(profile, "tags").nulls == 1


def test_json_lines_join_the_keys_of_all_lines(tmp_path: Path) -> None:
    lines = [
        {"id": 1, "day": "2024-01-01", "mixed": 1, "nested": {"a": [1]}},
        {"id": 2, "day": None, "mixed": "x", "nested": [1, {"b": None}]},
        {"late": True, "day": "2024-03-01"},
    ]
    content = "\n".join(json.dumps(line) for line in lines) + "\n\n"
    profile = profile_of(tmp_path, gzip.compress(content.encode()), "data.jsonl.gz")
    assert types(profile) == {"id": "int", "day": "date", "mixed": "string", "nested": "string", "late": "boolean"}
    assert (profile.format, profile.rows, column(profile, "late").nulls) == (FileFormat.JSON_LINES, 3, 2)
    assert column(profile, "day").maximum == "2024-03-01"


SPACES, INVISIBLE = " \t\u00a0\u2009\u202f", "\u200b\ufeff"
CELLS = st.one_of(
    st.sampled_from(
        [
            "",
            " ",
            "\u00a0",
            " NA",
            "NA",
            "true",
            "False",
            "0",
            "-0.5",
            "1e3",
            "2024-02-29",
            "2024-02-30",
            " 7 ",
            "a,b",
            'q"q',
            "x\ny",
        ]
    ),
    st.integers(-(10**6), 10**6).map(str),
    st.floats(allow_nan=False, allow_infinity=False, width=32).map(repr),
    st.text(st.characters(codec="utf-8", exclude_characters="\r\x00", exclude_categories=["Cs"]), max_size=8).filter(
        # A NaN equals nothing, not even in plain Python.
        lambda text: "nan" not in text.lower()
    ),
    st.sampled_from(["inf", "-Infinity"]),
)
HOMOGENEOUS = st.one_of(
    st.integers(-(10**12), 10**12).map(str),
    st.floats(allow_nan=False, allow_infinity=False, width=32).map(repr),
    st.dates(date(1000, 1, 1)).map(date.isoformat),
    st.booleans().map(str),
)


@st.composite
def tables(draw: st.DrawFn) -> list[list[str]]:
    rows = draw(st.integers(0, 6))
    columns = [
        draw(st.lists(draw(st.sampled_from([CELLS, HOMOGENEOUS])), min_size=rows, max_size=rows))
        for _ in range(draw(st.integers(2, 5)))
    ]
    return [list(row) for row in zip(*columns, strict=True)] if rows else []


def oracle(cells: list[str]) -> ColumnProfile:
    """Returns the same column by plain Python, cell after cell."""

    def number(text: str) -> float | None:
        try:
            return float(text) if "_" not in text and text.strip(" \t") == text.strip() else None
        except ValueError:
            return None

    def day(text: str) -> date | None:
        try:
            return date.fromisoformat(text) if len(text) == 10 and text[4] == "-" else None
        except ValueError:
            return None

    values = [text for cell in cells if (text := cell.strip(SPACES)) not in MISSING | MISSING_WORDS]
    nulls = len(cells) - len(values)
    are_numbers = bool(values) and all(number(text) is not None for text in values)
    is_whole = bool(values) and all(re.fullmatch(r"[-+]?[0-9]+", text) for text in values)
    # Digits with an E, leading zeros and many digits may be codes.
    is_bare = bool(values) and all(re.fullmatch(r"[-+]?[0-9]+(E[0-9]+)?", text, re.IGNORECASE) for text in values)
    has_codes = any(re.search(r"^[-+]?0[0-9]|^[-+]?[0-9]{16,}$|^\+[0-9]{7}", text) for text in values)
    if are_numbers and (has_codes or (is_bare and not is_whole)):
        texts = [cell for cell in cells if cell.strip(SPACES) not in MISSING]
        return ColumnProfile("c", ColumnType.STRING, len(cells) - len(texts), len(set(texts)))
    if is_whole:
        whole = [int(text) for text in values]
        return ColumnProfile("c", ColumnType.INTEGER, nulls, len(set(whole)), min(whole), max(whole))
    if are_numbers:
        numbers = {float(text) for text in values}
        ends = [end if math.isfinite(end) else None for end in (min(numbers), max(numbers))]
        return ColumnProfile("c", ColumnType.FLOAT, nulls, len(numbers), *ends)
    if values and all(text.lower() in ("true", "false") for text in values):
        return ColumnProfile("c", ColumnType.BOOLEAN, nulls, len({text.lower() for text in values}))
    if values and all(day(text) for text in values):
        return ColumnProfile("c", ColumnType.DATE, nulls, len(set(values)), min(values), max(values))
    texts = [cell for cell in cells if cell.strip(SPACES) not in MISSING]
    return ColumnProfile("c", ColumnType.STRING, len(cells) - len(texts), len(set(texts)))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    table=tables(),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    delimiter=st.sampled_from([",", ";", "\t"]),
)
def test_what_the_csv_module_writes_is_profiled_like_plain_python(
    tmp_path: Path, table: list[list[str]], quoting: int, delimiter: str
) -> None:
    width = len(table[0]) if table else 2
    header = [f"name {position}" for position in range(width)]
    target = io.StringIO()
    writer = csv.writer(target, quoting=quoting, delimiter=delimiter, lineterminator="\n")  # type: ignore[arg-type]
    writer.writerows([header, *table])
    profile = profile_of(tmp_path, target.getvalue().encode())
    strips = [column.type is not ColumnType.STRING for column in profile.columns]
    kept = [
        row
        for row in table
        if any(
            cell.strip(SPACES + (INVISIBLE if strip else "")) not in MISSING
            for cell, strip in zip(row, strips, strict=True)
        )
    ]
    # Words above numbers in each column of numbers are reported as a second header.
    if any(warning.code is WarningCode.LINES_SKIPPED for warning in profile.notes.warnings):
        kept = kept[1:]
        assert len(kept) >= 3
    assert profile.rows == len(kept)
    for position, found in enumerate(profile.columns):
        expected = oracle([row[position] for row in kept])
        assert (found.type, found.nulls, found.distinct) == (expected.type, expected.nulls, expected.distinct)
        assert (found.minimum, found.maximum) == (expected.minimum, expected.maximum)
