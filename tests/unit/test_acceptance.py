"""docs/acceptance.md lists every row that a test marks, once, and states for each row whether a test marks it."""

import ast
import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "acceptance.md"
ROW = re.compile(r"^\| (?P<name>[A-Z]+-\d+) \| [^|]+ \| (?P<sentence>[^|]+) \|$", re.MULTILINE)
UNTESTED = "**No test yet.**"


def marked_rows() -> set[str]:
    names: set[str] = set()
    for path in (ROOT / "tests").rglob("*.py"):
        text = path.read_text()
        if "mark.row" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.row":
                names |= {ast.literal_eval(argument) for argument in node.args}
    return names


def listed_rows() -> list[tuple[str, str]]:
    return [(row["name"], row["sentence"]) for row in ROW.finditer(PAGE.read_text())]


def test_every_marked_row_is_on_the_page() -> None:
    missing = marked_rows() - {name for name, _ in listed_rows()}
    assert not missing, f"add them to {PAGE.relative_to(ROOT)}"


def test_no_row_is_on_the_page_twice() -> None:
    counts = Counter(name for name, _ in listed_rows())
    assert not [name for name, count in counts.items() if count > 1]


def test_the_page_names_the_rows_without_a_test() -> None:
    untested = {name for name, sentence in listed_rows() if sentence.startswith(UNTESTED)}
    unmarked = {name for name, _ in listed_rows()} - marked_rows()
    assert untested == unmarked, f"add or remove {UNTESTED!r} in {PAGE.relative_to(ROOT)}"


def test_every_line_of_a_table_is_a_row() -> None:
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ") and not line.startswith("| Row ")]
    assert len(lines) == len(listed_rows())
