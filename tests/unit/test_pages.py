"""The pages of the repository wrap at 120 characters, and their links lead to files."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
# `python -m tests.load cost_model` writes it.
GENERATED = {ROOT / "docs" / "cost_and_scale.md"}
WIDTH = 120
_LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")
_DECISION = re.compile(r"\d{4}")


def prose(page: Path) -> Iterator[tuple[int, str]]:
    """Yields the lines of a page that are not in a block of code, with their numbers."""
    is_code = False
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if line.lstrip().startswith("```"):
            is_code = not is_code
        elif not is_code:
            yield number, line


@pytest.mark.parametrize("page", [each for each in PAGES if each not in GENERATED], ids=lambda page: page.name)
def test_lines_beside_tables_wrap(page: Path) -> None:
    is_long = [
        (number, line) for number, line in prose(page) if len(line) > WIDTH and not line.lstrip().startswith("|")
    ]
    # A long address cannot be split.
    assert [number for number, line in is_long if len(max(line.split(), key=len)) <= WIDTH] == []


def test_links_lead_to_files_and_name_the_decision_that_they_lead_to() -> None:
    wrong = []
    for page in PAGES:
        for number, line in prose(page):
            for label, target in _LINK.findall(line):
                path = target.partition("#")[0]
                is_wrong_number = bool(_DECISION.fullmatch(label)) and label not in path
                if "://" not in target and path and (is_wrong_number or not (page.parent / path).exists()):
                    wrong.append(f"{page.name}:{number} {target}")
    assert wrong == []
