"""Losses that are no numbers: they leave checkpoints and saved models readable, and stop a fit that diverges."""

import math
import threading
from pathlib import Path
from typing import cast

import pytest

from functions.jobs.modelling.training import MemberState, Session, Workspace
from functions.jobs.progress import ProgressReporter
from shared.errors import JobFailedError
from shared.models.job import CheckpointMetadata
from shared.propensity.log_odds import LogOddsModel
from tests.fixtures.training_workflow import checkpoint


@pytest.mark.row("TR-3")
def test_a_loss_that_is_no_number_leaves_the_checkpoint_readable() -> None:
    progress = ProgressReporter(threading.Event())
    for step, loss in enumerate((0.6, math.nan, math.inf, 0.5), 1):
        progress.record("validation_log_loss", loss, step)
    metadata = CheckpointMetadata.model_validate({**checkpoint(), "series": progress.series()})
    read = CheckpointMetadata.model_validate_json(metadata.model_dump_json())
    assert [(point.step, point.value) for point in read.series] == [(1, 0.6), (4, 0.5)]


def fit(folder: Path, losses: list[float]) -> Session:
    """Lets a model have these losses, and returns its session."""
    session = Session(Workspace.open(folder, "fit"), ProgressReporter(threading.Event()), save_interval_seconds=0.0)
    watcher = session.watch(0, patience=10, suffix=".txt")
    for number, loss in enumerate(losses, 1):
        watcher.after_round(number, loss, None)
    watcher.keep(lambda path: path.write_text("model"))
    return session


def test_a_later_loss_is_better_than_one_that_is_no_number(tmp_path: Path) -> None:
    session = fit(tmp_path, [math.nan, 0.7, 0.6, math.nan])
    losses = [math.inf, 0.7, 0.6, math.inf]
    assert session.workspace.state("0") == MemberState(file="member-0-4.txt", rounds=4, best_round=3, losses=losses)


def test_a_fit_that_diverges_fails_with_its_reason(tmp_path: Path) -> None:
    session, model = fit(tmp_path, [math.nan, math.inf]), cast("LogOddsModel", None)
    with pytest.raises(JobFailedError, match="Use a smaller learning_rate"):
        session.finish(0, model)
