"""Compares the time of our training job with direct calls of the library with the same parameters and file.

Our time includes all work of the job after the start of its process: it reads the file, infers columns, holds out
rows, encodes features, fits the model with progress and saves, measures it and writes it. The library's time is for a
careful script: polars reads the file, categories become codes, the library fits the model with early stopping and
predicts held-out rows. It fits the rounds of our previous run, because the round of an early stop depends on the
held-out rows.

``--gpu`` compares our job on one GPU with our job on this machine's processors instead, and ``--workers 2`` one worker
of XGBoost on one processor with two workers on two.
"""

import contextlib
import hashlib
import statistics
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

from functions.jobs.container import Container
from functions.jobs.fitting.base import Hardware, threads_for
from functions.jobs.fitting.lightgbm import library_parameters as lightgbm_parameters
from functions.jobs.fitting.xgboost import feature_types
from functions.jobs.fitting.xgboost import library_parameters as xgboost_parameters
from functions.jobs.modelling.metrics import measure
from functions.jobs.train.job import train
from shared.models.job import JobFile, MetricName, TrainingJob
from shared.propensity.architectures.configuration import LightGBMConfiguration, XGBoostConfiguration
from shared.propensity.checkpoints import read_checkpoint
from tests.load.harness import options, paired_ratio, show, take_turns
from tests.load.workers import compare_workers

NUMBERS, CATEGORIES = 12, 8
SEED = 11
LIMIT = 1.15


def customers(rows: int) -> pl.DataFrame:
    """Returns twelve numeric and eight categorical columns with gaps. The label depends on both kinds and on chance."""
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
class Quality:
    """The AUC of a model on held-out rows, and the number of its rounds."""

    auc: float
    rounds: int


@dataclass(frozen=True)
class TimedFit:
    """One measured training."""

    seconds: float
    processor_seconds: float
    quality: Quality


def timed(fit: Callable[[], Quality]) -> Callable[[], TimedFit]:
    """Returns a function that runs and measures a fit. Its printed metrics are discarded."""

    def run() -> TimedFit:
        began, worked = time.perf_counter(), time.process_time()
        with contextlib.redirect_stdout(StringIO()):
            quality = fit()
        return TimedFit(time.perf_counter() - began, time.process_time() - worked, quality)

    return run


class MemoryS3:
    """A client of S3 that returns the file from memory, because the ratio excludes the network."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def get_object(self, **_: Any) -> dict[str, Any]:
        return {"Body": self}

    def iter_chunks(self, size: int) -> Any:
        stream = BytesIO(self._content)
        return iter(lambda: stream.read(size), b"")


def ours(architecture: str, path: Path, *, gpu_count: int = 0) -> Quality:
    """Trains with our job and its defaults."""
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
    container = Container.of({"SAGEMAKER_BASE_DIR": tempfile.mkdtemp(dir=path.parent)})
    container.model_folder.mkdir(parents=True)
    train(job, container, threading.Event(), lambda *_, **__: MemoryS3(content))
    checkpoint = read_checkpoint(container.model_folder)
    auc = checkpoint.measurement.metrics[MetricName.ROC_AUC] or 0.0
    return Quality(auc, max(point.step for point in checkpoint.series))


def library(architecture: str, path: Path, rounds: int) -> Quality:
    """Trains with the library and our parameters, on the same shares of rows."""
    frame = pl.read_csv(path, infer_schema_length=10_000)
    labels = (frame["bought"] == "yes").to_numpy().astype(np.float32)
    features = frame.drop("bought")
    texts = [name for name, dtype in features.schema.items() if dtype == pl.String]
    coded = features.with_columns(pl.col(texts).cast(pl.Categorical).to_physical())
    matrix = coded.select(pl.all().cast(pl.Float32)).to_numpy()
    categorical = [features.columns.index(name) for name in texts]
    part = np.random.default_rng(SEED).random(len(labels))
    test, validation, fit = part < 0.2, (part >= 0.2) & (part < 0.36), part >= 0.36
    count, positives = int((~test).sum()), int(labels[~test].sum())
    hardware = Hardware(threads=threads_for(matrix[fit].size))
    if architecture == "lightgbm":
        configuration = LightGBMConfiguration(n_estimators=rounds, early_stopping_rounds=rounds).resolved(
            count, positives
        )
        parameters = lightgbm_parameters(configuration, hardware, 0)
        sets = categorical if configuration.categories == "sets" else []
        training_set = lightgbm.Dataset(matrix[fit], labels[fit], categorical_feature=sets, params=parameters)
        booster = lightgbm.train(
            parameters,
            training_set,
            configuration.n_estimators,
            valid_sets=[training_set.create_valid(matrix[validation], labels[validation])],
            callbacks=[lightgbm.early_stopping(configuration.early_stopping_rounds, verbose=False)],
        )
        probabilities = np.asarray(booster.predict(matrix[test]))
    else:
        chosen = XGBoostConfiguration(n_estimators=rounds, early_stopping_rounds=rounds).resolved(count, positives)
        types = feature_types(matrix.shape[1], categorical)
        data = partial(xgboost.QuantileDMatrix, feature_types=types, enable_categorical=True, max_bin=chosen.max_bin)
        fitted = data(matrix[fit], labels[fit])
        model = xgboost.train(
            xgboost_parameters(chosen, hardware, 0),
            fitted,
            chosen.n_estimators,
            evals=[(data(matrix[validation], labels[validation], ref=fitted), "validation")],
            early_stopping_rounds=chosen.early_stopping_rounds,
            verbose_eval=False,
        )
        probabilities = model.inplace_predict(matrix[test], iteration_range=(0, model.best_iteration + 1))
    return Quality(measure(labels[test], probabilities).metrics[MetricName.ROC_AUC] or 0.0, rounds)


def compare(architecture: str, path: Path, rounds: int, *, gpu: bool) -> list[str]:
    """Measures both sides in turns and returns a row of the table."""
    fitted: list[Quality] = []

    def fit_ours() -> Quality:
        fitted.append(ours(architecture, path, gpu_count=int(gpu)))
        return fitted[-1]

    def fit_peer() -> Quality:
        return ours(architecture, path) if gpu else library(architecture, path, fitted[-1].rounds)

    # The first fit on a GPU includes the start of the GPU, so it is a warm-up.
    turns = take_turns({"ours": timed(fit_ours), "peer": timed(fit_peer)}, rounds, warm_up=int(gpu))
    seconds = [[turn.seconds for turn in runs] for runs in turns.values()]
    processor = [[turn.processor_seconds for turn in runs] for runs in turns.values()]
    qualities = [runs[0].quality for runs in turns.values()]
    return [
        architecture,
        *(f"{statistics.median(values):.2f}" for values in seconds),
        f"{paired_ratio(*seconds):.3f}",
        f"{paired_ratio(*processor):.3f}",
        *(f"{quality.auc:.4f}" for quality in qualities),
        *(str(quality.rounds) for quality in qualities),
    ]


def main() -> None:
    chosen = options(__doc__, rows=300_000, rounds=3, gpu=False, workers=1)
    if chosen.workers > 1:
        compare_workers(customers(chosen.rows), chosen.workers, chosen.rounds)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "customers.csv"
        customers(chosen.rows).write_csv(path)
        rows = [compare(name, path, chosen.rounds, gpu=chosen.gpu) for name in ("lightgbm", "xgboost")]
    first, second = ("GPU", "processors") if chosen.gpu else ("ours", "library")
    title = f"{chosen.rows:,} rows x {NUMBERS + CATEGORIES} columns, median of {chosen.rounds} rounds"
    title += "" if chosen.gpu else f" (ratio at most {LIMIT})"
    columns = [f"{side} {value}" for value in ("s", "AUC", "rounds") for side in (first, second)]
    show(title, ["", *columns[:2], "ratio", "CPU ratio", *columns[2:]], rows)


if __name__ == "__main__":
    main()
