"""How long our training takes beside the library called directly with the same parameters, on the same file.

``python -m tests.load.training_speed`` prints a table. Ours is all the training job does after its process has started:
the file read, columns understood, rows held out, features encoded, the model fitted with progress and saves, measured
and written. The library's is a careful script: polars reads the file, categories become codes, its own data set is
built, its own early stopping ends the fit, held-out rows are predicted. The two take turns.
"""

import argparse
import hashlib
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from functions.jobs.container import Container
from functions.jobs.train.job import train
from shared.models.job import JobFile, MetricName, TrainingJob
from shared.propensity.architectures.base import Hardware
from shared.propensity.checkpoints import read_checkpoint
from shared.propensity.metrics import measure
from shared.propensity.splits import row_draws

ROWS, NUMBERS, CATEGORIES = 300_000, 12, 8
SEED = 11


def customers(rows: int) -> pl.DataFrame:
    """Twelve numeric and eight categorical columns with gaps; the answer depends on some of both, and on chance."""
    random = np.random.default_rng(SEED)
    numbers = {f"number_{index}": random.normal(size=rows) for index in range(NUMBERS)}
    codes = {f"category_{index}": random.integers(0, 3 + 6 * index, rows) for index in range(CATEGORIES)}
    effect = numbers["number_0"] + numbers["number_1"] * numbers["number_2"] + np.sin(2 * numbers["number_3"])
    for name in ("category_3", "category_6"):
        effect += random.normal(size=int(codes[name].max()) + 1)[codes[name]]
    bought = random.random(rows) < 1 / (1 + np.exp(-(effect - 1.5)))
    columns: dict[str, Any] = {}
    for name, values in numbers.items():
        columns[name] = pl.Series(values.round(4)).set(pl.Series(random.random(rows) < 0.05), None)
    for name, values in codes.items():
        names = pl.Series([f"{name}-{code:03}" for code in range(int(values.max()) + 1)])
        columns[name] = names.gather(values).set(pl.Series(random.random(rows) < 0.05), None)
    return pl.DataFrame(columns | {"bought": np.where(bought, "yes", "no")})


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


def ours(architecture: str, path: Path, folder: Path) -> float:
    """Our job; the ROC AUC on its held-out rows."""
    content = path.read_bytes()
    etag = hashlib.sha256(content[:10_000]).hexdigest()
    file = JobFile(bucket="b", key=path.name, etag=etag, size_bytes=len(content))
    job = TrainingJob.model_validate(
        {
            "training_id": "t",
            "space_id": "s",
            "architecture": architecture,
            "datasets": [{"connector_id": "c", "files": [file], "target": "bought"}],
        }
    )
    container = Container.of({"SAGEMAKER_BASE_DIR": str(folder)})
    container.model_folder.mkdir(parents=True)
    train(job, container, threading.Event(), lambda *_, **__: LocalStore(content))
    return read_checkpoint(container.model_folder).measurement.metrics[MetricName.ROC_AUC] or 0.0


def library(architecture: str, path: Path) -> float:
    """The library alone, with our parameters; the ROC AUC on the same share of rows."""
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
    threads = __import__("os").cpu_count() or 1
    hardware = Hardware(threads=threads)
    if architecture == "lightgbm":
        import lightgbm

        from shared.propensity.architectures.lightgbm import LightGBMConfiguration, library_parameters

        configuration = LightGBMConfiguration().resolved(int((~test).sum()))
        parameters = library_parameters(configuration, hardware, 0)
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
        import xgboost

        from shared.propensity.architectures import xgboost as ours_xgboost
        from shared.propensity.architectures.configuration import XGBoostConfiguration

        chosen = XGBoostConfiguration().resolved(int((~test).sum()))
        types = ours_xgboost.feature_types(matrix.shape[1], categorical)
        options: dict[str, Any] = {"feature_types": types, "enable_categorical": True, "max_bin": chosen.max_bin}
        fitted = xgboost.QuantileDMatrix(matrix[fit], labels[fit], **options)
        watched = xgboost.QuantileDMatrix(matrix[validation], labels[validation], ref=fitted, **options)
        model = xgboost.train(
            ours_xgboost.library_parameters(chosen, hardware, 0),
            fitted,
            chosen.n_estimators,
            evals=[(watched, "validation")],
            early_stopping_rounds=chosen.early_stopping_rounds,
            verbose_eval=False,
        )
        probabilities = model.inplace_predict(matrix[test], iteration_range=(0, model.best_iteration + 1))
    return measure(labels[test], probabilities).metrics[MetricName.ROC_AUC] or 0.0


def timed(work: Callable[[], float]) -> tuple[float, float]:
    """Seconds, and what the work returns."""
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def start_up_seconds() -> float:
    """A fresh process up to the job's first line of work."""
    started = time.perf_counter()
    code = "import functions.jobs.train.__main__, lightgbm, xgboost"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).resolve().parents[2])
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--format", choices=("csv", "parquet"), default="csv")
    arguments = parser.parse_args()
    lines = []
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / f"customers.{arguments.format}"
        frame = customers(arguments.rows)
        frame.write_csv(path) if arguments.format == "csv" else frame.write_parquet(path)
        assert row_draws(0, JobFile(bucket="", key="", etag="", size_bytes=0), 1).shape == (1,)
        for architecture in ("lightgbm", "xgboost"):
            pairs = []
            for run in range(arguments.runs):
                folder = Path(scratch) / f"{architecture}-{run}"
                pairs.append((timed(lambda: ours(architecture, path, folder)), timed(lambda: library(architecture, path))))  # noqa: B023
            our_seconds = [pair[0][0] for pair in pairs]
            their_seconds = [pair[1][0] for pair in pairs]
            ratio = statistics.median(mine / theirs for mine, theirs in zip(our_seconds, their_seconds, strict=True))
            lines.append(
                f"{architecture:10} {statistics.median(our_seconds):8.2f} {statistics.median(their_seconds):9.2f} "
                f"{ratio:7.3f} {pairs[0][0][1]:9.4f} {pairs[0][1][1]:9.4f}"
            )
    print(f"{arguments.rows:,} rows x {NUMBERS + CATEGORIES} columns, {arguments.format}, median of {arguments.runs} turns")
    print(f"{'':10} {'ours s':>8} {'library s':>9} {'ratio':>7} {'our AUC':>9} {'their AUC':>9}   (target: ratio <= 1.15)")
    print("\n".join(lines))
    print(f"job start-up (process and imports), apart: {start_up_seconds():.2f} s")


if __name__ == "__main__":
    main()
