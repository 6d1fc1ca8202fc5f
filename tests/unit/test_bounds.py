"""Each parser of others' input stays within the memory and the time that one table states."""

import re
from pathlib import Path

import pytest

from shared import bounds
from shared.bounds import ParserBound
from tests.fixtures.hostile_inputs.measurements import CONFINED, KINDS, OPEN, measure, table_of_bounds

# Of the large inputs that `make fuzz` measures.
SMALL = 0.02
# Small inputs that must be refused and not only be read within the bound.
REFUSED = {
    "wide CSV": {"too many columns.csv"},
    "JSON Lines": {"new keys in each line.jsonl", "deep after the first lines.jsonl"},
    "schemas": {"loop", "doubled references", "deep", "backtracking", "repetitions", "foreign dialect"},
    "conditions": {"long condition"},
    "events": {"deep event"},
    "answers": {"deep"},
    "nodes": {"deep", "too long"},
    "listings": {"too long", "entities"},
    "messages": {"huge message", "negative message", "unknown message", "short message"},
}
ALL = [bound for bound in vars(bounds).values() if isinstance(bound, ParserBound)]


@pytest.mark.row("SE-5")
@pytest.mark.parametrize("kind", KINDS)
def test_hostile_inputs_stay_within_their_bound(kind: str) -> None:
    measured = list(measure(kind, SMALL))
    assert len(measured) > 1
    assert [each for each in measured if not each.is_within] == []
    refused = {each.name for each in measured if each.outcome.startswith("refused")}
    assert REFUSED.get(kind, set()) <= refused


def test_every_bound_is_measured() -> None:
    measured = {bound for bound, *_ in (*CONFINED.values(), *OPEN.values())}
    assert measured | {bounds.SMALL_SCANNED_FILE} == set(ALL)


def test_the_documentation_shows_every_bound() -> None:
    text = (Path(__file__).parents[2] / "docs" / "limits.md").read_text()
    shown = re.search(r"^\| Input \|.*?\n\n", f"{text}\n\n", re.DOTALL | re.MULTILINE)
    assert shown is not None
    assert shown[0].strip() == table_of_bounds(ALL)
