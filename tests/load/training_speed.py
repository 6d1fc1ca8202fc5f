"""How long our training takes beside the library called directly with the same parameters, on the same file.

``python -m tests.load.training_speed`` prints a table. Ours is all the training job does after its process has started:
the file read, columns understood, rows held out, features encoded, the model fitted with progress and saves, measured
and written. The library's is a careful script: polars reads the file, categories become codes, its own data set is
built, as many rounds are fitted with its own early stopping watching, held-out rows are predicted. The two take turns.

The library fits as many rounds as ours did in the turn before: where early stopping ends a fit hangs on the rows held
out, and would drown the ratio.

``--gpu`` compares our job on one GPU with our job on this machine's processors instead.
"""

import argparse
import contextlib
import hashlib
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import polars as pl
import xgboost
from shared.propensity.metrics import measure

from functions.jobs.container import Container
from functions.jobs.train.job import train
from shared.models.job import JobFile, MetricName, TrainingJob
from shared.propensity.architectures.base import Hardware, threads_for
from shared.propensity.architectures.configuration import LightGBMConfiguration, XGBoostConfiguration
from shared.propensity.architectures.lightgbm import library_parameters as lightgbm_parameters
from shared.propensity.architectures.xgboost import feature_types
from shared.propensity.architectures.xgboost import library_parameters as xgboost_parameters
from shared.propensity.checkpoints import read_checkpoint

ROWS, NUMBERS, CATEGORIES = 300_000, 12, 8
SEED = 11


def customers(rows: int) -> pl.DataFrame:
    """Twelve numeric and eight categorical columns with gaps; the answer depends on some of both, and on chance."""
    random = np.random.default_rng(SEED)
    numbers = {f"number_{index}": random.normal(size=rows) for index in range(NUMBERS)}
    codes = {f"category_{index}": random.integers(0, 3 + 6 * index, rows) for index in range(CATEGORIES)}
    effect: Any = numbers["number_0"] + numbers["number_1"] * numbers["number_2"] + np.sin(2 * numbers["number_3"])
    for name in ("category_3", "category_6"):
        effect += random.normal(size=int(codes[name].max()) + 1)[codes[name]]
    bought = random.random(rows) < 1 / (1 + np.exp(-(effect - 1.5)))
    columns: dict[str, Any] = {}
    for name, measured in numbers.items():
        columns[name] = pl.Series(measured.round(4)).set(pl.Series(random.random(rows) < 0.05), None)
    for name, values in codes.items():
        names = pl.Series([f"{name}-{code:03}" for code in range(int(values.max()) + 1)])
        columns[name] = names.gather(values).set(pl.Series(random.random(rows) < 0.05), None)
    return pl.DataFrame(columns | {"bought": np.where(bought, "yes", "no")})


@dataclass(frozen=True)
class Outcome:
    """What a fit was worth on held-out rows, and how many rounds it ran."""

    auc: float
    rounds: int


class LocalStore:
    """Hands the job the file from memory, as S3 would from afar: reading over a network is no part of the ratio."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def get_object(self, **_: Any) -> dict[str, Any]:
        """The object's body, in chunks."""
        content = self.content

        class Body:
            def iter_chunks(self, size: int) -> Any:
                stream = BytesIO(content)
                return iter(lambda: stream.read(size), b"")

        return {"Body": Body()}


def ours(architecture: str, path: Path, folder: Path, gpu_count: int = 0) -> Outcome:
    """Our job with its defaults."""
    content = path.read_bytes()
    etag = hashlib.sha256(content[:10_000]).hexdigest()
    file = JobFile(bucket="b", key=path.name, etag=etag, size_bytes=len(content))
    job = TrainingJob.model_validate(
        {
            "training_id": "t",
            "space_id": "s",
            "architecture": architecture,
            "gpu_count": gpu_count,
            "datasets": [{"connector_id": "c", "files": [file], "target": "bought"}],
        }
    )
    container = Container.of({"SAGEMAKER_BASE_DIR": str(folder)})
    container.model_folder.mkdir(parents=True)
    train(job, container, threading.Event(), lambda *_, **__: LocalStore(content))
    checkpoint = read_checkpoint(container.model_folder)
    return Outcome(
        auc=checkpoint.measurement.metrics[MetricName.ROC_AUC] or 0.0,
        rounds=max(point.step for point in checkpoint.series),
    )


def library(architecture: str, path: Path, rounds: int) -> Outcome:
    """The library alone with our parameters, on the same shares of rows."""
    frame = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path, infer_schema_length=10_000)
    labels = (frame["bought"] == "yes").to_numpy().astype(np.float32)
    features = frame.drop("bought")
    texts = [name for name, dtype in features.schema.items() if dtype == pl.String]
    coded = features.with_columns(pl.col(texts).cast(pl.Categorical).to_physical())
    matrix = coded.select(pl.all().cast(pl.Float32)).to_numpy()
    categorical = [features.columns.index(name) for name in texts]
    random = np.random.default_rng(SEED)
    part = random.random(len(labels))
    test, validation = part < 0.2, (part >= 0.2) & (part < 0.36)
    fit = part >= 0.36
    count = int((~test).sum())
    hardware = Hardware(threads=threads_for(matrix[fit]))
    if architecture == "lightgbm":
        configuration = LightGBMConfiguration(n_estimators=rounds, early_stopping_rounds=rounds).resolved(
            int((~test).sum())
        )
        parameters = lightgbm_parameters(configuration, hardware, 0)
        training_set = lightgbm.Dataset(matrix[fit], labels[fit], categorical_feature=categorical, params=parameters)
        booster = lightgbm.train(
            parameters,
            training_set,
            configuration.n_estimators,
            valid_sets=[training_set.create_valid(matrix[validation], labels[validation])],
            callbacks=[lightgbm.early_stopping(configuration.early_stopping_rounds, verbose=False)],
        )
        probabilities = np.asarray(booster.predict(matrix[test]))
    else:
        chosen = XGBoostConfiguration(n_estimators=rounds, early_stopping_rounds=rounds).resolved(count)
        types = feature_types(matrix.shape[1], categorical)
        options: dict[str, Any] = {"feature_types": types, "enable_categorical": True, "max_bin": chosen.max_bin}
        fitted = xgboost.QuantileDMatrix(matrix[fit], labels[fit], **options)
        watched = xgboost.QuantileDMatrix(matrix[validation], labels[validation], ref=fitted, **options)
        model = xgboost.train(
            xgboost_parameters(chosen, hardware, 0),
            fitted,
            chosen.n_estimators,
            evals=[(watched, "validation")],
            early_stopping_rounds=chosen.early_stopping_rounds,
            verbose_eval=False,
        )
        probabilities = model.inplace_predict(matrix[test], iteration_range=(0, model.best_iteration + 1))
    return Outcome(auc=measure(labels[test], probabilities).metrics[MetricName.ROC_AUC] or 0.0, rounds=rounds)


@dataclass(frozen=True)
class Turn:
    """One run of one side."""

    seconds: float
    processor_seconds: float
    outcome: Outcome

    @classmethod
    def of(cls, work: Callable[[], Outcome]) -> "Turn":
        """Runs and times the work, whose metric lines are kept off the table."""
        started, processor = time.perf_counter(), time.process_time()
        with contextlib.redirect_stdout(StringIO()):
            outcome = work()
        return cls(time.perf_counter() - started, time.process_time() - processor, outcome)


def start_up_seconds() -> float:
    """A fresh process up to the job's first line of work."""
    started = time.perf_counter()
    code = "import functions.jobs.train.__main__, lightgbm, xgboost"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).resolve().parents[2])
    return time.perf_counter() - started


def compare(architecture: str, path: Path, scratch: Path, runs: int) -> str:
    """One line of the table."""
    mine, theirs = [], []
    for run in range(runs):
        mine.append(Turn.of(partial(ours, architecture, path, scratch / f"{architecture}-{run}")))
        theirs.append(Turn.of(partial(library, architecture, path, mine[-1].outcome.rounds)))
    pairs = list(zip(mine, theirs, strict=True))
    ratio = statistics.median(our.seconds / their.seconds for our, their in pairs)
    processor = statistics.median(our.processor_seconds / their.processor_seconds for our, their in pairs)
    our_seconds, their_seconds = (statistics.median(turn.seconds for turn in turns) for turns in (mine, theirs))
    return (
        f"{architecture:10} {our_seconds:8.2f} {their_seconds:10.2f} {ratio:7.3f} {processor:10.3f} "
        f"{mine[0].outcome.auc:8.4f} {theirs[0].outcome.auc:10.4f} {mine[0].outcome.rounds:7}"
    )


def compare_with_gpu(architecture: str, path: Path, scratch: Path, runs: int) -> str:
    """One line of the table of ``--gpu``."""
    # The first fit on a GPU pays for its start.
    ours(architecture, path, scratch / f"{architecture}-start", gpu_count=1)
    turns = [
        (
            Turn.of(partial(ours, architecture, path, scratch / f"{architecture}-{run}-gpu", 1)),
            Turn.of(partial(ours, architecture, path, scratch / f"{architecture}-{run}-cpu")),
        )
        for run in range(runs)
    ]
    gpu, processors = (statistics.median(turn[side].seconds for turn in turns) for side in (0, 1))
    first = [turn.outcome for turn in turns[0]]
    return (
        f"{architecture:10} {gpu:8.2f} {processors:12.2f} {gpu / processors:7.3f} "
        f"{first[0].auc:8.4f} {first[1].auc:8.4f} {first[0].rounds:10} {first[1].rounds:7}"
    )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description="Our training beside the library called directly.")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--format", choices=("csv", "parquet"), default="csv")
    parser.add_argument("--gpu", action="store_true", help="our job on a GPU beside our job on processors")
    arguments, _ = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / f"customers.{arguments.format}"
        frame = customers(arguments.rows)
        if arguments.format == "csv":
            frame.write_csv(path)
        else:
            frame.write_parquet(path)
        line = compare_with_gpu if arguments.gpu else compare
        lines = [line(name, path, Path(scratch), arguments.runs) for name in ("lightgbm", "xgboost")]
    width = NUMBERS + CATEGORIES
    print(f"{arguments.rows:,} rows x {width} columns, {arguments.format}; {arguments.runs} turns each")
    if arguments.gpu:
        head = f"{'':10} {'GPU s':>8} {'processors s':>12} {'ratio':>7} "
        head += f"{'GPU AUC':>8} {'AUC':>8} {'GPU rounds':>10} {'rounds':>7}"
        print("\n".join([head, *lines]))
        return
    head = f"{'':10} {'ours s':>8} {'library s':>10} {'ratio':>7} {'CPU ratio':>10}"
    head += f" {'our AUC':>8} {'their AUC':>10} {'rounds':>7}"
    print("\n".join([head, *lines]))
    print("ratio: the median over the turns, at most 1.15 wanted")
    print(f"the job's start-up (process and imports), not counted above: {start_up_seconds():.2f} s")


if __name__ == "__main__":
    main()
