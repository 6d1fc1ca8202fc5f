"""Losses that are no numbers: they leave checkpoints and saved models readable, and stop a fit that diverges."""

import math
import threading
from pathlib import Path

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


def fit(folder: Path, losses: list[float]) -> int:
    """Reports a fit with these losses, and returns the round that its watcher calls the best."""
    session = Session(Workspace.open(folder, "fit"), ProgressReporter(threading.Event()), 0.0)
    watcher = session.watch(0, 10, ".txt")
    for number, loss in enumerate(losses, 1):
        watcher.after_round(number, loss, LogOddsModel(1).save)
    session.finish(0, LogOddsModel(1))
    return watcher.best_round


def test_a_later_loss_is_better_than_one_that_is_no_number(tmp_path: Path) -> None:
    assert fit(tmp_path, [math.nan, 0.7, 0.6, math.nan]) == 3
    assert Workspace(tmp_path).state("0") == MemberState(
        file="member-0-4-final.json", rounds=4, complete=True, best_round=3, losses=[math.inf, 0.7, 0.6, math.inf]
    )


def test_a_fit_that_diverges_fails_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(JobFailedError, match="Use a smaller learning_rate"):
        fit(tmp_path, [math.nan, math.inf])
