"""Files as one table: dates that one file leaves open are read as the other files write them."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from functions.jobs.concatenation import FileRows, concatenate

pytestmark = pytest.mark.row("FL-6")

EITHER = ["%d/%m/%Y", "%m/%d/%Y"]


def written(texts: Sequence[str | None], formats: Sequence[str] = EITHER) -> FileRows:
    """Returns a file that leaves its dates open."""
    return FileRows(pl.DataFrame({"at": pl.Series(texts, dtype=pl.String)}), {"at": list(formats)})


def read(dates: Sequence[date], form: str) -> FileRows:
    """Returns a file with dates that can be read in one way only."""
    return FileRows(pl.DataFrame({"at": dates}), {"at": [form]})


def test_daily_files_of_march_stay_in_march() -> None:
    random = np.random.default_rng(4)
    days = [date(2024, 3, 1) + timedelta(days=int(day)) for day in random.permutation(31)]
    files = [
        written([f"{day:%d/%m/%Y}", "none", None]) if day.day <= 12 else read([day, day, day], "%d/%m/%Y")
        for day in days
    ]

    found = concatenate(files)

    assert found.rows["at"].dtype == pl.Date
    assert found.rows["at"].drop_nulls().unique().sort().to_list() == sorted(days)
    assert found.rows["at"].null_count() == 24
    assert (found.formats, found.notes) == ({"at": ["%d/%m/%Y"]}, [])


@pytest.mark.parametrize(
    ("files", "formats", "dates"),
    [
        # Another mark, the same order.
        (
            [written(["01/03/2024"]), read([date(2024, 3, 13)], "%d.%m.%Y")],
            ["%d.%m.%Y", "%d/%m/%Y"],
            [date(2024, 3, 1), date(2024, 3, 13)],
        ),
        # Files that share one format only.
        (
            [
                written(["01/02/24"], ["%d/%m/%y", "%m/%d/%y", "%y/%m/%d"]),
                written(["13/02/03"], ["%d/%m/%y", "%y/%m/%d"]),
                written(["13/02/32"], ["%d/%m/%y"]),
            ],
            ["%d/%m/%y"],
            [date(2024, 2, 1), date(2003, 2, 13), date(2032, 2, 13)],
        ),
        ([read([date(2024, 3, 13)], "%Y-%m-%d")], [], [date(2024, 3, 13)]),
    ],
)
def test_evidence_may_lie_in_any_file(files: list[FileRows], formats: list[str], dates: list[date]) -> None:
    found = concatenate(files)

    assert found.rows["at"].to_list() == dates
    assert found.formats == {"at": formats}


def test_times_are_read_like_dates() -> None:
    forms = ["%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M"]
    known = FileRows(pl.DataFrame({"at": [datetime(2024, 3, 13, 8, 30)]}), {"at": forms[:1]})  # noqa: DTZ001

    found = concatenate([written(["01/03/2024 10:30"], forms), known])

    assert [f"{moment}" for moment in found.rows["at"]] == ["2024-03-01 10:30:00", "2024-03-13 08:30:00"]


def test_files_that_contradict_each_other_leave_open_dates_as_text_with_a_note() -> None:
    known = [read([date(2024, 3, 13)], form) for form in EITHER]

    found = concatenate([*known, written(["01/03/2024"])])

    assert found.rows["at"].to_list() == ["2024-03-13", "2024-03-13", "01/03/2024"]
    assert found.formats == {"at": None}
    (note,) = found.notes
    assert "'at' in contradictory ways, '%d/%m/%Y' and '%m/%d/%Y'" in note
    assert "date_format" in note
    assert concatenate(known).formats == {"at": []}
    assert "need ISO dates" in concatenate(known).notes[0]


def test_without_evidence_open_dates_stay_text() -> None:
    found = concatenate([written(["01/03/2024"]), written(["02/03/2024"])])

    assert found.rows["at"].to_list() == ["01/03/2024", "02/03/2024"]
    assert (found.formats, found.notes) == ({}, [])


def test_dates_that_a_reader_guessed_become_what_the_model_reads() -> None:
    guessed = read([date(2024, 6, 5), date(2024, 12, 12)], "%d.%m.%Y")
    certain = read([date(2024, 6, 13)], "%d.%m.%Y")
    model = {"at": ["%m.%d.%Y"]}

    assert concatenate([guessed], model).rows["at"].to_list() == ["05.06.2024", "12.12.2024"]
    assert concatenate([guessed], {"at": ["%d.%m.%Y"]}).rows["at"].dtype == pl.Date
    # One day beyond 12 shows that the reader is right.
    assert concatenate([guessed, certain], model).rows["at"].dtype == pl.Date


def test_columns_without_a_common_type_become_text() -> None:
    found = concatenate(
        [FileRows(pl.DataFrame({"a": [1], "b": [True]})), FileRows(pl.DataFrame({"a": ["x"], "b": [date(2024, 1, 1)]}))]
    )

    assert found.rows["a"].to_list() == ["1", "x"]
    assert found.rows["b"].dtype == pl.String
