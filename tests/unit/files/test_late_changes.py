"""What only the last row of a long file shows holds for the whole file, for a scan and for a job."""

import json
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from functions.workflows.connector_scan.profile import profile_file
from shared.files.notes import ReadNotes
from shared.files.readers import opened
from shared.models.reading import WarningCode

# More than the rows of a sample.
MANY = 11_000


def collected(path: Path) -> tuple[pl.DataFrame, ReadNotes]:
    """Reads a file as jobs do: all of its columns in one query, without a look at them before."""
    with opened(path) as source:
        return source.collect(lambda frame: frame), source.notes


def as_csv(folder: Path, *texts: str) -> Path:
    path = folder / "data.csv"
    path.write_text("id;v\n" + "".join(f"1;{text}\n" for text in texts))
    return path


def as_json(folder: Path, *texts: str) -> Path:
    path = folder / "data.jsonl"
    path.write_text("".join(json.dumps({"id": 1, "v": text}) + "\n" for text in texts))
    return path


@pytest.mark.row("FL-2")
@pytest.mark.parametrize(
    ("usual", "last", "expected"),
    [
        ("2", "x", ["2", "x"]),
        ("2", " 7 ", [2, 7]),
        ("2", "1.5", [2.0, 1.5]),
        ("2", "1.234,50", [2.0, 1234.5]),
        ("2", "007", ["2", "007"]),
        ("2", "12345678901234567", ["2", "12345678901234567"]),
        ("2.5", "x", ["2.5", "x"]),
        ("2.5", "1,5", ["2.5", "1,5"]),
        ("1.234,50", "x", ["1.234,50", "x"]),
        ("true", "maybe", ["true", "maybe"]),
        ("2024-01-31", "soon", ["2024-01-31", "soon"]),
        ("2024-01-31", "15.03.22", ["2024-01-31", "15.03.22"]),
        ("2024-01-31", "15-03-22", ["2024-01-31", "15-03-22"]),
        ("31.01.2024", "01.31.2024", ["31.01.2024", "01.31.2024"]),
        ("05/06/2024", "13/06/2024", [date(2024, 6, 5), date(2024, 6, 13)]),
        ("2024-01-31 10:00:00", "soon", ["2024-01-31 10:00:00", "soon"]),
    ],
)
def test_a_type_that_the_last_row_of_a_text_refutes_is_not_kept(
    tmp_path: Path, usual: str, last: str, expected: list[Any]
) -> None:
    path = as_csv(tmp_path, *[usual] * MANY, last)
    frame, _ = collected(path)
    assert frame["v"].to_list() == [*[expected[0]] * MANY, expected[1]]
    assert profile_file(path).rows == MANY + 1


@pytest.mark.row("FL-8")
@pytest.mark.parametrize("last", ["soon", "15-03-22"])
def test_a_date_that_the_last_line_of_json_refutes_is_not_kept(tmp_path: Path, last: str) -> None:
    frame, _ = collected(as_json(tmp_path, *["2024-01-31"] * MANY, last))
    assert frame["v"].to_list() == [*["2024-01-31"] * MANY, last]


@pytest.mark.row("FL-6")
@pytest.mark.parametrize("write", [as_csv, as_json])
@pytest.mark.parametrize("mark", ["-", "/", "."])
def test_a_day_at_the_start_of_a_date_is_no_year(tmp_path: Path, write: Callable[..., Path], mark: str) -> None:
    frame, notes = collected(write(tmp_path, f"15{mark}03{mark}22", f"31{mark}03{mark}22"))
    assert frame["v"].to_list() == [date(2022, 3, 15), date(2022, 3, 31)]
    (warning,) = notes.warnings
    assert "two-digit years" in warning.message


@pytest.mark.row("FL-6")
@pytest.mark.parametrize("write", [as_csv, as_json])
def test_years_before_1000_are_reported_with_their_line(tmp_path: Path, write: Callable[..., Path]) -> None:
    frame, notes = collected(write(tmp_path, "2024-01-31", "0024-01-31"))
    assert frame["v"].to_list() == [date(2024, 1, 31), date(24, 1, 31)]
    (warning,) = notes.warnings
    assert (warning.code, warning.line) == (WarningCode.VALUE, 3 if write is as_csv else 2)


@pytest.mark.row("FL-6", "FL-8")
def test_years_of_parquet_that_have_no_four_digits_are_reported_and_missing(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    days = pl.Series("day", [3_000_000, -800_000, -600_000, 0], dtype=pl.Int32).cast(pl.Date)
    pl.DataFrame({"day": days, "at": days.cast(pl.Datetime("us"))}).write_parquet(path)
    frame, notes = collected(path)
    assert frame["day"].to_list() == [None, None, date(327, 4, 5), date(1970, 1, 1)]
    assert [warning.message.split(",")[0] for warning in notes.warnings] == [
        f"{text} of the column '{name}' are before the year {year}"
        for name in ("day", "at")
        for text, year in (("2 dates", "1 or after 9999 and were read as missing"), ("1 dates", "1000"))
    ]
    assert [column.minimum for column in profile_file(path).columns] == ["0327-04-05", "0327-04-05T00:00:00Z"]


@pytest.mark.row("FL-8")
@pytest.mark.parametrize(
    ("usual", "last", "columns"),
    [
        ({"a": 1, "b": "x", "c": None}, '{"a": 1, "a": 2, "b": "y"}', ["a", "b", "c", "a_2"]),
        ({"a": 1, "b": 'x: "y": 2'}, '{"a": 1, "b": "y", "b": "z"}', ["a", "b", "b_2"]),
        ({"a": 1, "b": {"a": 2}}, '{"a": 1, "b": {"a": 2}, "a": 3}', ["a", "b", "a_2"]),
        ({"a": 1, "b": {"a": 2}}, '{"a": 1, "b": {"a": 2, "a": 3}}', ["a", "b"]),
    ],
)
def test_a_name_that_the_last_line_repeats_is_found(
    tmp_path: Path, usual: dict[str, Any], last: str, columns: list[str]
) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(f"{json.dumps(usual)}\n" * MANY + f"{last}\n")
    frame, notes = collected(path)
    assert frame.columns == columns
    assert [(warning.code, warning.line) for warning in notes.warnings] == [(WarningCode.COLUMN_NAME, MANY + 1)]
    if columns == ["a", "b"]:
        assert json.loads(frame["b"][-1]) == {"a": 2, "a_2": 3}


@pytest.mark.row("FL-8")
def test_equal_names_in_nested_objects_are_no_repetition(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text('{"a": 1, "b": {"a": 2}}\n' * MANY)
    frame, notes = collected(path)
    assert frame.columns == ["a", "b"]
    assert not notes.warnings


@pytest.mark.row("FL-4")
@pytest.mark.parametrize("text", [" 7", "7 ", "\t7", "\u00a07", " 7\u202f"])
@pytest.mark.parametrize("repeat", [1, MANY], ids=["in the sample", "behind the sample"])
def test_blanks_around_a_whole_number_do_not_hide_it(tmp_path: Path, text: str, repeat: int) -> None:
    frame, notes = collected(as_csv(tmp_path, *["2"] * repeat, text))
    assert frame["v"].to_list() == [*[2] * repeat, 7]
    assert not notes.warnings


@pytest.mark.row("FL-2")
def test_a_few_values_of_which_one_is_no_number_are_reported(tmp_path: Path) -> None:
    _, notes = collected(as_csv(tmp_path, "2", "#DIV/0!", "7"))
    assert [(warning.code, warning.line) for warning in notes.warnings] == [(WarningCode.MIXED_TYPES, 3)]


@pytest.mark.row("FL-5")
def test_decimals_of_more_digits_than_a_number_has_keep_their_text(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    long, short = [Decimal("12345678901234567890.12"), Decimal("1.50")], [Decimal("12.50"), Decimal("1.50")]
    pl.DataFrame(
        {"long": long, "short": short}, schema={"long": pl.Decimal(38, 2), "short": pl.Decimal(38, 2)}
    ).write_parquet(path)
    frame, _ = collected(path)
    assert frame.to_dict(as_series=False) == {"long": ["12345678901234567890.12", "1.50"], "short": [12.5, 1.5]}
