"""Speed of the scan of one gigabyte of CSV, against polars' own streaming engine over the same columns.

Ours does all of a scan: format, encoding, dialect, types that hold over the whole file, missing values in their common
spellings, the profile. Polars' is ``scan_csv`` with its own schema from 1,000 rows (dates parsed): it counts rows and
nulls, and computes the minimum, the maximum and the approximate number of distinct values of each column. Each run has
its own process; the import of polars is not counted. The second file needs our slow path: its last row gives a column
of whole numbers a fraction.
"""

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from functions.workflows.connector_scan.profile import profile_file
from tests.load.harness import ROOT, options, paired_ratio, show, take_turns

BLOCK_ROWS = 500_000
SPEED_LIMIT = 0.7
PEAK_LIMIT_MB = 1_000
PROGRAM = "import sys; from tests.load.scan_speed import read; read(*sys.argv[1:])"


def write_csv(path: Path, size_bytes: int, last_row: str = "") -> int:
    """Writes customers with ids, numbers, dates, words and gaps, and returns the number of rows."""
    random = np.random.default_rng(7)
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


def read(side: str, path: str) -> None:
    """Runs in the measured process: prints the seconds, the peak memory in MB and the rows of one read."""
    pl.DataFrame({"warm": [1]}).lazy().select(pl.all().sum()).collect(engine="streaming")
    start = time.perf_counter()
    rows = profile_file(Path(path)).rows if side == "ours" else read_with_polars(Path(path))
    seconds = time.perf_counter() - start
    print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, rows]))


def run_read(side: str, path: Path, rows: int) -> tuple[float, float]:
    """Starts a process that reads the file. Returns its seconds and its peak memory in MB."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, side, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    seconds, peak, found = json.loads(done.stdout.splitlines()[-1])
    if found != rows:
        raise RuntimeError(f"{side} counted {found:,} rows where {rows:,} were written")
    return seconds, peak


def compare(title: str, path: Path, rows: int, rounds: int) -> None:
    results = take_turns({side: partial(run_read, side, path, rows) for side in ("ours", "polars")}, rounds, warm_up=0)
    megabytes = path.stat().st_size / 1e6
    seconds = {side: [taken for taken, _ in runs] for side, runs in results.items()}
    shown = []
    for side, runs in results.items():
        median, peak = statistics.median(seconds[side]), max(peak for _, peak in runs)
        speed = f"{paired_ratio(seconds['polars'], seconds[side]):.2f}"
        shown.append((side, f"{median:.2f}", f"{megabytes / median:.0f}", speed, f"{peak:.0f}"))
    columns = ("", "seconds", "MB/s", "speed to polars", "peak MB")
    show(f"{title}: {megabytes:,.0f} MB, {rows:,} rows, {rounds} rounds", columns, shown)


def main() -> None:
    chosen = options(__doc__, size_mb=1_000, rounds=3)
    with tempfile.TemporaryDirectory(prefix="scan-speed-") as folder:
        path = Path(folder) / "customers.csv"
        rows = write_csv(path, chosen.size_mb * 1_000_000)
        limits = f"at least {SPEED_LIMIT} of polars' speed, peak below {PEAK_LIMIT_MB:,} MB"
        compare(f"CSV of constant types ({limits})", path, rows, chosen.rounds)
        rows = write_csv(path, chosen.size_mb * 1_000_000, "0,1.5,,,,,,,,\n")
        compare("CSV with another type in its last row", path, rows, max(1, chosen.rounds // 3))


if __name__ == "__main__":
    main()
