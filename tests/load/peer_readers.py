"""Readers of other libraries, as the judge of polluted files calls readers. Each one is optional."""

import csv
import io
import re
from collections.abc import Callable, Sequence
from datetime import date
from importlib import import_module
from pathlib import Path
from typing import Any

import polars as pl

from tests.fixtures.reading_judge import Reader, Reading, Report, refusal

Cell = str | int | float | bool | date | None
SAMPLE_CHARACTERS = 20_000
NO_DELIMITER = "\x00"  # The csv module needs one; clevercsv finds none in a file of one column.
_JSON = (".jsonl", ".ndjson", ".json")
_TYPES: tuple[tuple[re.Pattern[str], Callable[[str], Cell]], ...] = (
    (re.compile(r"[+-]?\d{1,18}"), int),
    (re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"), float),
    (re.compile(r"\d{4}-\d{2}-\d{2}"), date.fromisoformat),
    (re.compile("true|false", re.IGNORECASE), lambda text: text.lower() == "true"),
)


class MissingPeerError(Exception):
    """Error raised when a peer's library is not installed."""


def peer(name: str) -> Any:
    """Returns the module of a peer. Raises MissingPeerError without it."""
    try:
        return import_module(name)
    except ImportError:
        raise MissingPeerError(f"{name} is not installed: run `make bench`, which installs the peers") from None


def is_delimited(path: Path) -> bool:
    """Returns whether a file is named as delimited text."""
    return path.suffix not in (*_JSON, ".parquet")


def duckdb_reader() -> Reader:
    """Returns DuckDB with everything detected."""
    duckdb = peer("duckdb")
    connection = duckdb.connect()

    def read(path: Path) -> Reading:
        function = "read_csv" if is_delimited(path) else "read_parquet" if path.suffix == ".parquet" else "read_json"
        try:
            found = connection.execute(f"SELECT * FROM {function}(?)", [str(path)])  # noqa: S608
            return Reading([column[0] for column in found.description], found.fetchall())
        except (duckdb.Error, UnicodeDecodeError) as error:
            return refusal(str(error))

    return read


def duckdb_rejects_reader() -> Reader:
    """Returns DuckDB that leaves out rows with faults, and lists them."""
    duckdb = peer("duckdb")
    auto = duckdb_reader()

    def read(path: Path) -> Reading:
        if not is_delimited(path):
            return auto(path)
        with duckdb.connect() as connection:
            try:
                found = connection.execute("SELECT * FROM read_csv(?, store_rejects = true)", [str(path)])
                names, rows = [column[0] for column in found.description], found.fetchall()
                faults = connection.execute("SELECT error_message, line, column_name FROM reject_errors").fetchall()
            except duckdb.Error as error:
                return refusal(str(error))
        return Reading(names, rows, [Report(text, int(line), column) for text, line, column in faults])

    return read


def polars_reader() -> Reader:
    """Returns polars' own readers, with the types of the whole file."""

    def read(path: Path) -> Reading:
        try:
            if path.suffix == ".parquet":
                frame = pl.read_parquet(path)
            elif path.suffix in _JSON:
                frame = pl.read_ndjson(path, infer_schema_length=None)
            else:
                frame = pl.read_csv(path, infer_schema_length=None, try_parse_dates=True)
        except (pl.exceptions.PolarsError, OSError) as error:
            return refusal(str(error))
        return Reading(frame.columns, frame.rows())

    return read


def clevercsv_reader() -> Reader:
    """Returns Python's csv module with the dialect that clevercsv detects, and with plain types."""
    clevercsv = peer("clevercsv")

    def read(path: Path) -> Reading:
        try:
            text = path.read_bytes().decode("utf-8-sig")
            dialect = clevercsv.Detector().detect(text[:SAMPLE_CHARACTERS])
            if dialect is None:
                return refusal("no dialect was detected")
            dialect.delimiter = dialect.delimiter or NO_DELIMITER
            return _table(text, dialect.to_csv_dialect())
        except (ValueError, csv.Error, clevercsv.exceptions.Error) as error:
            return refusal(str(error))

    return read


def _table(text: str, dialect: Any) -> Reading:
    """Reads the rows below the header. As in pandas, a row may be too short but not too long."""
    reader = csv.reader(io.StringIO(text, newline=""), dialect)
    names: list[str] = next(reader, [])
    rows = []
    for fields in reader:
        if len(fields) > len(names):
            return refusal(f"line {reader.line_num} has {len(fields)} fields, the header {len(names)}")
        if fields:
            rows.append(fields + [""] * (len(names) - len(fields)))
    return Reading(names, list(zip(*map(_typed, zip(*rows, strict=True)), strict=True)))


def _typed(texts: Sequence[str]) -> list[Cell]:
    """Returns the cells of a column in the narrowest type that fits all of them."""
    present = [text for text in texts if text]
    for pattern, parse in _TYPES:
        if present and all(map(pattern.fullmatch, present)):
            try:
                return [parse(text) if text else None for text in texts]
            except ValueError:
                break
    return [text or None for text in texts]


PEERS: dict[str, Callable[[], Reader]] = {
    "DuckDB": duckdb_reader,
    "DuckDB, store_rejects": duckdb_rejects_reader,
    "clevercsv": clevercsv_reader,
    "polars": polars_reader,
}
