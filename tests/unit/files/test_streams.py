"""Files are read as streams of records, in bounded batches, and each record knows its line."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from shared.files.readers import opened, scan_frame
from shared.files.sources import RECORD
from shared.models.reading import ReadOptions

CSV = 'id,age,city\n1,30,a\n,,\n2,31,"two\nlines"\n3,32,b\n\n4,33,c\n5,34,d\n'
JSON = '{"id": 1, "age": 30}\n\n{"id": 2, "age": 31}\n{"id": null}\n{"id": 4, "age": 33}\n'


@pytest.mark.parametrize(
    ("name", "content", "lines"),
    [("a.csv", CSV, {1: 2, 2: 4, 3: 6, 4: 8, 5: 9}), ("a.jsonl", JSON, {1: 1, 2: 3, 4: 5})],
)
@pytest.mark.parametrize("batch", [1, 2, 100])
def test_a_stream_has_the_rows_of_the_frame_with_their_lines(
    tmp_path: Path, name: str, content: str, lines: dict[int, int], batch: int
) -> None:
    path = tmp_path / name
    path.write_text(content)
    with opened(path, name=name) as source:
        batches = list(source.stream(["id"], batch))
        rows = pl.concat(batches)
        found = source.lines_of(rows[RECORD].to_list())
    assert all(each.height <= batch for each in batches)
    assert dict(zip(rows["id"].to_list(), found, strict=True)) == lines
    assert rows["id"].to_list() == scan_frame(path, name=name).collect()["id"].to_list()


def test_a_stream_begins_and_ends_at_records_also_beyond_blank_ones(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(CSV)
    with opened(path) as source:
        parts = [
            pl.concat(source.stream(["id"], 2, first=first, records=records))["id"].to_list()
            for first, records in ((0, 2), (2, 2), (4, None))
        ]
    assert parts == [[1], [2, 3], [4, 5]]


def test_lines_that_are_no_rows_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,age\n1,30\n2,31,32,33\n3,34\n")
    with opened(path, options=ReadOptions(max_affected_share=1)) as source:
        rows = pl.concat(source.stream(["id"], 10))
        assert rows["id"].to_list() == [1, 3]
        assert source.notes.left_out_rows == 1


def test_rows_of_parquet_are_numbered_from_one(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pl.DataFrame({"id": range(10)}).write_parquet(path, row_group_size=3)
    with opened(path) as source:
        rows = pl.concat(source.stream(["id"], 4, first=5, records=3))
        assert rows["id"].to_list() == [5, 6, 7]
        assert source.lines_of(rows[RECORD].to_list()) == [6, 7, 8]


def test_a_stream_reads_no_further_than_it_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.files.sources.WINDOW_ROWS", 100)
    path = tmp_path / "a.parquet"
    pl.DataFrame({"id": range(1000)}).write_parquet(path, row_group_size=100)
    with opened(path) as source:
        batches = source.stream(["id"], 50)
        collected: list[int] = []
        collect = pl.LazyFrame.collect

        def counted(frame: pl.LazyFrame, **options: Any) -> Any:
            found = collect(frame, **options)
            collected.append(found.height)
            return found

        monkeypatch.setattr(pl.LazyFrame, "collect", counted)
        assert next(batches).height == 50
        assert sum(collected) == 100
        assert sum(batch.height for batch in batches) == 950
