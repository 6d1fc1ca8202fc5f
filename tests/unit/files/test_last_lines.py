"""The last lines of a file that may be no rows are named by their numbers, however often a text comes again."""

from pathlib import Path

import pytest

from functions.workflows.connector_scan.profile import profile_file
from shared.models.reading import WarningCode

pytestmark = pytest.mark.row("FL-1")
ROWS = "".join(f"{number},{number % 7},word\n" for number in range(40))


def lines_of_notes(path: Path, content: str) -> list[int | None]:
    path.write_bytes(content.encode())
    return [warning.line for warning in profile_file(path).notes.warnings if warning.code is WarningCode.VALUE]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_equal_notes_below_the_table_have_their_own_numbers(tmp_path: Path, end: str) -> None:
    note = "as of last week,,\n"
    content = f"a,b,c\n{ROWS}{note}\n{note}".replace("\n", end)
    assert sorted(lines_of_notes(tmp_path / "a.csv", content), key=str) == [42, 44]


@pytest.mark.parametrize("last", ["Total,120,80\n", "Total,120,80", "Total,120,80\n\n\n"])
def test_totals_like_a_row_are_named_with_and_without_a_line_end(tmp_path: Path, last: str) -> None:
    rows = "".join(f"name {number},{number},{number % 7}\n" for number in range(40))
    assert lines_of_notes(tmp_path / "a.csv", f"a,b,c\n{rows}{last}") == [42]
