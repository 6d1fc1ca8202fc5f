"""How well a job foretells its own end, and how well the last similar job foretells the next one's cost.

Real jobs train on small and on medium tables. Their clock is the processor time, so that other processes do not count.
When a quarter, a half and three quarters of a job's time are over, the whole time that it expected then is compared
with the whole time that it took. A cost is this time at a price, so two similar jobs differ in it as in their times.
"""

import contextlib
import time
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl

from functions.jobs import progress
from functions.jobs.time_left import Stage, TimeLeft
from shared.models.job import JobEstimate
from tests.fixtures.datasets import COLLEGE, GERMAN_CREDIT, ORANGE_JUICE
from tests.load.harness import options, show
from tests.load.training_memory import run_job
from tests.load.training_speed import customers

ARCHITECTURES = ("lightgbm", "xgboost", "auto", "additive")
SHARES = (0.25, 0.5, 0.75)
LIMIT = 0.2


class Watched(TimeLeft):
    """Keeps each estimate with its time."""

    found: list[tuple[float, JobEstimate | None]]

    def __init__(self, stages: list[Stage]) -> None:
        super().__init__(stages, time.process_time)
        Watched.found = [(time.process_time(), None)]

    def record(self, series: str, loss: float) -> None:
        super().record(series, loss)
        Watched.found.append((time.process_time(), self.estimate()))


def expectations(architecture: str, path: Path, target: str, seed: int) -> tuple[float, list[float | None]]:
    """Returns the seconds that a job takes, and what it expected them to be when shares of them were over."""
    before = time.process_time()
    with contextlib.redirect_stdout(StringIO()):
        run_job(path, architecture, {"seed": seed}, target)
    ended = time.process_time()
    start = Watched.found[0][0]
    expected: list[float | None] = []
    for share in SHARES:
        moment = start + share * (ended - start)
        at, estimate = [each for each in Watched.found if each[0] <= moment][-1]
        expected.append(None if estimate is None else (at - start + estimate.seconds_left) / (ended - start))
    return ended - before, expected


def main() -> None:
    chosen = options(__doc__, rows=30_000)
    # The reporter of a job makes its estimates by it.
    progress.TimeLeft = Watched  # type: ignore[misc, assignment]
    rows: list[list[str]] = []
    with TemporaryDirectory() as folder:
        tables: dict[str, tuple[pl.DataFrame, str]] = {
            **{each.name: (each.frame(), each.target) for each in (ORANGE_JUICE, COLLEGE, GERMAN_CREDIT)},
            f"generated, {chosen.rows:,} rows": (customers(chosen.rows), "bought"),
        }
        for name, (frame, target) in tables.items():
            path = Path(folder) / f"{len(rows)}.csv"
            frame.write_csv(path)
            for architecture in ARCHITECTURES:
                seconds, expected = expectations(architecture, path, target, 0)
                other, _ = expectations(architecture, path, target, 1)
                errors: list[Any] = [None if each is None else each - 1 for each in (*expected, seconds / other)]
                rows.append(
                    [name, architecture, f"{seconds:.1f}", *("" if each is None else f"{each:+.0%}" for each in errors)]
                )
    columns = ["", "", "s", *(f"at {share:.0%}" for share in SHARES), "cost, by the last one"]
    show(f"Errors of what was expected of a job's whole time (wanted within {LIMIT:.0%})", columns, rows)


if __name__ == "__main__":
    main()
