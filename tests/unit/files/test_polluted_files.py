"""Our reader reads polluted files right, or reports the line or the reason, and never changes data in silence."""

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.fixtures.file_readers import read_with_ours
from tests.fixtures.polluted_files import KINDS, Doubtful, Right, cases_of, group_of
from tests.fixtures.reading_judge import Judgement, Outcome, judge_all

SHOWN = 6
LEAST_FILES = 2_000
LEAST_RIGHT = 0.95
ROWS = {
    "delimiters": pytest.mark.row("FL-1"),
    "quotes": pytest.mark.row("FL-1"),
    "headers": pytest.mark.row("FL-1"),
    "encodings": pytest.mark.row("FL-3"),
    "foreign": pytest.mark.row("FL-3"),
    "numbers": pytest.mark.row("FL-4"),
    "json_lines": pytest.mark.row("FL-8"),
    "parquet": pytest.mark.row("FL-8"),
}


def is_wrong(judgement: Judgement) -> bool:
    """Returns whether data were changed in silence, or a report names the wrong line."""
    return judgement.outcome in (Outcome.SILENT, Outcome.REPORTED_WRONG)


def check_none(judgements: Iterable[Judgement]) -> None:
    """Fails with the first of the judgements, one a line."""
    if lines := [str(judgement) for judgement in judgements]:
        pytest.fail("\n".join([f"{len(lines)} files:", *lines[:SHOWN]]), pytrace=False)


@pytest.mark.row("FL-2")
@pytest.mark.parametrize("kind", [pytest.param(kind, marks=ROWS.get(group_of(kind), ())) for kind in KINDS])
def test_no_file_is_wrong_in_silence_and_most_files_that_a_person_can_read_are_read_right(kind: str) -> None:
    with TemporaryDirectory(prefix="polluted-") as folder:
        judgements = judge_all(cases_of(kind), read_with_ours, Path(folder))
    check_none(filter(is_wrong, judgements))
    readable = [judgement for judgement in judgements if isinstance(judgement.case.expected, Right)]
    others = [judgement for judgement in readable if judgement.outcome is not Outcome.RIGHT]
    if len(others) > (1 - LEAST_RIGHT) * len(readable):
        check_none(others)


def test_there_are_enough_files_of_each_expectation() -> None:
    cases = [case for kind in KINDS for case in cases_of(kind)]
    doubtful = [case for case in cases if isinstance(case.expected, Doubtful)]
    assert len(cases) >= LEAST_FILES
    assert LEAST_FILES / 4 <= len(doubtful) <= len(cases) / 2
