"""Files that are broken, huge in unusual ways, or something else: a clear error or a sensible result, nothing left."""

import gzip
import json
from pathlib import Path

import polars as pl
import pytest

from functions.workflows.connector_scan.profile import FileProfile, profile_file
from shared.files.errors import UnreadableFileError
from shared.files.limits import ReadLimits
from shared.files.readers import scan_frame

SMALL = ReadLimits(
    decoded_bytes=1 << 20, line_bytes=64 << 10, sample_bytes=32 << 10, columns=3_000, batch_bytes=8 << 20
)


def parquet_bytes(folder: Path) -> bytes:
    pl.DataFrame({"a": list(range(1000))}).write_parquet(folder / "source.parquet")
    content = (folder / "source.parquet").read_bytes()
    (folder / "source.parquet").unlink()
    return content


def profile_of(folder: Path, content: bytes, name: str) -> FileProfile:
    (folder / name).write_bytes(content)
    try:
        return profile_file(folder / name, limits=SMALL)
    finally:
        assert [path.name for path in folder.iterdir()] == [name], "decoded copies are removed, also after an error"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.csv", b"", "empty"),
        ("nothing.csv.gz", gzip.compress(b""), "holds nothing"),
        ("blank.csv", b"\n\n\n", "no rows"),
        ("bomb.csv.gz", gzip.compress(b"a\n" + b"0\n" * (1 << 20)), "unpacks to more than 1 MiB"),
        ("cut.csv.gz", gzip.compress(b"a,b\n" + b"1,2\n" * 5000)[:-20], "damaged or cut off"),
        ("noise.csv.gz", b"\x1f\x8b" + b"no gzip at all", "damaged or cut off"),
        ("book.csv", b"PK\x03\x04\x14\x00\x00\x00" + b"\x00" * 50, "ZIP"),
        ("image.csv", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + b"\x00" * 50, "PNG"),
        ("binary.csv", bytes(range(1, 256)) + b"\x00\x00\x00" * 500, "binary"),
        ("nul.csv", b"a,b\n1,x\x00y\n", "NUL character at line 2"),
        ("table.parquet", b"a,b\n1,2\n", "Parquet"),
        ("ragged.csv", b"a,b\n1,2\n3,4,5\n", "Line 3 has 3 fields where the header has 2"),
        ("line.csv", b"a,b\n1," + b"x" * (100 << 10) + b"\n2,y\n" + b"3,z\n" * 9000, "line of more than"),
        ("head.csv", b"a" * (200 << 10), "line"),
        ("quote.csv", b'a,b\n1,"never closed\n', "Line 2 is no record: a quote is not closed"),
        ("wide.csv", b",".join(b"c%d" % number for number in range(3001)) + b"\n", "3,001 columns"),
        ("short.csv", b"a,b,c\n" + b"1,2,3\n1\n" * 5, "Line 3 has 1 field where the header has 3"),
        ("array.json", b'[{"a": 1}]', "JSON array"),
        ("third.jsonl", b'{"a": 1}\n{"a": 2}\n{"a": \n', "Line 3 is not a JSON object"),
        ("number.jsonl", b'{"a": 1}\n5\n', "Line 2 is not a JSON object"),
        ("deep.jsonl", b'{"a": ' + b"[" * 20_000 + b"]" * 20_000 + b"}\n", "Line 1 is not a JSON object"),
        ("bare.jsonl", b"{}\n{}\n", "no rows with fields"),
        ("wide.jsonl", json.dumps({f"c{number}": 1 for number in range(3001)}).encode(), "3,001 columns"),
        ("utf-16.csv", "a,b\n1,2\n".encode("utf-16")[:-1], "utf-16"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_broken_file_gets_an_error_of_its_own(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(UnreadableFileError) as failure:
        profile_of(tmp_path, content, name)
    assert message in str(failure.value)
    assert len(str(failure.value)) < 500


@pytest.mark.parametrize("kept", [4, 5, 100, 0.5, 0.9, 0.999])
def test_a_cut_off_parquet_file_is_an_error(tmp_path: Path, kept: float) -> None:
    content = parquet_bytes(tmp_path)
    with pytest.raises(UnreadableFileError, match=r"Parquet"):
        profile_of(tmp_path, content[: int(kept if kept > 1 else len(content) * kept)], "cut.parquet")


@pytest.mark.parametrize("position", range(0, 1000, 61))
def test_a_parquet_file_with_a_flipped_byte_never_gets_past_as_a_crash(tmp_path: Path, position: int) -> None:
    content = bytearray(parquet_bytes(tmp_path))
    content[-(position % (len(content) - 8)) - 1] ^= 0x55
    try:
        rows = profile_of(tmp_path, bytes(content), "flipped.parquet").rows
    except UnreadableFileError:
        return
    assert rows == 1000


def test_a_parquet_row_group_that_would_not_fit_into_memory_is_refused(tmp_path: Path) -> None:
    frame = pl.select(pl.repeat(7, 2_000_000, dtype=pl.Int64).alias("a"))
    frame.write_parquet(tmp_path / "bomb.parquet", row_group_size=2_000_000)
    assert (tmp_path / "bomb.parquet").stat().st_size < 10_000
    with pytest.raises(UnreadableFileError, match="row groups"):
        profile_file(tmp_path / "bomb.parquet", limits=SMALL)
    frame.write_parquet(tmp_path / "fine.parquet", row_group_size=100_000)
    assert profile_file(tmp_path / "fine.parquet", limits=SMALL).rows == 2_000_000


def test_ten_thousand_columns_are_read(tmp_path: Path) -> None:
    names = [f"c{number}" for number in range(10_000)]
    content = ",".join(names) + "\n" + ",".join("1" for _ in names) + "\n" + ",".join("2.5" for _ in names) + "\n"
    (tmp_path / "wide.csv").write_text(content)
    profile = profile_file(tmp_path / "wide.csv")
    assert [column.name for column in profile.columns] == names
    assert {(column.type, column.distinct, column.maximum) for column in profile.columns} == {("float", 2, 2.5)}


def test_the_frame_has_the_types_of_the_profile(tmp_path: Path) -> None:
    rows = "".join(f"{number},,2024-01-01,{'yes' if number % 2 else 'no'}\n" for number in range(15_000))
    (tmp_path / "data.csv").write_text("id,nothing,day,answer\n" + rows + "\n15000,,2024-01-02,NA\n")
    profile = profile_file(tmp_path / "data.csv")
    frame = scan_frame(tmp_path / "data.csv").collect()
    assert frame.schema == {"id": pl.Int64, "nothing": pl.String, "day": pl.Date, "answer": pl.String}
    assert [column.type.value for column in profile.columns] == ["int", "string", "date", "string"]
    assert (frame.height, profile.rows) == (15_001, 15_001), "the blank line is no row"
    assert [frame[column.name].null_count() for column in profile.columns] == [
        column.nulls for column in profile.columns
    ]


@pytest.mark.parametrize("name", ["*", "^a.*$"])
@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_a_column_may_have_a_name_that_polars_takes_for_a_pattern(tmp_path: Path, form: str, name: str) -> None:
    frame = pl.DataFrame({name: ["x", "y"], "ab": [1, 2]})
    path = tmp_path / f"data.{form}"
    match form:
        case "csv":
            frame.write_csv(path)
        case "jsonl":
            frame.write_ndjson(path)
        case _:
            frame.write_parquet(path)
    columns = profile_file(path).columns
    assert [(column.name, column.type, column.distinct) for column in columns] == [
        (name, "string", 2),
        ("ab", "int", 2),
    ]
