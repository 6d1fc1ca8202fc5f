"""The judge of readers: what is right, what is reported, and what is wrong in silence."""

import pytest

from tests.fixtures.cell_comparison import is_same
from tests.fixtures.polluted_files import KINDS, Case, Doubtful, Right, cases_of
from tests.fixtures.polluted_files.cases import Cell, Expectation, Table, Type
from tests.fixtures.polluted_files.tables import column
from tests.fixtures.reading_judge import Outcome, Reading, Report, judge, refusal

TABLE = Table(
    (
        column("code", Type.TEXT, ["007", "012", "120"]),
        column("amount", Type.NUMBER, [1.5, None, 3.25]),
    )
)
ROWS: list[tuple[Cell, ...]] = [("007", 1.5), ("012", None), ("120", 3.25)]
NAMES = ["code", "amount"]
BROKEN = Doubtful(frozenset({3}), TABLE, rows=frozenset({1}))


def outcome(expected: Expectation, reading: Reading) -> Outcome:
    return judge(Case("a file", b"", expected), reading).outcome


def test_the_same_table_is_right_with_or_without_a_warning() -> None:
    assert outcome(Right(TABLE), Reading(NAMES, ROWS)) is Outcome.RIGHT
    assert outcome(Right(TABLE), Reading(NAMES, ROWS, [Report("careful", 2)])) is Outcome.RIGHT
    assert outcome(Right(TABLE), Reading([" code", "amount "], [*ROWS, (None, None)])) is Outcome.RIGHT


@pytest.mark.parametrize(
    "rows",
    [
        ROWS[:2],
        [*ROWS, ("130", 4.0)],
        [(7, 1.5), (12, None), (120, 3.25)],
        [("007", 1.5), ("012", 0.0), ("120", 3.25)],
        [("007", "1.5"), ("012", None), ("120", "3.25")],
    ],
)
def test_another_table_is_wrong_in_silence_unless_a_warning_covers_it(rows: list[tuple[Cell, ...]]) -> None:
    assert outcome(Right(TABLE), Reading(NAMES, rows)) is Outcome.SILENT
    assert outcome(Right(TABLE), Reading(NAMES, rows, [Report("kept", column="other")])) is Outcome.SILENT
    assert outcome(Right(TABLE), Reading(NAMES, rows, [Report("the file is odd")])) is Outcome.REFUSED_READABLE


def test_a_warning_about_one_line_does_not_cover_a_whole_column() -> None:
    rows: list[tuple[Cell, ...]] = [(7, 1.5), (12, None), (120, 3.25)]
    assert outcome(Right(TABLE), Reading(NAMES, rows, [Report("left out", 2)])) is Outcome.SILENT
    assert outcome(Right(TABLE), Reading(NAMES, rows, [Report("numbers", 2, "code")])) is Outcome.REFUSED_READABLE


def test_a_readable_file_must_not_be_refused() -> None:
    assert outcome(Right(TABLE), refusal("Line 2 is odd.")) is Outcome.REFUSED_READABLE


@pytest.mark.parametrize("text", ["Line 3 has 2 fields.", "The lines 2 to 3 are odd.", "CSV Error on Line: 3"])
def test_a_refusal_of_a_doubtful_file_must_name_the_line(text: str) -> None:
    assert outcome(BROKEN, refusal(text)) is Outcome.REPORTED
    assert outcome(BROKEN, refusal("Line 30 is odd.")) is Outcome.REPORTED_WRONG
    assert outcome(BROKEN, refusal("The file is odd.")) is Outcome.REPORTED_WRONG
    assert outcome(BROKEN, Reading(reports=[Report(text)], refused=True, crashed=True)) is Outcome.REPORTED_WRONG


@pytest.mark.parametrize("rows", [ROWS, [ROWS[0], ROWS[2]], [ROWS[0], ("01", 2.0), ("x", None), ROWS[2]]])
def test_a_doubtful_row_may_be_anything_if_a_warning_names_its_line(rows: list[tuple[Cell, ...]]) -> None:
    assert outcome(BROKEN, Reading(NAMES, rows, [Report("left out", 3)])) is Outcome.REPORTED
    assert outcome(BROKEN, Reading(NAMES, rows, [Report("left out", 2)])) is Outcome.REPORTED_WRONG
    assert outcome(BROKEN, Reading(NAMES, rows)) is Outcome.SILENT


def test_rows_without_a_doubt_must_be_right_although_a_warning_names_the_line() -> None:
    assert outcome(BROKEN, Reading(NAMES, [ROWS[0]], [Report("left out", 3)])) is Outcome.SILENT
    assert outcome(BROKEN, Reading(NAMES, [("7", 1.5), *ROWS[1:]], [Report("left out", 3)])) is Outcome.SILENT


def test_a_reason_replaces_the_line_where_no_line_is_the_point() -> None:
    tied = Doubtful(frozenset(), TABLE, columns=frozenset({"amount"}), about="decimal")
    assert outcome(tied, Reading(NAMES, ROWS, [Report("Decimal or thousands?", column="amount")])) is Outcome.REPORTED
    assert outcome(tied, Reading(NAMES, ROWS, [Report("Decimal?", column="code")])) is Outcome.SILENT
    assert outcome(tied, Reading(NAMES, ROWS, [Report("odd", column="amount")])) is Outcome.SILENT


@pytest.mark.parametrize(
    ("expected", "type", "found"),
    [
        (12, Type.KEY, "12"),
        (12, Type.NUMBER, 12.0),
        ("a\r\nb", Type.TEXT, "a\nb"),
        ({"a": [1], "b": None}, Type.NESTED, '{"a": [1]}'),
        (None, Type.NUMBER, float("nan")),
    ],
)
def test_cells_compare_by_value(expected: Cell, type: Type, found: object) -> None:
    assert is_same(expected, type, "", found)


@pytest.mark.parametrize(
    ("expected", "type", "found"),
    [
        (12, Type.KEY, 12.0),
        (12, Type.KEY, "012"),
        (1, Type.NUMBER, True),
        (1, Type.BOOLEAN, 1),
        ("012", Type.TEXT, 12),
        ("none", Type.TEXT, None),
        (1.5, Type.NUMBER, "1.5"),
    ],
)
def test_cells_of_another_type_differ(expected: Cell, type: Type, found: object) -> None:
    assert not is_same(expected, type, "", found)


def test_files_are_the_same_in_each_run_and_have_names_of_their_own() -> None:
    for kind in KINDS[::10]:
        first, second = cases_of(kind), cases_of(kind)
        assert [case.content for case in first] == [case.content for case in second]
        assert len({str(case) for case in first}) == len(first)
