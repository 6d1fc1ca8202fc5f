"""Compares the scoring of a checkpoint with LightGBM, which scores the same encoded rows directly with the same trees.

It prints the speed for one row and for many, the size of a checkpoint, and how long it takes until it is loaded. Many
rows use several processors, which other processes may use at the same time, so their speed is also given by processor
time. The last table loads many checkpoints with nothing in memory, as a function does for its first insight.
"""

import gc
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import boto3
import lightgbm
from moto import mock_aws

from shared.models.job import JobFile
from shared.propensity.checkpoints import Scorer
from shared.propensity.features import Matrix
from shared.propensity.log_odds import TREES_FILE
from shared.propensity.scorers import Scorers
from tests.fixtures.aws import BUCKET
from tests.fixtures.trained_models import customers, packed, train_model
from tests.load.harness import milliseconds, options, paired_ratio, show, take_turns

ARCHITECTURES = ("auto", "lightgbm", "xgboost")
MANY_ROWS, CALLS = 10_000, 50
COLD, RESIDENT = 50, 200
SPEED, COLD_SECONDS, RESIDENT_MB = 0.9, 2.0, 3000


def compare(name: str, folder: Path, rounds: int) -> list[tuple[str, ...]]:
    """Returns a row of results for one row, and one for many. The ratio is our speed by LightGBM's."""
    scorer, trees = Scorer(folder), lightgbm.Booster(model_file=folder / TREES_FILE)
    clients = customers(MANY_ROWS, seed=9).drop("bought").to_dicts()
    found: list[tuple[str, ...]] = []
    for rows, calls in ((clients[:1], CALLS), (clients, 1)):
        matrix = scorer.checkpoint.features.encode_rows(rows)
        # One row is scored fastest by one thread.
        threads = 1 if len(rows) == 1 else 0
        sides = {
            "ours": milliseconds(partial(scorer.probabilities, matrix), calls=calls),
            "LightGBM": milliseconds(partial(trees.predict, matrix, num_threads=threads), calls=calls),
            "from clients' fields": milliseconds(partial(scorer.score, rows), calls=calls),
        }
        turns = rounds if calls > 1 else max(rounds // 10, 5)
        times = take_turns(sides, turns, warm_up=2)
        speed = 1 / paired_ratio(times["ours"], times["LightGBM"])
        medians = (f"{sorted(values)[len(values) // 2]:.3f}" for values in times.values())
        processor = "" if len(rows) == 1 else f"{processor_speed(scorer, trees, matrix, turns):.2f}"
        found.append((name, f"{len(rows):,}", *medians, f"{speed:.2f}", processor))
    return found


def processor_speed(scorer: Scorer, trees: lightgbm.Booster, matrix: Matrix, rounds: int) -> float:
    """Returns our speed by LightGBM's in processor time, which is that of all threads."""
    sides = {
        "ours": milliseconds(partial(scorer.probabilities, matrix), clock=time.process_time),
        "LightGBM": milliseconds(partial(trees.predict, matrix), clock=time.process_time),
    }
    times = take_turns(sides, rounds)
    return 1 / paired_ratio(times["ours"], times["LightGBM"])


def describe(name: str, folder: Path, rounds: int) -> tuple[str, ...]:
    size = sum(path.stat().st_size for path in folder.iterdir())
    trees = partial(lightgbm.Booster, model_file=folder / TREES_FILE)
    times = take_turns({"ours": milliseconds(partial(Scorer, folder)), "LightGBM": milliseconds(trees)}, rounds)
    ours, theirs = (f"{sorted(values)[len(values) // 2]:.1f}" for values in times.values())
    return name, f"{trees().num_trees():,}", f"{size / 1e6:.2f}", f"{len(packed(folder)) / 1e6:.2f}", ours, theirs


@contextmanager
def stored(folder: Path, count: int) -> Iterator[dict[str, JobFile]]:
    """Stores copies of one checkpoint, and yields their artifacts."""
    content = packed(folder)
    with mock_aws():
        s3 = boto3.client("s3", region_name="us-east-1")
        s3.create_bucket(Bucket=BUCKET)
        artifacts = {}
        for key in map(str, range(count)):
            etag = s3.put_object(Bucket=BUCKET, Key=key, Body=content)["ETag"].strip('"')
            artifacts[key] = JobFile(bucket=BUCKET, key=key, etag=etag, size_bytes=len(content))
        yield artifacts


def megabytes() -> float:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def load_many(folder: Path) -> list[tuple[str, ...]]:
    row = customers(1).drop("bought").to_dicts()
    with stored(folder, RESIDENT) as artifacts:
        s3, scorers = boto3.client("s3", region_name="us-east-1"), Scorers()
        before, began, worked = megabytes(), time.perf_counter(), time.process_time()
        for count in (COLD, RESIDENT):
            wanted = dict(list(artifacts.items())[:count])
            for _, scorer in scorers.each(s3, wanted):
                assert isinstance(scorer, Scorer)
                scorer.score(row)
            if count == COLD:
                cold, processor = time.perf_counter() - began, time.process_time() - worked
        assert len(scorers) == RESIDENT
        held = megabytes() - before
    return [
        (f"{COLD} checkpoints loaded and asked, s (less than {COLD_SECONDS:g})", f"{cold:.2f}"),
        ("processor time of it, s", f"{processor:.2f}"),
        (f"{RESIDENT} checkpoints in memory, MB (less than {RESIDENT_MB:,})", f"{held:,.0f}"),
    ]


def main() -> None:
    rounds = options(__doc__, rounds=100).rounds
    with tempfile.TemporaryDirectory() as base:
        folders = {name: train_model(Path(base) / name, name, {}) for name in ARCHITECTURES}
        speeds = [row for name, folder in folders.items() for row in compare(name, folder, rounds)]
        columns = ("", "rows", "ours, ms", "LightGBM, ms", "from clients' fields, ms", "speed to LightGBM", "processor")
        show(f"Scoring (at least {SPEED:g} of LightGBM's speed)", columns, speeds)
        parts = ("", "trees", "MB", "packed, MB", "ours loads, ms", "LightGBM loads, ms")
        show("Checkpoints", parts, [describe(name, folder, max(rounds // 5, 5)) for name, folder in folders.items()])
        show("Many checkpoints of auto, storage emulated in the process", ("", ""), load_many(folders["auto"]))


if __name__ == "__main__":
    main()
