"""Types and formats that the owner states hold in every format. What does not fit is missing, with a warning."""

import json
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from shared.files.notes import ReadNotes
from shared.files.readers import opened
from shared.models.reading import ReadOptions, WarningCode

pytestmark = pytest.mark.row("FL-11")

# More than the rows of a sample.
MANY = 11_000
Write = Callable[[Path, list[Any]], Path]


def write_csv(folder: Path, values: list[Any]) -> Path:
    path = folder / "data.csv"
    path.write_text("id;v\n" + "".join(f"1;{'' if value is None else value}\n" for value in values))
    return path


def write_json(folder: Path, values: list[Any]) -> Path:
    path = folder / "data.jsonl"
    path.write_text("".join(json.dumps({"id": 1, "v": value}) + "\n" for value in values))
    return path


def write_parquet(folder: Path, values: list[Any]) -> Path:
    path = folder / "data.parquet"
    pl.DataFrame({"id": [1] * len(values), "v": values}).write_parquet(path)
    return path


FORMATS = pytest.mark.parametrize("write", [write_csv, write_json, write_parquet])


def read(path: Path, **options: Any) -> tuple[pl.DataFrame, ReadNotes]:
    with opened(path, options=ReadOptions.model_validate(options)) as source:
        return source.collect(lambda frame: frame), source.notes


@FORMATS
@pytest.mark.parametrize(
    ("texts", "options", "expected"),
    [
        (["12", "7", None], {"types": {"v": "int"}}, [12, 7, None]),
        (["2.0", "3.0"], {"types": {"v": "int"}}, [2, 3]),
        (["1.234", "5.678.901"], {"types": {"v": "int"}}, [1234, 5_678_901]),
        (["007", "8"], {"types": {"v": "int"}}, [7, 8]),
        (["12", "1.5"], {"types": {"v": "float"}}, [12.0, 1.5]),
        (["1.234,50", "7,5"], {"types": {"v": "float"}}, [1234.5, 7.5]),
        (["1,234", "5,678"], {"types": {"v": "float"}, "decimal": ","}, [1.234, 5.678]),
        (["1", "0"], {"types": {"v": "boolean"}}, [True, False]),
        (["31.01.2024", "05.02.2024"], {"types": {"v": "date"}}, [date(2024, 1, 31), date(2024, 2, 5)]),
        (["20240131"], {"date_formats": {"v": "%Y%m%d"}}, [date(2024, 1, 31)]),
        (["310124"], {"date_formats": {"v": "%d%m%y"}}, [date(2024, 1, 31)]),
        (["31-2024-01"], {"date_formats": {"v": "%d-%Y-%m"}}, [date(2024, 1, 31)]),
        (
            ["2024-01-31 10:30:00.5"],
            {"date_formats": {"v": "%Y-%m-%d %H:%M:%S.%f"}},
            [datetime.fromisoformat("2024-01-31T10:30:00.5")],
        ),
        (
            ["2024-01-31T10:30:00+0200"],
            {"date_formats": {"v": "%Y-%m-%dT%H:%M:%S%z"}},
            [datetime.fromisoformat("2024-01-31T08:30")],
        ),
        (["2024-01-31"], {"types": {"v": "datetime"}}, [datetime.fromisoformat("2024-01-31")]),
        (["2024-01-31 00:00:00"], {"types": {"v": "date"}}, [date(2024, 1, 31)]),
        (["12", "1.5"], {"types": {"v": "string"}}, ["12", "1.5"]),
    ],
)
def test_text_is_read_as_its_owner_states_in_every_format(
    tmp_path: Path, write: Write, texts: list[str | None], options: dict[str, Any], expected: list[Any]
) -> None:
    frame, notes = read(write(tmp_path, texts), **options)
    assert frame["v"].to_list() == expected
    assert not [warning for warning in notes.warnings if warning.code is not WarningCode.DATE_FORMAT]


@FORMATS
@pytest.mark.parametrize(
    ("kind", "texts", "expected"),
    [
        ("date", ["31.01.2024", "05.02.2024", "soon"], [date(2024, 1, 31), date(2024, 2, 5), None]),
        ("float", ["1.234,50", "7,5", "soon"], [1234.5, 7.5, None]),
        ("int", ["12", "7", "soon"], [12, 7, None]),
        ("boolean", ["1", "0", "soon"], [True, False, None]),
    ],
)
@pytest.mark.parametrize("repeat", [1, MANY], ids=["in the sample", "behind the sample"])
def test_values_that_do_not_fit_are_missing_and_the_first_is_named(
    tmp_path: Path, write: Write, kind: str, texts: list[str], expected: list[Any], repeat: int
) -> None:
    rows = texts[:1] * repeat + texts[1:]
    frame, notes = read(write(tmp_path, rows), types={"v": kind})
    assert frame["v"].to_list() == expected[:1] * repeat + expected[1:]
    (warning,) = notes.warnings
    assert (warning.code, warning.column) == (WarningCode.VALUE, "v")
    places = {write_csv: f"line {len(rows) + 1:,}", write_json: f"line {len(rows):,}"}
    place = next((found for each, found in places.items() if each is write), f"row {len(rows):,}")
    assert f"first in {place}: 'soon'" in warning.message


@pytest.mark.parametrize("write", [write_json, write_parquet])
@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([7, 8], "string", ["7", "8"]),
        ([True, False], "string", ["true", "false"]),
        ([7, 8], "float", [7.0, 8.0]),
        ([2.0, 3.0], "int", [2, 3]),
        ([1, 0], "boolean", [True, False]),
        ([12345678901234567, 3], "int", [12345678901234567, 3]),
    ],
)
def test_a_stated_type_replaces_the_type_that_the_format_states(
    tmp_path: Path, write: Write, values: list[Any], kind: str, expected: list[Any]
) -> None:
    frame, notes = read(write(tmp_path, values), types={"v": kind})
    assert frame["v"].to_list() == expected
    assert frame.schema["v"].is_numeric() == (kind in ("int", "float"))
    assert not notes.warnings


def test_a_format_that_is_stated_for_all_dates_is_tried_in_each_column(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("id,day,code\n1,20240131,20249999\n2,20240201,20240101\n")
    frame, _ = read(tmp_path / "data.csv", date_format="%Y%m%d")
    assert frame["day"].to_list() == [date(2024, 1, 31), date(2024, 2, 1)]
    assert frame["code"].to_list() == [20249999, 20240101]


def test_a_stated_order_of_day_and_month_holds_for_times_too(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("id,at\n1,05/06/2023 10:00\n")
    frame, _ = read(tmp_path / "data.csv", date_format="%d/%m/%Y")
    assert frame["at"].to_list() == [datetime.fromisoformat("2023-06-05T10:00")]


@FORMATS
def test_columns_that_the_file_does_not_have_are_named(tmp_path: Path, write: Write) -> None:
    _, notes = read(write(tmp_path, ["x"]), types={"w": "int"}, date_formats={"day": "%d/%m/%Y"})
    (warning,) = notes.warnings
    assert "'day', 'w'" in warning.message


@pytest.mark.parametrize(
    "form", ["%d/%m/%Y %I:%M", "%d/%m/%Y %M", "%d/%m/%Y %H", "%d/%m/%Y %H:%M:%S%f", "%d/%m", "%d/%m/%Y/%d"]
)
def test_a_format_that_leaves_a_moment_open_is_refused(form: str) -> None:
    with pytest.raises(ValueError, match="date_format"):
        ReadOptions(date_format=form)
