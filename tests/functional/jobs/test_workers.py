"""Trainings with several workers: each instance is a process with the folders and the names that SageMaker gives it."""

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from xgboost.tracker import RabitTracker

from functions.jobs.sharded.supervisor import WorkerOrder
from shared.models.job import JobFile, MetricName, TrainingJob
from shared.propensity.checkpoints import StoredCheckpoint, read_checkpoint
from tests.functional.jobs.conftest import GPU_COUNT, Box, Cloud, training
from tests.functional.jobs.test_process import wait_for_saved_rounds
from tests.functional.jobs.test_train import run

pytestmark = [pytest.mark.row("DT-1"), pytest.mark.skipif(GPU_COUNT > 0, reason="workers here have no GPU each")]

SECONDS_TO_WAIT = 120
SETTINGS = {"n_estimators": 60, "learning_rate": 0.1, "max_depth": 4, "ensemble_size": 1}


def shoppers(rows: int, seed: int = 3) -> pl.DataFrame:
    """Returns customers with every kind of column. The last category is in few rows."""
    random = np.random.default_rng(seed)
    spent, visits = random.normal(size=rows), random.integers(0, 30, rows)
    city = random.choice(["Lyon", "Paris", "Nice", "Rome", "Bern"], rows, p=[0.3, 0.3, 0.2, 0.15, 0.05])
    effect = 1.5 * spent + 0.1 * visits * (spent > 0) + 1.2 * (city == "Lyon") - 1.5
    return pl.DataFrame(
        {
            "spent": pl.Series(spent.round(4)).set(pl.Series(random.random(rows) < 0.05), None),
            "visits": visits,
            "city": city,
            "noise": random.normal(size=rows).round(4),
            "member": random.random(rows) < 0.5,
            "since": [f"20{year:02}-0{month}-11" for year, month in random.integers(1, 10, (rows, 2))],
            "bought": np.where(random.random(rows) < 1 / (1 + np.exp(-effect)), "yes", "no"),
        }
    )


def uploaded(cloud: Cloud, rows: int = 30_000, files: int = 3) -> list[JobFile]:
    frame = shoppers(rows)
    return [cloud.put_frame(f"{part}.csv", frame[part::files]) for part in range(files)]


def instances(folder: Path, cloud: Cloud, count: int = 2) -> list[Box]:
    """Returns the containers of one job. Their names are addresses that no other test uses."""
    network = f"127.{random.randint(1, 250)}.{random.randint(1, 250)}"  # noqa: S311 - not a secret
    names = [f"{network}.{number + 1}" for number in range(count)]
    boxes = [Box(folder / name, cloud) for name in names]
    for name, box in zip(names, boxes, strict=True):
        configuration = box.base / "input" / "config" / "resourceconfig.json"
        configuration.parent.mkdir(parents=True)
        configuration.write_text(json.dumps({"current_host": name, "hosts": names[::-1]}))
    return boxes


Start = Callable[[list[Box], TrainingJob], list["subprocess.Popen[str]"]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts the containers of a job, and ends what is left of them after the test."""
    running: list[subprocess.Popen[str]] = []

    def started(boxes: list[Box], job: TrainingJob) -> list["subprocess.Popen[str]"]:
        running.extend(box.start(job, "-m", "functions.jobs.train") for box in boxes)
        return running[-len(boxes) :]

    yield started
    for process in running:
        process.kill()
        process.wait()


def ended(processes: list["subprocess.Popen[str]"]) -> list[tuple[int, str, str]]:
    outputs = [process.communicate(timeout=SECONDS_TO_WAIT) for process in processes]
    return [(process.returncode, *output) for process, output in zip(processes, outputs, strict=True)]


def fitted(boxes: list[Box], job: TrainingJob, start: Start) -> StoredCheckpoint:
    for code, _, errors in ended(start(boxes, job)):
        assert code == 0, errors
    return read_checkpoint(boxes[0].container.model_folder)


def fitted_by_one(folder: Path, cloud: Cloud, files: list[JobFile]) -> StoredCheckpoint:
    return run(training(files, architecture="xgboost", configuration=SETTINGS), Box(folder / "one", cloud))


def loss_of(checkpoint: StoredCheckpoint) -> float:
    return checkpoint.measurement.metrics[MetricName.LOG_LOSS] or 0.0


def wide(files: list[JobFile], **changes: Any) -> TrainingJob:
    return training(files, architecture="xgboost", configuration=SETTINGS, instance_count=2, **changes)


def test_two_instances_fit_the_model_that_one_fits(tmp_path: Path, cloud: Cloud, start: Start) -> None:
    files = uploaded(cloud)
    one = fitted_by_one(tmp_path, cloud, files)
    boxes = instances(tmp_path, cloud)
    two = fitted(boxes, wide(files), start)

    assert list(boxes[1].container.model_folder.iterdir()) == []
    assert two.holdout == one.holdout
    assert two.features == one.features
    assert (two.trained_rows, two.measurement.rows) == (one.trained_rows, one.measurement.rows)
    assert loss_of(two) == pytest.approx(loss_of(one), rel=0.005)
    assert {file.key for file in two.trained_files} == {file.key for file in files}


def workers_of(process: "subprocess.Popen[str]") -> list[int]:
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, check=False).stdout
    return [int(each) for each in children.split()]


def saved_state(box: Box) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((box.container.checkpoints / "member-0.state").read_text())
    return found


def long(files: list[JobFile]) -> TrainingJob:
    """Fits for some seconds, and saves as often as it may."""
    rounds = {"n_estimators": 3000, "early_stopping_rounds": 1000, "learning_rate": 0.002, "max_depth": 4}
    job = wide(files, save_interval_seconds=0)
    return job.model_copy(update={"configuration": {**rounds, "ensemble_size": 1}})


def test_a_worker_that_dies_ends_the_job_on_all_instances_with_the_reason(
    tmp_path: Path, cloud: Cloud, start: Start
) -> None:
    boxes = instances(tmp_path, cloud)
    processes = start(boxes, long(uploaded(cloud, 2000)))
    wait_for_saved_rounds(boxes[0], 0, SECONDS_TO_WAIT)
    [worker] = workers_of(processes[1])
    os.kill(worker, signal.SIGKILL)
    codes = [code for code, _, _ in ended(processes)]

    assert codes == [1, 1]
    assert boxes[1].failure.startswith("Worker 2 of 2 was ended by SIGKILL: it probably ran out of memory.")
    assert boxes[0].failure.startswith("Worker 1 of 2 stopped, because another one ended or cannot be reached.")
    assert [list(box.container.model_folder.iterdir()) for box in boxes] == [[], []]


def test_an_interruption_of_one_instance_stops_all_and_all_go_on_from_the_saved_rounds(
    tmp_path: Path, cloud: Cloud, start: Start
) -> None:
    files = uploaded(cloud, 2000)
    boxes = instances(tmp_path, cloud)
    processes = start(boxes, long(files))
    wait_for_saved_rounds(boxes[0], 0, SECONDS_TO_WAIT)
    processes[1].send_signal(signal.SIGTERM)
    assert [code for code, _, _ in ended(processes)] == [143, 143]
    state = saved_state(boxes[0])
    assert not state["complete"]
    # If nobody goes on, the model of the first instance is what was fitted.
    checkpoint = read_checkpoint(boxes[0].container.model_folder)
    assert any(note.endswith(f"until then: {state['best_round']:,} rounds.") for note in checkpoint.notes)

    again = instances(tmp_path / "again", cloud)
    # SageMaker restores the folder on new instances.
    boxes[0].container.checkpoints.rename(again[0].base / "checkpoints")
    processes = start(again, long(files))
    deadline = time.monotonic() + SECONDS_TO_WAIT
    while (rounds := json.loads((again[0].container.checkpoints / "member-0.state").read_text())["rounds"]) <= state[
        "rounds"
    ]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for process in processes:
        process.send_signal(signal.SIGTERM)
    (_, output, _), _ = ended(processes)
    steps = [int(line.rpartition("step=")[2]) for line in output.splitlines() if "validation_log_loss" in line]
    assert state["rounds"] < min(steps) <= rounds


def test_a_file_that_one_worker_cannot_read_ends_all_with_the_same_reason(
    tmp_path: Path, cloud: Cloud, start: Start
) -> None:
    files = [*uploaded(cloud, 900), cloud.put("bad.parquet", b"PAR1 and then nothing PAR1")]
    boxes = instances(tmp_path, cloud)
    assert [code for code, _, _ in ended(start(boxes, wide(files)))] == [1, 1]
    assert boxes[0].failure == boxes[1].failure
    assert boxes[0].failure.startswith("The file 'bad.parquet' cannot be read: ")


def test_categories_labels_and_dates_of_one_file_hold_for_all_workers(
    tmp_path: Path, cloud: Cloud, start: Start
) -> None:
    frame = shoppers(20_000)
    parts = [frame.filter(pl.col("city") != "Bern")[::2], frame.filter(pl.col("city") != "Bern")[1::2]]
    parts[1] = pl.concat([parts[1], frame.filter(pl.col("city") == "Bern")])
    parts[1] = parts[1].with_columns(pl.col("bought").replace({"yes": " yes"})).drop("member")
    files = [cloud.put_frame(f"{number}.csv", part) for number, part in enumerate(parts)]
    one = fitted_by_one(tmp_path, cloud, files)
    two = fitted(instances(tmp_path, cloud), wide(files), start)

    assert two.features == one.features
    assert (two.positive_label, two.holdout, two.trained_rows) == ("yes", one.holdout, one.trained_rows)
    assert "Bern" in next(each for each in two.features.features if each.name == "city").categories


def test_workers_of_one_instance_share_its_rows_in_turn(tmp_path: Path, cloud: Cloud) -> None:
    files = uploaded(cloud, files=1)
    one = fitted_by_one(tmp_path, cloud, files)
    box, folder = Box(tmp_path / "ml", cloud), tmp_path / "scratch"
    folder.mkdir()
    tracker = RabitTracker(n_workers=2, host_ip="127.0.0.1", sortby="task")
    tracker.start()
    port = int(tracker.worker_args()["dmlc_tracker_port"])
    running = []
    for share in range(2):
        order = WorkerOrder(rank=share, size=2, share=share, shares=2, address="127.0.0.1", port=port, folder=folder)
        path = folder / f"{share}.json"
        path.write_text(order.model_dump_json())
        # Of processors, although an instance has several workers only for its GPUs.
        running.append(box.start(wide(files), "-m", "functions.jobs.sharded", str(path)))
    for code, _, errors in ended(running):
        assert code == 0, errors

    two = read_checkpoint(box.container.model_folder)
    assert two.features == one.features
    assert (two.holdout, two.trained_rows) == (one.holdout, one.trained_rows)
    assert loss_of(two) == pytest.approx(loss_of(one), rel=0.005)


def test_an_instance_with_held_out_rows_only_takes_part(tmp_path: Path, cloud: Cloud, start: Start) -> None:
    frame = shoppers(8000).with_columns(month=pl.Series(["2025-01-31"] * 6000 + ["2025-02-28"] * 2000))
    files = [cloud.put_frame("january.csv", frame[:6000]), cloud.put_frame("february.csv", frame[6000:])]
    two = fitted(instances(tmp_path, cloud), wide(files), start)

    assert two.holdout.kind == "time"
    assert (two.trained_rows, two.measurement.rows) == (6000, 2000)
    assert two.holdout == fitted_by_one(tmp_path, cloud, files).holdout


def test_each_gpu_of_an_instance_has_a_worker(tmp_path: Path, cloud: Cloud, start: Start) -> None:
    box = Box(tmp_path / "ml", cloud)
    [(code, _, _)] = ended(start([box], training(uploaded(cloud), architecture="xgboost", gpu_count=2)))
    assert (code, box.failure) == (
        1,
        "XGBoost found no GPU that it can train on. Set gpu_count to 0 and start again.",
    )
