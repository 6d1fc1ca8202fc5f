"""Speed and memory of scoring a file to a file, against polars and LightGBM called on the same data.

The table has 16 columns of numbers and 4 of categories, in Parquet. Ours is the work of a run's task: it copies the
file, reads it by the product's reader in batches, encodes, refuses what can't be read, scores, and writes parts. The
peer reads the whole table by polars, replaces categories by codes, predicts with the same trees by LightGBM, and writes
one file. S3 and the table are folders and a dictionary here; both would wait for them alike. Each run has its own
process; imports and the model's loading are not counted. Every probability must be equal.
"""

import io
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from moto import mock_aws
from rich.console import Console

from functions.jobs.container import Container
from functions.jobs.train.job import train
from shared.models.job import JobFile, TrainingJob
from shared.models.run import PartResult, PredictionSettings, RunPart, RunPlan, RunTask
from shared.propensity.checkpoints import Scorer
from shared.propensity.log_odds import LogOddsModel
from shared.runs.plans import PART_ROWS, Plans
from shared.runs.predictions import PredictionWork
from shared.runs.tasks import TaskWorker
from tests.fixtures.aws import BUCKET
from tests.fixtures.trained_models import aws_client
from tests.load.harness import ROOT, options, paired_ratio, peak_mb, show, take_turns

NUMBERS, WORDS = 16, 4
TRAINED_ROWS = 40_000
SPEED_LIMIT = 0.9
PEAK_LIMIT_MB = 1024
# Ten times as many rows may take so much more memory.
GROWTH_LIMIT = 1.1
PROGRAM = "import sys; from tests.load.batch_scoring import score; score(*sys.argv[1:])"
Run = tuple[float, float]


def customers(rows: int, seed: int) -> pl.DataFrame:
    """Returns customers with numbers, gaps and categories."""
    random = np.random.default_rng(seed)
    numbers = {f"number {index}": random.normal(size=rows).round(4) for index in range(NUMBERS)}
    words = {f"word {index}": random.choice([f"value {each}" for each in range(30)], rows) for index in range(WORDS)}
    frame = pl.DataFrame({"customer_id": np.arange(rows) + seed * 10**9, **numbers, **words})
    gap = pl.Series(random.random(rows) < 0.05)
    return frame.with_columns(pl.when(~gap).then(pl.col("number 0")).alias("number 0"))


def write_table(path: Path, rows: int) -> None:
    """Writes a table in row groups, without holding all of it."""
    blocks = [pl.LazyFrame(customers(min(100_000, rows - start), start)) for start in range(0, rows, 100_000)]
    pl.concat(blocks).sink_parquet(path, row_group_size=100_000)


def write_model(folder: Path) -> None:
    """Trains a model with the training job."""
    frame = customers(TRAINED_ROWS, 1)
    is_third = (frame["word 0"] == "value 3").cast(pl.Float64)
    chance = 1 / (1 + np.exp(-(frame["number 1"] * 2 + frame["number 2"] + is_third * 2).to_numpy()))
    frame = frame.with_columns(bought=pl.Series(np.random.default_rng(2).random(TRAINED_ROWS) < chance))
    content = frame.drop("customer_id").write_csv().encode()
    container = Container.of({"SAGEMAKER_BASE_DIR": str(folder)})
    container.model_folder.mkdir(parents=True)
    with mock_aws():
        s3 = aws_client("s3")
        s3.create_bucket(Bucket=BUCKET)
        etag = s3.put_object(Bucket=BUCKET, Key="a.csv", Body=content)["ETag"].strip('"')
        file = {"bucket": BUCKET, "key": "a.csv", "etag": etag, "size_bytes": len(content)}
        dataset = {"connector_id": "c", "target": "bought", "files": [file]}
        settings = {"n_estimators": 200, "ensemble_size": 1, "learning_rate": 0.03}
        job = {"training_id": "t", "space_id": "s", "architecture": "lightgbm", "configuration": settings}
        train(TrainingJob.model_validate({**job, "datasets": [dataset]}), container, threading.Event(), aws_client)


class LocalS3:
    """Files of a folder, read and written as objects."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get_object(self, *, Key: str, **_: Any) -> dict[str, Any]:  # noqa: N803 - boto3's spelling
        return {"Body": Body((self._folder / Key).open("rb"))}

    def put_object(self, *, Key: str, Body: Any, **_: Any) -> None:  # noqa: N803
        path = self._folder / Key
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as target:
            while chunk := Body.read(1 << 20):
                target.write(chunk)


class Body:
    def __init__(self, content: io.BufferedReader) -> None:
        self._content = content

    def iter_chunks(self, size: int) -> Any:
        return iter(lambda: self._content.read(size), b"")


class MemoryRuns:
    """The finished parts of one run."""

    def __init__(self) -> None:
        self.results: list[PartResult] = []

    def finished(self, *_: Any) -> dict[int, PartResult]:
        return {}

    def record(self, _space_id: str, _work_id: str, result: PartResult) -> None:
        self.results.append(result)

    def rows_refused(self, *_: Any) -> int:
        return 0

    def has_ended(self, *_: Any) -> bool:
        return False


def score(side: str, folder: str, table: str) -> None:
    """Scores a table in this process, and prints the seconds and the peak of the memory in MB."""
    scorer = Scorer(Path(folder) / "model")
    scorer.probabilities(np.zeros((1, NUMBERS + WORDS), dtype=np.float32))
    before = time.perf_counter()
    output = Path(folder) / side
    if side == "ours":
        _ours(scorer, Path(folder), table, output)
    else:
        _peer(scorer, Path(folder) / table, output)
    seconds = time.perf_counter() - before
    print(json.dumps([seconds, peak_mb()]))


def _ours(scorer: Scorer, folder: Path, table: str, output: Path) -> None:
    rows = pl.scan_parquet(folder / table).select(pl.len()).collect().item()
    file = JobFile(bucket=BUCKET, key=table, etag="e", size_bytes=(folder / table).stat().st_size, format="parquet")
    settings = PredictionSettings(artifact=file, contributions=False, key_columns=["customer_id"])
    plan = RunPlan(kind="prediction", space_id="s", work_id="w", settings={}, max_refused_rows=0)
    starts = range(0, rows, PART_ROWS)
    parts = [RunPart(number=number, first=first, records=PART_ROWS) for number, first in enumerate(starts)]
    s3, runs = LocalS3(folder), MemoryRuns()
    worker = TaskWorker(plan, "r", runs, Plans(LocalS3(output), BUCKET), LocalS3(output), lambda *_, **__: s3)  # type: ignore[arg-type]
    worker.work_on(RunTask(file=file, parts=parts), PredictionWork(scorer, settings))
    assert sum(result.rows_written for result in runs.results) == rows


def _peer(scorer: Scorer, table: Path, output: Path) -> None:
    checkpoint, model = scorer.checkpoint, scorer._model
    assert isinstance(model, LogOddsModel)
    assert not model.columns
    frame = pl.read_parquet(table)
    codes = {
        feature.name: pl.col(feature.name).replace_strict(
            feature.categories, list(range(len(feature.categories))), default=None, return_dtype=pl.Float32
        )
        for feature in checkpoint.features.features
        if feature.kind == "categorical"
    }
    names = [feature.name for feature in checkpoint.features.features]
    matrix = frame.select(codes.get(name, pl.col(name).cast(pl.Float32)).alias(name) for name in names).to_numpy()
    probabilities = 1 / (1 + np.exp(-(model._booster.predict(matrix, raw_score=True) + model.bias)))
    labels = np.where(probabilities >= checkpoint.threshold, checkpoint.positive_label, checkpoint.negative_label)
    keys = frame["customer_id"].cast(pl.String)
    result = pl.DataFrame({"client_key": keys, "probability": probabilities, "label": labels})
    output.mkdir(exist_ok=True)
    result.write_parquet(output / "all.parquet")


def measure(side: str, folder: Path, table: str) -> Run:
    command = [sys.executable, "-c", PROGRAM, side, str(folder), table]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    seconds, peak = json.loads(done.stdout.splitlines()[-1])
    return seconds, peak


def require_equal(folder: Path) -> None:
    """Requires that both sides wrote the same probabilities."""
    ours = pl.read_parquet(folder / "ours" / "**" / "parts" / "*.parquet", glob=True).sort("client_key")["probability"]
    theirs = pl.read_parquet(folder / "peer" / "all.parquet").sort("client_key")["probability"]
    assert ours.to_list() == theirs.to_list()


def main() -> None:
    wanted = options(__doc__, rows=1_000_000, rounds=5, large=10)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_model(folder)
        write_table(folder / "table.parquet", wanted.rows)
        sides = {side: lambda side=side: measure(side, folder, "table.parquet") for side in ("ours", "peer")}
        runs = take_turns(sides, wanted.rounds)
        require_equal(folder)
        write_table(folder / "large.parquet", wanted.rows * wanted.large)
        large = measure("ours", folder, "large.parquet")
    report(wanted.rows, runs, large, wanted.large)


def report(rows: int, runs: dict[str, list[Run]], large: Run, factor: int) -> None:
    """Shows the results. Exits with an error for results beyond a limit."""
    seconds = {side: [each[0] for each in found] for side, found in runs.items()}
    peaks = {side: statistics.median(each[1] for each in found) for side, found in runs.items()}
    speed = paired_ratio(seconds["peer"], seconds["ours"])
    growth = large[1] / peaks["ours"]
    rates = {side: rows / statistics.median(found) for side, found in seconds.items()}
    lines: list[Sequence[str]] = [
        (side, f"{rates[side]:,.0f}", f"{statistics.median(seconds[side]):.2f}", f"{peaks[side]:,.0f}") for side in runs
    ]
    rate = f"{rows * factor / large[0]:,.0f}"
    lines.append((f"ours, {factor} times the rows", rate, f"{large[0]:.2f}", f"{large[1]:,.0f}"))
    show("scoring a file to a file", ("", "rows a second", "seconds", "peak MB"), lines)
    Console().print(f"speed {speed:.2f} of the peer's; memory {growth:.2f} times as much for {factor} times the rows")
    problems = [
        *([f"the speed is {speed:.2f} of the peer's, below {SPEED_LIMIT}"] if speed < SPEED_LIMIT else []),
        *([f"the peak is {large[1]:.0f} MB, above {PEAK_LIMIT_MB}"] if large[1] > PEAK_LIMIT_MB else []),
        *([f"the memory grew {growth:.2f} times, above {GROWTH_LIMIT}"] if growth > GROWTH_LIMIT else []),
    ]
    if problems:
        raise SystemExit("; ".join(problems))


if __name__ == "__main__":
    main()
