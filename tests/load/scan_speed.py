"""Speed of the scan of one gigabyte of CSV, against the streaming engines of polars and DuckDB over the same columns.

Ours does all of a scan: format, encoding, dialect, types that hold over the whole file, missing values in their common
spellings, the profile. Polars' is ``scan_csv`` with its own schema from 1,000 rows (dates parsed), DuckDB's is
``read_csv`` with types from the whole file. Both count rows and nulls, and compute the minimum, the maximum and the
approximate number of distinct values of each column. Each run has its own process; imports are not counted.

One file needs our slow path: its last row gives a column of whole numbers a fraction. In another one, every field is in
quotes. In the dirty one, one row of 1,000 has a field too many or too few, or a quote that nobody closes: its time
counts as a ratio to the same file without faults. The last one has 5,000 columns.
"""

import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from rich.console import Console

from functions.workflows.connector_scan.profile import profile_file
from shared.files.errors import UnreadableFileError
from tests.load.harness import ROOT, options, paired_ratio, peak_mb, show, take_turns

BLOCK_ROWS = 500_000
WIDE_COLUMNS = 5_000
POLARS_LIMIT = 0.9
DUCKDB_LIMIT = 1.0
PEAK_LIMIT_MB = 512
DIRTY_LIMIT = 1.5
DIRTY_EVERY = 1_000
REFUSED = -1
PEERS = ("polars", "DuckDB")
PROGRAM = "import sys; from tests.load.scan_speed import read; read(*sys.argv[1:])"
Run = tuple[float, float]
Change = Callable[[bytes], bytes]


def customers(rows: int) -> pl.DataFrame:
    """Returns customers with numbers, dates, words and gaps."""
    random = np.random.default_rng(7)
    days = np.datetime64("1990-01-01") + random.integers(0, 12_000, rows)
    return pl.DataFrame(
        {
            "age": random.integers(18, 90, rows),
            "income": random.normal(50_000, 10_000, rows).round(2),
            "balance": pl.Series(random.gamma(2, 1000, rows).round(4)).set(pl.Series(random.random(rows) < 0.05), None),
            "segment": random.choice(["retail", "premium", "business", "student"], rows),
            "city": random.choice([f"city {number}" for number in range(5_000)], rows),
            "opened": days,
            "active": random.choice([True, False], rows),
            "score": random.random(rows),
            "visits": random.poisson(3, rows),
        }
    )


def write_csv(
    path: Path,
    size_bytes: int,
    last_row: str = "",
    *,
    quotes: Literal["necessary", "always"] = "necessary",
    change: Change = bytes,
) -> int:
    """Writes customers with ids, and returns the number of rows."""
    block = customers(BLOCK_ROWS)
    written = 0
    with path.open("wb") as file:
        file.write(f"customer_id,{','.join(block.columns)}\n".encode())
        while file.tell() < size_bytes:
            ids = pl.Series("customer_id", np.arange(written, written + BLOCK_ROWS))
            part = io.BytesIO()
            block.select(ids, pl.all()).write_csv(part, include_header=False, quote_style=quotes)
            file.write(change(part.getvalue()))
            written += BLOCK_ROWS
        file.write(last_row.encode())
    return written + bool(last_row)


def with_faults(block: bytes) -> bytes:
    """Returns lines of which each thousandth has a field too many, a field too few, or a quote that is not closed."""
    faults: tuple[Change, ...] = (
        lambda line: line + b",x",
        lambda line: line.rpartition(b",")[0],
        lambda line: line.replace(b",city", b',"city', 1),
    )
    lines = block.split(b"\n")
    for number in range(DIRTY_EVERY // 2, len(lines) - 1, DIRTY_EVERY):
        lines[number] = faults[number // DIRTY_EVERY % len(faults)](lines[number])
    return b"\n".join(lines)


def write_wide_csv(path: Path, rows: int) -> int:
    """Writes rows of 5,000 columns: numbers, and some words."""
    random = np.random.default_rng(7)
    words = random.choice(["north", "south", "east", "west"], rows)
    columns = {
        f"column_{number}": words if number % 10 == 0 else random.normal(0, 100, rows).round(2)
        for number in range(WIDE_COLUMNS)
    }
    pl.DataFrame(columns).write_csv(path)
    return rows


def read_with_polars(path: Path) -> int:
    frame = pl.scan_csv(path, infer_schema_length=1_000, try_parse_dates=True, ignore_errors=True)
    schema = frame.collect_schema()
    ranged = [column for column, dtype in schema.items() if dtype.is_numeric() or dtype.is_temporal()]
    facts = frame.select(
        pl.len(),
        pl.all().null_count().name.suffix(" nulls"),
        pl.col(ranged).min().name.suffix(" least"),
        pl.col(ranged).max().name.suffix(" greatest"),
        pl.all().approx_n_unique().name.suffix(" distinct"),
    ).collect(engine="streaming")
    return int(facts.item(0, 0))


def read_with_duckdb(path: Path) -> int:
    import duckdb

    with duckdb.connect() as connection:
        # A long query prints a progress bar, and the standard output is for the result.
        connection.execute("SET enable_progress_bar = false")
        # The first lines show which columns have a range. The query itself detects the types in the whole file.
        types: list[tuple[Any, ...]] = connection.execute("DESCRIBE FROM read_csv(?)", [str(path)]).fetchall()
        facts = ", ".join(duckdb_facts(f'"{name}"', dtype) for name, dtype, *_ in types)
        query = f"SELECT count(*), {facts} FROM read_csv(?, sample_size = -1)"  # noqa: S608 - names of our own file
        found = connection.execute(query, [str(path)]).fetchone()
    return int(found[0]) if found else 0


def duckdb_facts(column: str, dtype: str) -> str:
    """Returns the aggregates of a column."""
    ranged = dtype not in ("VARCHAR", "BOOLEAN")
    least = f", min({column}), max({column})" if ranged else ""
    return f"count(*) - count({column}), approx_count_distinct({column}){least}"


def read_with_ours(path: Path) -> int:
    try:
        return profile_file(path).rows
    except UnreadableFileError as error:
        print(error, file=sys.stderr)
        return REFUSED


READERS: dict[str, Callable[[Path], int]] = {
    "ours": read_with_ours,
    "polars": read_with_polars,
    "DuckDB": read_with_duckdb,
}


def read(side: str, path: str) -> None:
    """Runs in the measured process: prints the seconds, the peak memory in MB and the rows of one read."""
    pl.DataFrame({"warm": [1]}).lazy().select(pl.all().sum()).collect(engine="streaming")
    if side == "DuckDB":
        __import__("duckdb").sql("SELECT 1").fetchall()
    start = time.perf_counter()
    rows = READERS[side](Path(path))
    seconds = time.perf_counter() - start
    print(json.dumps([seconds, peak_mb(), rows]))


def run_read(side: str, path: Path, rows: int, *, may_lack: int = 0) -> Run:
    """Starts a process that reads the file. Returns its seconds and its peak memory in MB."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, side, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    seconds, peak, found = json.loads(done.stdout.splitlines()[-1])
    if found == REFUSED:
        return float("nan"), peak
    if not rows - may_lack <= found <= rows:
        raise RuntimeError(f"{side} counted {found:,} rows where {rows:,} were written")
    return seconds, peak


def sides() -> list[str]:
    """Returns our reader and the peers that are installed."""
    if find_spec("duckdb") is None:
        Console().print("DuckDB is left out: it is not installed. Run `make bench`, which installs it.")
        return ["ours", "polars"]
    return ["ours", *PEERS]


def seconds_of(runs: Sequence[Run]) -> list[float]:
    return [seconds for seconds, _ in runs]


def compare(title: str, path: Path, rows: int, rounds: int) -> None:
    """Prints times and memory of all sides, and the speed as a ratio to each peer."""
    results = take_turns({side: partial(run_read, side, path, rows) for side in sides()}, rounds, warm_up=0)
    megabytes = path.stat().st_size / 1e6
    shown = []
    for side, runs in results.items():
        median, peak = statistics.median(seconds_of(runs)), max(peak for _, peak in runs)
        speeds = [
            f"{paired_ratio(seconds_of(results[peer]), seconds_of(runs)):.2f}" for peer in results if peer in PEERS
        ]
        shown.append((side, f"{median:.2f}", f"{megabytes / median:.0f}", *speeds, f"{peak:.0f}"))
    peers = [f"speed to {peer}" for peer in results if peer in PEERS]
    columns = ("", "seconds", "MB/s", *peers, "peak MB")
    show(f"{title}: {megabytes:,.0f} MB, {rows:,} rows, {rounds} rounds", columns, shown)


def compare_dirty(clean: Path, dirty: Path, rows: int, rounds: int) -> None:
    """Prints our time for a file with faults, and its ratio to the file without."""
    may_lack = rows // DIRTY_EVERY + 1
    results = take_turns(
        {
            "clean": partial(run_read, "ours", clean, rows),
            "dirty": partial(run_read, "ours", dirty, rows, may_lack=may_lack),
        },
        rounds,
        warm_up=0,
    )
    shown = [
        (
            name,
            f"{statistics.median(seconds_of(runs)):.2f}",
            f"{paired_ratio(seconds_of(runs), seconds_of(results['clean'])):.2f}",
            f"{max(peak for _, peak in runs):.0f}",
        )
        for name, runs in results.items()
    ]
    limits = f"at most {DIRTY_LIMIT} of the clean file's time, peak below {PEAK_LIMIT_MB} MB; nan: refused"
    title = f"A fault in 1 of {DIRTY_EVERY:,} rows, ours ({limits})"
    show(f"{title}: {rows:,} rows, {rounds} rounds", ("", "seconds", "time to clean", "peak MB"), shown)


def main() -> None:
    chosen = options(__doc__, size_mb=1_000, rounds=3, wide_rows=2_000)
    limits = f"at least {DUCKDB_LIMIT} of DuckDB's speed, {POLARS_LIMIT} of polars', peak below {PEAK_LIMIT_MB} MB"
    size, few = chosen.size_mb * 1_000_000, max(1, chosen.rounds // 3)
    with tempfile.TemporaryDirectory(prefix="scan-speed-") as folder:
        path, other = Path(folder) / "customers.csv", Path(folder) / "others.csv"
        rows = write_csv(path, size)
        compare(f"CSV of constant types ({limits})", path, rows, chosen.rounds)
        compare_dirty(path, other, write_csv(other, path.stat().st_size, change=with_faults), chosen.rounds)
        rows = write_csv(path, size, quotes="always")
        compare(f"CSV with every field quoted ({limits})", path, rows, few)
        rows = write_csv(path, size, "0,1.5,,,,,,,,\n")
        compare("CSV with another type in its last row", path, rows, few)
        rows = write_wide_csv(path, chosen.wide_rows)
        compare(f"CSV of {WIDE_COLUMNS:,} columns ({limits})", path, rows, few)


if __name__ == "__main__":
    main()
