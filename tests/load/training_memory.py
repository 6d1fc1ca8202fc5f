"""Compares the peak memory of our training job with LightGBM called directly on the same file.

Each run has its own process, whose peak resident memory is that of the whole run with its imports. Ours is the job as a
container runs it, and `auto` beside it. The library's is a careful script: polars reads the file, texts become codes,
the frame is dropped when its matrix is made, and LightGBM fits with our parameters and predicts the held-out rows. All
fit few rounds, because trees take little memory.
"""

import contextlib
import hashlib
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tests.load.harness import ROOT, options, peak_mb, show

SEED = 11
ROUNDS = 20
LIMIT = 1.2
CHUNK = 100_000
PROGRAM = "import sys; from tests.load.training_memory import measure; measure(*sys.argv[1:])"


def doubles(rows: int) -> pl.DataFrame:
    """Returns 20 columns of doubles."""
    random = np.random.default_rng(SEED)
    return _labelled(pl.DataFrame({f"number_{index}": random.normal(size=rows) for index in range(20)}))


def wide(rows: int) -> pl.DataFrame:
    """Returns 950 columns of floats and 50 of categories."""
    random = np.random.default_rng(SEED)
    columns: dict[str, Any] = {
        f"number_{index}": random.normal(size=rows).astype(np.float32).round(4) for index in range(950)
    }
    names = pl.Series([f"category-{code:03}" for code in range(30)])
    columns |= {f"category_{index}": names.gather(random.integers(0, 30, rows)) for index in range(50)}
    return _labelled(pl.DataFrame(columns))


def integers(rows: int) -> pl.DataFrame:
    """Returns 50 columns of one byte and 50 of four, of few values, so that the file is small."""
    random = np.random.default_rng(SEED)
    types = [np.int8] * 50 + [np.int32] * 50
    return _labelled(
        pl.DataFrame({f"number_{index}": random.integers(0, 4, rows, dtype) for index, dtype in enumerate(types)})
    )


def _labelled(frame: pl.DataFrame) -> pl.DataFrame:
    chance = 1 / (1 + np.exp(1 - (frame["number_0"] + frame["number_1"]).cast(pl.Float64).to_numpy()))
    bought = np.random.default_rng(SEED + 1).random(frame.height) < chance
    return frame.with_columns(bought=pl.Series(np.where(bought, "yes", "no")))


FILES = {
    "300,000 x 20 doubles, Parquet": (doubles, 300_000, "parquet"),
    "20,000 x 1,000 numbers and categories, CSV": (wide, 20_000, "csv"),
    "1,000,000 x 100 small integers, Parquet": (integers, 1_000_000, "parquet"),
}


class _FolderS3:
    """A client of S3 that reads files from a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get_object(self, *, Key: str, **_: Any) -> dict[str, Any]:  # noqa: N803 - boto3's names
        return {"Body": _Body(self._folder / Key)}


class _Body:
    def __init__(self, path: Path) -> None:
        self._path = path

    def iter_chunks(self, size: int) -> Any:
        with self._path.open("rb") as file:
            yield from iter(lambda: file.read(size), b"")


def measure(side: str, file: str) -> None:
    """Trains and prints the peak memory in MB. Runs in a process of its own."""
    with contextlib.redirect_stdout(StringIO()):
        _library(Path(file)) if side == "library" else _ours(side, Path(file))
    print(json.dumps(peak_mb()))


def _ours(architecture: str, path: Path) -> None:
    rounds = {} if architecture in ("auto", "additive") else {"n_estimators": ROUNDS}
    run_job(path, architecture, rounds, "bought")


def run_job(path: Path, architecture: str, configuration: Mapping[str, Any], target: str) -> None:
    """Runs the training job on a file, from a bucket that is its folder."""
    # The other side must not have our code in its memory.
    from functions.jobs.container import Container
    from functions.jobs.train.job import train
    from shared.models.job import JobFile, TrainingJob

    etag = hashlib.sha256(path.name.encode()).hexdigest()
    file = JobFile(bucket="b", key=path.name, etag=etag, size_bytes=path.stat().st_size)
    job = TrainingJob.model_validate(
        {
            "training_id": "t",
            "space_id": "s",
            "architecture": architecture,
            "configuration": configuration,
            "datasets": [{"connector_id": "c", "files": [file], "target": target}],
        }
    )
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        container = Container.of({"SAGEMAKER_BASE_DIR": folder})
        container.model_folder.mkdir(parents=True)
        train(job, container, threading.Event(), lambda *_, **__: _FolderS3(path.parent))


def _library(path: Path) -> None:
    import lightgbm

    from functions.jobs.fitting.base import Hardware, threads_for
    from functions.jobs.fitting.lightgbm import library_parameters
    from shared.propensity.architectures.configuration import LightGBMConfiguration

    matrix, labels, categorical = _matrix(path)
    part = np.random.default_rng(SEED).random(len(labels))
    test, validation, fit = part < 0.2, (part >= 0.2) & (part < 0.36), part >= 0.36
    configuration = LightGBMConfiguration(n_estimators=ROUNDS).resolved(int((~test).sum()), int(labels[~test].sum()))
    parameters = library_parameters(configuration, Hardware(threads=threads_for(matrix[fit].size)), 0)
    sets = categorical if configuration.categories == "sets" else []
    fitted = lightgbm.Dataset(matrix[fit], labels[fit], categorical_feature=sets, params=parameters)
    valid = fitted.create_valid(matrix[validation], labels[validation])
    booster = lightgbm.train(parameters, fitted, ROUNDS, valid_sets=[valid])
    booster.predict(matrix[test])


def _matrix(path: Path) -> tuple[Any, Any, list[int]]:
    frame = pl.read_csv(path, infer_schema_length=10_000) if path.suffix == ".csv" else pl.read_parquet(path)
    labels = (frame["bought"] == "yes").to_numpy().astype(np.float32)
    features = frame.drop("bought")
    texts = [name for name, dtype in features.schema.items() if dtype == pl.String]
    coded = features.with_columns(pl.col(texts).cast(pl.Categorical).to_physical()).cast(pl.Float32)
    return coded.to_numpy(), labels, [features.columns.index(name) for name in texts]


def peak_of(side: str, path: Path) -> float:
    command = [sys.executable, "-c", PROGRAM, side, str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return float(json.loads(done.stdout))


def main() -> None:
    chosen = options(__doc__, rounds=1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, (make, count, suffix)) in enumerate(FILES.items()):
            path = Path(folder) / f"{number}.{suffix}"
            frame = make(count)
            frame.write_csv(path) if suffix == "csv" else frame.write_parquet(path)
            del frame
            sides = ("lightgbm", "library", "auto")
            peaks = {
                side: sorted(peak_of(side, path) for _ in range(chosen.rounds))[chosen.rounds // 2] for side in sides
            }
            ratio = peaks["lightgbm"] / peaks["library"]
            rows.append([name, *(f"{peaks[side]:.0f}" for side in sides), f"{ratio:.2f}"])
            path.unlink()
    show(f"Peak memory in MB (ratio at most {LIMIT})", ["", "ours", "LightGBM", "auto", "ratio"], rows)


if __name__ == "__main__":
    main()
