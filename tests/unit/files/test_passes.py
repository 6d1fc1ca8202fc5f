"""The honest reading of files stays fast: how often a file is read, and how many lines Python looks at.

`tests/load/scan_speed.py` measures the ratios to other readers. These counts show what would change them.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from functions.workflows.connector_scan.profile import profile_file
from shared.files.records import Lines

pytestmark = pytest.mark.row("FL-12")

ROWS = 30_000
HEADER = "id,amount,day,note"
CLEAN = [f"{number},{number}.5,2024-01-31,word {number % 7}" for number in range(1, ROWS + 1)]
QUOTED = ['"' + row.replace(",", '","') + '"' for row in CLEAN]
_SCAN = re.compile(r"(\w+) SCAN")


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Counts the queries over all rows by their kind, and the records that Python splits."""
    found: Counter[str] = Counter()
    collect, collect_all, record = pl.LazyFrame.collect, pl.collect_all, Lines.record

    def count(frame: pl.LazyFrame) -> None:
        plan = frame.explain()
        if "SLICE" not in plan:
            found.update(_SCAN.findall(plan))

    def counting(frame: pl.LazyFrame, *args: Any, **options: Any) -> Any:
        count(frame)
        return collect(frame, *args, **options)

    def counting_all(frames: Sequence[pl.LazyFrame], *args: Any, **options: Any) -> Any:
        count(frames[0])
        return collect_all(frames, *args, **options)

    def counting_record(lines: Lines, *args: Any) -> Any:
        found["records"] += 1
        return record(lines, *args)

    with monkeypatch.context() as patch:
        patch.setattr(pl.LazyFrame, "collect", counting)
        patch.setattr(pl, "collect_all", counting_all)
        patch.setattr(Lines, "record", counting_record)
        yield found


@pytest.fixture
def count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def scan(rows: Sequence[str], *, name: str = "data.csv", header: str = HEADER) -> Counter[str]:
        path = tmp_path / name
        path.write_text("\n".join([*([header] if header else []), *rows]) + "\n")
        with counted(monkeypatch) as found:
            assert profile_file(path).rows >= len(rows) * 0.99
        return found

    return scan


def test_a_clean_file_is_read_once_and_none_of_its_lines_by_python(count: Any) -> None:
    found = count(CLEAN)
    assert (found["Csv"], found["Lines"]) == (1, 0)
    assert found["records"] < 2_000, "only the first records are split, once for each dialect that is tried"


@pytest.mark.parametrize(
    "last",
    ["1,2,soon,x", "1,2,15-03-22,x", "007,2,2024-01-31,x", "1,x,2024-01-31,x"],
    ids=["a word among dates", "a short year", "an identifier", "a word among numbers"],
)
def test_a_type_that_the_last_row_refutes_costs_few_passes(count: Any, last: str) -> None:
    found = count([*CLEAN, last])
    # One that fails, up to three over the column in question, one that holds, and one that names the line.
    assert found["Csv"] <= 6
    assert found["Lines"] == 0


def test_a_quoted_file_costs_one_pass_over_its_lines(count: Any) -> None:
    plain, found = count(CLEAN), count(QUOTED)
    assert (found["Csv"], found["Lines"]) == (1, 1)
    assert found["records"] <= plain["records"] + 1


@pytest.mark.parametrize("rows", [CLEAN, QUOTED], ids=["plain", "quoted"])
def test_python_looks_at_odd_lines_only(count: Any, rows: list[str]) -> None:
    clean = count(rows)
    odd = [f"{row},x" if place % 1_000 == 500 else row for place, row in enumerate(rows)]
    found = count(odd)
    assert found["Lines"] == 1
    assert found["Csv"] <= clean["Csv"] + 1
    assert found["records"] <= clean["records"] + ROWS // 1_000


def test_json_lines_are_read_once_behind_the_search_for_their_types(count: Any) -> None:
    rows = [f'{{"id": {number}, "day": "2024-01-31", "note": "word {number % 7}"}}' for number in range(ROWS)]
    found = count(rows, name="data.jsonl", header="")
    assert (found["NDJson"], found["Lines"]) == (1, 1)
