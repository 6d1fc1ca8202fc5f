"""Trains on more rows than the memory holds."""

import gzip
import io
import re
import resource
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from functions.jobs.sharded.memory import fits, memory_bytes
from shared.errors import JobFailedError
from shared.models.job import JobFile, MetricName, TrainingJob
from shared.propensity.checkpoints import read_checkpoint
from tests.functional.jobs.conftest import Box, Cloud, training
from tests.functional.jobs.test_process import finish

pytestmark = pytest.mark.row("DT-2")

SECONDS_TO_WAIT = 300
MEMORY = 900 << 20
ROWS, COLUMNS = 1_000_000, 120
BOUNDED = f"""
import atexit, os, pathlib, resource, runpy
# Libraries start a thread for each processor, with buffers of its own.
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
# Linux does not enforce it. So the peak is measured: getrusage would include the peak of the parent.
resource.setrlimit(resource.RLIMIT_RSS, ({MEMORY}, {MEMORY}))
status = pathlib.Path("/proc/self/status")
atexit.register(lambda: print("peak", int(status.read_text().partition("VmHWM:")[2].split()[0]) << 10, flush=True))
runpy.run_module("functions.jobs.train", run_name="__main__")
"""


@pytest.fixture(scope="module")
def content() -> bytes:
    """Returns a Parquet file whose columns take more than the memory. Repeated values keep the file small."""
    random = np.random.default_rng(2)
    columns: dict[str, Any] = {f"x{index}": random.integers(0, 100, ROWS).astype(np.int8) for index in range(8)}
    signal = columns["x0"] / 50.0 - columns["x1"] / 50.0
    repeated = {f"y{index}": columns[f"x{index % 8}"][::-1] for index in range(COLUMNS - 8)}
    bought = random.random(ROWS) < 1 / (1 + np.exp(-2 * signal))
    file = io.BytesIO()
    pl.DataFrame(columns | repeated | {"bought": bought}).write_parquet(file, row_group_size=100_000)
    return file.getvalue()


def job(file: JobFile, architecture: str = "xgboost") -> TrainingJob:
    settings = {"n_estimators": 3, "ensemble_size": 1, "max_depth": 2} if architecture == "xgboost" else {}
    return training([file], architecture=architecture, configuration=settings)


def test_xgboost_trains_on_a_table_that_is_larger_than_its_memory(box: Box, cloud: Cloud, content: bytes) -> None:
    assert ROWS * COLUMNS * 8 > MEMORY
    process = box.start(job(cloud.put("a.parquet", content)), "-c", BOUNDED)
    output, errors = process.communicate(timeout=SECONDS_TO_WAIT)

    assert process.returncode == 0, errors
    [peak] = re.findall(r"^peak (\d+)$", output, re.MULTILINE)
    checkpoint = read_checkpoint(box.container.model_folder)
    assert checkpoint.trained_rows + checkpoint.measurement.rows == ROWS
    assert (checkpoint.measurement.metrics[MetricName.ROC_AUC] or 0) > 0.7
    assert "The rows do not fit into the memory, so each tree read them again from disk." in checkpoint.notes
    assert int(peak) < MEMORY


def test_other_architectures_refuse_what_they_cannot_hold_and_say_how_many_rows_fit(
    box: Box, cloud: Cloud, content: bytes
) -> None:
    code, _, errors = finish(box.start(job(cloud.put("a.parquet", content), "additive"), "-c", BOUNDED))

    assert code == 1, errors
    found = re.search(r"about 1,000,000 rows of 121 columns\. With 0\.9 GiB about ([0-9,]+) such rows fit", box.failure)
    assert found, box.failure
    assert 10_000 < int(found[1].replace(",", "")) < 200_000
    assert box.failure.endswith("an architecture that reads larger data from disk: xgboost.")


def test_text_is_estimated_by_its_first_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pl.DataFrame({"a": range(200_000), "b": ["some text"] * 200_000})
    frame.write_csv(tmp_path / "a.csv")
    frame.write_ndjson(tmp_path / "a.jsonl")
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress((tmp_path / "a.csv").read_bytes()))
    for path in tmp_path.iterdir():
        monkeypatch.setattr("functions.jobs.sharded.memory.memory_bytes", lambda: 1 << 33)
        assert fits([path], "additive")
        monkeypatch.setattr("functions.jobs.sharded.memory.memory_bytes", lambda: 1 << 29)
        with pytest.raises(JobFailedError, match=r"about (1[6-9]|2[0-4])\d,\d{3} rows of 2 columns"):
            fits([path], "lightgbm")


def test_lines_nested_without_end_are_left_to_the_reader(tmp_path: Path) -> None:
    path = tmp_path / "deep.jsonl"
    path.write_bytes(b"[" * 100_000 + b"\n")
    assert fits([path], "additive")


def test_a_container_s_own_limit_bounds_the_memory() -> None:
    limits = resource.getrlimit(resource.RLIMIT_DATA)
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (3 << 30, limits[1]))
        assert memory_bytes() <= 3 << 30
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, limits)
