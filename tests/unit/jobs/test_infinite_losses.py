"""Losses that are no numbers: they leave checkpoints and saved models readable, and stop a fit that diverges."""

import math
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from functions.jobs.fitting.base import Examples
from functions.jobs.modelling.training import MemberState, MemberWatcher, Workspace, fit_ensemble
from functions.jobs.progress import ProgressReporter
from shared.errors import JobFailedError
from shared.models.job import CheckpointMetadata
from tests.fixtures.training_workflow import checkpoint


@pytest.mark.row("TR-3")
def test_a_loss_that_is_no_number_leaves_the_checkpoint_readable() -> None:
    progress = ProgressReporter(threading.Event())
    for step, loss in enumerate((0.6, math.nan, math.inf, 0.5), 1):
        progress.record("validation_log_loss", loss, step)
    metadata = CheckpointMetadata.model_validate({**checkpoint(), "series": progress.series()})
    read = CheckpointMetadata.model_validate_json(metadata.model_dump_json())
    assert [(point.step, point.value) for point in read.series] == [(1, 0.6), (4, 0.5)]


class Fitted:
    """A model that can only be saved."""

    def save(self, path: Path) -> None:
        path.write_text("model")


def fit(folder: Path, losses: list[float]) -> list[int]:
    """Fits a model with given losses, and returns the round that its watcher calls the best."""
    best: list[int] = []

    def rounds(*arguments: Any) -> Fitted:
        watcher: MemberWatcher = arguments[6]
        for number, loss in enumerate(losses, 1):
            watcher.after_round(number, loss, Fitted().save)
        best.append(watcher.best_round)
        return Fitted()

    architecture: Any = SimpleNamespace(fit=rounds, load=lambda path: path)
    configuration: Any = SimpleNamespace(early_stopping_rounds=10)
    examples = Examples(np.zeros((4, 1), np.float32), np.array([0, 1, 0, 1]))
    observer = ProgressReporter(threading.Event())
    folds = [np.array([True, True, False, False])]
    workspace = Workspace.open(folder, ".txt", "fit")
    fit_ensemble(architecture, configuration, examples, folds, [], 0, 0, observer, workspace, 0.0)
    return best


def test_a_later_loss_is_better_than_one_that_is_no_number(tmp_path: Path) -> None:
    assert fit(tmp_path, [math.nan, 0.7, 0.6, math.nan]) == [3]
    state = Workspace(tmp_path, ".txt").state(0)
    assert state == MemberState(
        file="member-0-4-final.txt", rounds=4, complete=True, best_round=3, losses=[math.inf, 0.7, 0.6, math.inf]
    )


def test_a_fit_that_diverges_fails_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(JobFailedError, match="Use a smaller learning_rate"):
        fit(tmp_path, [math.nan, math.inf])
