"""How fast one gigabyte of CSV is scanned, beside polars' own streaming engine over the same columns.

``python -m tests.load.scan_speed`` prints a table. Ours does everything a scan does: format, encoding, dialect, types
that hold over the whole file, missing values in their common spellings, the profile. Polars' is ``scan_csv`` with its
own schema from 1,000 rows (dates parsed), counting rows and nulls, and taking the least, the greatest and the
approximate number of distinct values of every column; ``without distinct`` leaves the last out. Each run is a process
of its own, whose time to import polars is not counted; the runs take turns. The second file needs our slow path: on its
last row a column of whole numbers turns out to have a fraction.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table
from shared.scanning.profile import profile_file

SEED = 7
BLOCK_ROWS = 500_000
READERS = ("ours", "polars", "polars without distinct")
PEAK_LIMIT_MB = 1_000


def write_csv(path: Path, size_bytes: int, last_row: str = "") -> int:
    """Customers with ids, numbers, dates, words and gaps, about so many bytes; how many rows they are."""
    random = np.random.default_rng(SEED)
    rows = BLOCK_ROWS
    days = np.datetime64("1990-01-01") + random.integers(0, 12_000, rows)
    block = pl.DataFrame(
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
    written = 0
    with path.open("wb") as file:
        file.write(f"customer_id,{','.join(block.columns)}\n".encode())
        while file.tell() < size_bytes:
            ids = pl.Series("customer_id", np.arange(written, written + rows))
            block.select(ids, pl.all()).write_csv(file, include_header=False)
            written += rows
        file.write(last_row.encode())
    return written + bool(last_row)


def read_ours(path: Path) -> int:
    return profile_file(path).rows


def read_polars(path: Path, *, distinct: bool) -> int:
    frame = pl.scan_csv(path, infer_schema_length=1_000, try_parse_dates=True, ignore_errors=True)
    schema = frame.collect_schema()
    ranged = [column for column, dtype in schema.items() if dtype.is_numeric() or dtype.is_temporal()]
    facts = frame.select(
        pl.len(),
        pl.all().null_count().name.suffix(" nulls"),
        pl.col(ranged).min().name.suffix(" least"),
        pl.col(ranged).max().name.suffix(" greatest"),
        *([pl.all().approx_n_unique().name.suffix(" distinct")] if distinct else []),
    ).collect(engine="streaming")
    return int(facts.item(0, 0))


def run(reader: str, path: Path) -> tuple[float, float, int]:
    """Seconds, peak memory in MB and rows of one reader in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", __spec__.name, "--reader", reader, "--path", str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    seconds, peak, rows = json.loads(done.stdout.splitlines()[-1])
    return seconds, peak, rows


def read(reader: str, path: Path) -> None:
    """One run, in the process that is measured: prints what ``run`` answers."""
    pl.DataFrame({"warm": [1]}).lazy().select(pl.all().sum()).collect(engine="streaming")
    start = time.perf_counter()
    rows = read_ours(path) if reader == "ours" else read_polars(path, distinct=reader == "polars")
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(json.dumps([seconds, peak, rows]) + "\n")


def measure(console: Console, title: str, path: Path, rows: int, rounds: int) -> None:
    results: dict[str, list[tuple[float, float]]] = {reader: [] for reader in READERS}
    for _ in range(rounds):
        for reader in READERS:
            seconds, peak, found = run(reader, path)
            if found != rows:
                raise RuntimeError(f"{reader} counted {found:,} rows where {rows:,} were written")
            results[reader].append((seconds, peak))
    ours = statistics.median(seconds for seconds, _ in results["ours"])
    size = path.stat().st_size
    table = Table(title=f"{title}: {size / 1e6:,.0f} MB, {rows:,} rows, {rounds} rounds", title_justify="left")
    for heading in ("Reader", "Seconds (median)", "MB/s", "Speed of ours to it", "Peak MB"):
        table.add_column(heading, justify="left" if heading == "Reader" else "right")
    for reader, runs in results.items():
        median = statistics.median(seconds for seconds, _ in runs)
        peak = max(peak for _, peak in runs)
        table.add_row(reader, f"{median:.2f}", f"{size / 1e6 / median:.0f}", f"{median / ours:.2f}x", f"{peak:.0f}")
    console.print(table)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size-mb", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--reader", choices=READERS)
    parser.add_argument("--path", type=Path)
    options = parser.parse_args(arguments or [])
    if options.reader:
        read(options.reader, options.path)
        return
    console = Console()
    with tempfile.TemporaryDirectory(prefix="scan-speed-") as folder:
        path = Path(folder) / "customers.csv"
        rows = write_csv(path, options.size_mb * 1_000_000)
        measure(console, "CSV as its beginning promises", path, rows, options.rounds)
        last_row = "0,1.5,,,,,,,,\n"
        rows = write_csv(path, options.size_mb * 1_000_000, last_row)
        measure(console, "CSV whose last row changes a type", path, rows, max(1, options.rounds // 3))
    console.print(f"Wanted: at least 0.7x of polars, and a peak under {PEAK_LIMIT_MB:,} MB.")


if __name__ == "__main__":
    main(sys.argv[1:])
