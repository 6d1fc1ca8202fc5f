"""Options that the owner states decide how a file is read, and the warnings say what was done to it."""

from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from shared.files.errors import UnreadableFileError
from shared.files.notes import ReadNotes
from shared.files.readers import opened
from shared.models.reading import ReadOptions, WarningCode


def read(folder: Path, content: str, name: str = "data.csv", **options: Any) -> tuple[pl.DataFrame, ReadNotes]:
    path = folder / name
    path.write_bytes(content.encode())
    with opened(path, options=ReadOptions.model_validate(options)) as source:
        return source.collect(lambda frame: frame), source.notes


@pytest.mark.row("FL-11")
@pytest.mark.parametrize(
    ("content", "options", "expected"),
    [
        ("a!b\n1!x\n", {"delimiter": "!"}, {"a": [1], "b": ["x"]}),
        ("a,b\n1,%x,y%\n", {"quote": "%"}, {"a": [1], "b": ["x,y"]}),
        ('a,b\n1,"x\n', {"quote": ""}, {"a": [1], "b": ['"x']}),
        ('a,b\n1,"x~"y"\n', {"escape": "~"}, {"a": [1], "b": ['x"y']}),
        ("a,b\nc,d\n", {"header": False}, {"column_1": ["a", "c"], "column_2": ["b", "d"]}),
        ("1,2\n3,4\n", {"header": True}, {"1": [3], "2": [4]}),
        ("made by us\n\na,b\n1,2\n", {"skip_lines": 2}, {"a": [1], "b": [2]}),
        ("a;b\n1,234;x\n", {"decimal": ","}, {"a": [1.234], "b": ["x"]}),
        ("a;b\n1,234;x\n", {"thousands": ","}, {"a": [1234.0], "b": ["x"]}),
        ("a,b\n05/06/2023,x\n", {"date_format": "%d/%m/%Y"}, {"a": [date(2023, 6, 5)], "b": ["x"]}),
        ("a,b\n05/06/2023,x\n", {"date_formats": {"a": "%m/%d/%Y"}}, {"a": [date(2023, 5, 6)], "b": ["x"]}),
        ("a,b\n1,none\n-9,NA\n", {"nulls": ["-9"]}, {"a": [1, None], "b": ["none", "NA"]}),
        ("a,b\n1,2\n", {"types": {"a": "string"}}, {"a": ["1"], "b": [2]}),
        ("a,b\n007,2\n", {"types": {"a": "int", "b": "float"}}, {"a": [7], "b": [2.0]}),
    ],
)
def test_a_stated_option_is_not_guessed(
    tmp_path: Path, content: str, options: dict[str, Any], expected: dict[str, list[Any]]
) -> None:
    assert read(tmp_path, content, **options)[0].to_dict(as_series=False) == expected


def test_a_value_that_is_not_of_the_stated_type_is_missing_and_its_line_is_named(tmp_path: Path) -> None:
    frame, notes = read(tmp_path, "a,b\n1,x\ntwo,y\n", types={"a": "int"})
    (warning,) = notes.warnings
    assert frame["a"].to_list() == [1, None]
    assert (warning.code, warning.line, warning.column) == (WarningCode.VALUE, 3, "a")


@pytest.mark.row("FL-2")
def test_warnings_name_lines_of_the_file_as_it_was_sent(tmp_path: Path) -> None:
    rows = "".join(f'{number},"two\nlines"\n' for number in range(20))
    frame, notes = read(tmp_path, f"Customers\n\nid,note\n{rows}20\n21,{'x' * 5}\nabc,y\n")
    assert frame.height == 22
    assert [(warning.code, warning.line) for warning in notes.warnings] == [
        (WarningCode.LINES_SKIPPED, 1),
        (WarningCode.ROW_LEFT_OUT, 44),
        (WarningCode.MIXED_TYPES, 46),
    ]
    assert notes.affected_rows == 1


@pytest.mark.row("FL-2", "FL-11")
@pytest.mark.parametrize("odd", ["1\n", '1,"x"y"\n'], ids=["left out", "repaired"])
def test_a_file_with_more_odd_rows_than_its_owner_allows_is_refused_with_the_first_of_them(
    tmp_path: Path, odd: str
) -> None:
    content = "a,b\n" + "1,x\n" * 90 + odd * 10
    assert read(tmp_path, content, max_affected_share=0.1)[1].affected_rows == 10
    for share in (None, 0.09):
        with pytest.raises(UnreadableFileError, match=r"(?i)line 92 .*max_affected_share"):
            read(tmp_path, content, max_affected_share=share)


@pytest.mark.row("FL-2", "FL-11")
def test_a_few_odd_rows_of_a_small_file_are_refused_only_if_its_owner_says_so(tmp_path: Path) -> None:
    content = "a,b\n" + "1,x\n" * 9 + "1\n" * 3
    assert read(tmp_path, content)[1].affected_rows == 3
    with pytest.raises(UnreadableFileError, match="Line 11 has 1 field"):
        read(tmp_path, content, max_affected_share=0)


@pytest.mark.row("FL-8")
@pytest.mark.parametrize("name", ["*", "^x$", "a.b", "", "x\ny"])
def test_names_are_no_patterns(tmp_path: Path, name: str) -> None:
    pl.DataFrame({name: [1, 2], "x": ["a", "b"]}).write_parquet(tmp_path / "data.parquet")
    with opened(tmp_path / "data.parquet") as source:
        frame = source.collect(lambda frame: frame)
    assert frame.width == 2
    assert frame.to_series(0).to_list() == [1, 2]


@pytest.mark.row("FL-11")
@pytest.mark.parametrize("options", [{"thousands": "."}, {"date_format": "%d/%m/%Y"}, {"decimal": ","}])
def test_an_option_that_parquet_does_not_take_is_reported(tmp_path: Path, options: dict[str, Any]) -> None:
    pl.DataFrame({"a": ["1"]}).write_parquet(tmp_path / "data.parquet")
    with opened(tmp_path / "data.parquet", options=ReadOptions.model_validate(options)) as source:
        (warning,) = source.notes.warnings
    assert next(iter(options)) in warning.message


@pytest.mark.row("FL-8")
def test_a_late_line_that_only_polars_can_parse_does_not_stop_the_search_for_mixed_types(tmp_path: Path) -> None:
    deep = '{"b": ' + "[" * 1010 + "]" * 1010 + "}\n"
    frame, notes = read(tmp_path, '{"a": 1}\n' * 10_001 + deep + '{"a": "x"}\n', "data.jsonl")
    assert frame["a"][-1] == "x"
    assert [(warning.code, warning.line) for warning in notes.warnings] == [(WarningCode.MIXED_TYPES, 10_003)]
