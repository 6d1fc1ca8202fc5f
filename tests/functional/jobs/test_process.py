"""The jobs as SageMaker runs them: a process, its exit code, its signals and its folders."""

import io
import json
import os
import re
import signal
import subprocess
import tarfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import polars as pl
import pytest
from standardwebhooks.webhooks import Webhook

from shared.jobs.failures import explain_reason
from shared.models.job import MetricName
from shared.propensity.artifacts import extract_artifact
from shared.propensity.checkpoints import Scorer, StoredCheckpoint, read_checkpoint
from shared.propensity.errors import CheckpointError
from shared.webhooks.signature import verify
from tests.functional.jobs.conftest import SECRET, SECRET_PARAMETER, Box, Cloud, training
from tests.functional.jobs.test_train import customers

SECONDS_TO_WAIT = 60
ROUNDS_BEFORE_THE_CUT = 10


def long_frame(rows: int = 3000) -> pl.DataFrame:
    random = np.random.default_rng(1)
    columns = {f"x{index}": random.normal(size=rows) for index in range(10)}
    signal_in_noise = columns["x0"] + columns["x1"] * columns["x2"] + random.normal(size=rows)
    return pl.DataFrame(columns | {"bought": np.where(signal_in_noise > 0, "yes", "no")})


def long_training(cloud: Cloud, architecture: str, rounds: int = 800) -> Any:
    """Fits for some seconds: all rounds, as early stopping never sets in; saved as often as it may be."""
    configuration = {
        "n_estimators": rounds,
        "early_stopping_rounds": 1000,
        "learning_rate": 0.02,
        "max_depth": 4,
        "ensemble_size": 1,
    }
    file = cloud.put_frame("long.csv", long_frame())
    return training([file], architecture=architecture, configuration=configuration, save_interval_seconds=0)


def finish(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    output, errors = process.communicate(timeout=SECONDS_TO_WAIT)
    return process.returncode, output, errors


def wait_for_saved_rounds(box: Box, member: int, seconds: int = SECONDS_TO_WAIT) -> int:
    """Until some, but not all, rounds of a model are saved."""
    deadline = time.monotonic() + seconds
    state = box.container.checkpoints / f"member-{member}.state"
    while time.monotonic() < deadline:
        if state.exists() and (paper := json.loads(state.read_text()))["rounds"] >= ROUNDS_BEFORE_THE_CUT:
            assert not paper["complete"], "the model was done before it could be interrupted: give it more rounds"
            return int(paper["rounds"])
        time.sleep(0.002)
    raise AssertionError("nothing was saved")


@pytest.mark.row("TR-2")
def test_a_job_runs_as_a_module_and_reports_its_metrics(box: Box, cloud: Cloud) -> None:
    process = box.start(training([cloud.put_frame("a.csv", customers())]), "-m", "functions.jobs.train")
    code, output, errors = finish(process)

    assert code == 0, errors
    lines = re.findall(r"^metric (\w+)=([0-9.]+) step=(\d+)$", output, re.MULTILINE)
    assert {name for name, _, _ in lines} >= {"validation_log_loss", *MetricName}
    assert not (box.base / "output" / "failure").exists()


@pytest.mark.row("TR-2")
def test_a_failure_leaves_its_reason_and_a_bad_exit_code(box: Box, cloud: Cloud) -> None:
    file = cloud.put_frame("a.csv", customers().with_columns(bought=pl.lit("no")))
    code, _, errors = finish(box.start(training([file]), "-m", "functions.jobs.train"))

    assert code == 1
    assert box.failure == "The target column 'bought' has only one label ('no'). A propensity model needs two labels."
    assert errors.splitlines()[-1] == f"JobFailedError: {box.failure}"
    assert list(box.container.model_folder.iterdir()) == []


NOISY = """
import os, sys, warnings
from functions.jobs.container import run
from shared.errors import JobFailedError

def work(container, stop):
    os.write(2, b"a native library warns\\n" * 200)
    warnings.warn("Python warns")
    raise JobFailedError("The file 'a.csv' is empty.")

sys.exit(run(work))
"""


@pytest.mark.row("TR-2")
def test_warnings_on_stderr_do_not_push_out_the_reason_of_a_failure(box: Box, cloud: Cloud) -> None:
    job = training([cloud.put_frame("a.csv", customers())])
    code, output, errors = finish(box.start(job, "-c", NOISY))
    assert (code, errors) == (1, "JobFailedError: The file 'a.csv' is empty.\n")
    assert output.count("warns") == 201
    # AWS keeps the first 1,024 characters.
    reason = f"AlgorithmError: {errors}"[:1024]
    assert explain_reason(f"{reason}, exit code: 1") == "The file 'a.csv' is empty."


@pytest.mark.row("TR-5", "X-3")
def test_sigterm_stops_a_training_at_once_and_leaves_a_model_of_the_rounds_so_far(box: Box, cloud: Cloud) -> None:
    job = long_training(cloud, "lightgbm", 4000)
    process = box.start(job, "-m", "functions.jobs.train")
    rounds = wait_for_saved_rounds(box, 0)

    asked = time.monotonic()
    process.terminate()
    code, _, _ = finish(process)

    assert code == 128 + signal.SIGTERM
    assert time.monotonic() - asked < SECONDS_TO_WAIT
    assert "stopped" in box.failure
    # What was fitted up to the signal is kept for the next start.
    state = json.loads((box.container.checkpoints / "member-0.state").read_text())
    assert state["rounds"] >= rounds
    assert not state["complete"]
    checkpoint = read_checkpoint(box.container.model_folder)
    [note] = [note for note in checkpoint.notes if "stopped" in note]
    assert note.endswith(f"until then: {state['best_round']:,} rounds.")
    assert auc(checkpoint) > 0.6
    assert first_rounds(box, 10_000).std() > 0

    process = box.start(job, "-m", "functions.jobs.train")
    wait_for_next_rounds(box, state["rounds"])
    process.kill()
    finish(process)


def wait_for_next_rounds(box: Box, rounds: int) -> None:
    """Until a model that goes on has saved more rounds than these."""
    deadline = time.monotonic() + SECONDS_TO_WAIT
    while json.loads((box.container.checkpoints / "member-0.state").read_text())["rounds"] <= rounds:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.row("TR-2")
@pytest.mark.parametrize("architecture", ["lightgbm", "xgboost"])
def test_a_killed_job_goes_on_where_it_was_and_ends_with_nearly_the_same_model(
    tmp_path: Path, cloud: Cloud, architecture: str
) -> None:
    job = long_training(cloud, architecture)
    whole, cut = Box(tmp_path / "whole", cloud), Box(tmp_path / "cut", cloud)
    assert finish(whole.start(job, "-m", "functions.jobs.train"))[0] == 0

    process = cut.start(job, "-m", "functions.jobs.train")
    rounds = wait_for_saved_rounds(cut, 0)
    os.kill(process.pid, signal.SIGKILL)
    finish(process)
    assert list(cut.container.model_folder.iterdir()) == []
    code, output, errors = finish(cut.start(job, "-m", "functions.jobs.train"))

    assert code == 0, errors
    first_step = int(re.findall(r"^metric validation_log_loss=\S+ step=(\d+)$", output, re.MULTILINE)[0])
    assert first_step > rounds
    expected, resumed = (read_checkpoint(box.container.model_folder) for box in (whole, cut))
    assert expected.holdout == resumed.holdout
    # What was fitted before the cut is kept, tree by tree.
    np.testing.assert_allclose(first_rounds(cut, rounds), first_rounds(whole, rounds), atol=1e-6)
    # What comes after it isn't the same: both libraries draw rows and columns anew. The model is as near as one of
    # another seed, whose probabilities differ by 0.017 and whose ROC AUC by 0.008 on these rows.
    rows = long_frame().drop("bought").head(500).to_dicts()
    difference = probabilities(whole, rows) - probabilities(cut, rows)
    assert np.abs(difference).mean() < 0.03
    assert auc(resumed) == pytest.approx(auc(expected), abs=0.03)


def first_rounds(box: Box, rounds: int) -> Any:
    """Returns what the model's first rounds alone predict."""
    matrix = long_frame().drop("bought").to_numpy().astype(np.float32)
    trees = lightgbm.Booster(model_file=box.container.model_folder / "trees.txt")
    return trees.predict(matrix, num_iteration=rounds)


def probabilities(box: Box, rows: list[dict[str, Any]]) -> "np.typing.NDArray[np.float64]":
    scorer = Scorer(box.container.model_folder)
    return np.array([prediction.probability for prediction in scorer.score(rows)])


def auc(checkpoint: StoredCheckpoint) -> float:
    return checkpoint.measurement.metrics[MetricName.ROC_AUC] or 0.0


@pytest.mark.row("WH-1")
@pytest.mark.parametrize("status", [200, 500])
def test_progress_is_posted_signed_and_a_refusal_does_not_matter(box: Box, cloud: Cloud, status: int) -> None:
    cloud.webhook_status = status
    progress = {"webhook_url": f"{cloud.address}/webhooks", "secret_parameter": SECRET_PARAMETER}
    job = training([cloud.put_frame("a.csv", customers())], progress=progress)
    code, output, errors = finish(box.start(job, "-m", "functions.jobs.train"))

    assert code == 0, errors
    assert cloud.messages
    assert SECRET not in output + errors
    headers, body = cloud.messages[-1]
    verify(SECRET, headers, body, datetime.now(UTC))
    message = Webhook(SECRET).verify(body.decode(), headers)
    assert (message["id"], message["type"], message["event"]) == ("training-1", "training", "progress")
    series = message["payload"]["metrics"]
    assert 0 < len(series) <= 200
    assert {point["name"] for point in series} == {"validation_log_loss", "validation_log_loss_2"}
    assert max(point["step"] for point in series) == 40
    assert len({headers["webhook-id"] for headers, _ in cloud.messages}) == len(cloud.messages)


def test_an_archive_with_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        entry = tarfile.TarInfo("model-0.txt")
        entry.size = 5 << 20
        archive.addfile(entry, io.BytesIO(bytes(entry.size)))
    content.seek(0)

    with pytest.raises(CheckpointError, match="larger than"):
        extract_artifact(content, tmp_path, max_bytes=1 << 20)
    assert list(tmp_path.iterdir()) == []
