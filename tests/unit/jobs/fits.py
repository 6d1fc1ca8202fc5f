"""Small fits of architectures, without files to read."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from functions.jobs.fitting.base import Examples, FitTask, Hardware
from functions.jobs.fitting.families import family_of
from functions.jobs.modelling.training import Session, Workspace
from shared.propensity.architectures.registry import validate_configuration
from shared.propensity.log_odds import LogOddsModel
from tests.fixtures.trained_models import WITHOUT_ROUNDS


class Recorder:
    """Collects the records, and asks to stop after some of them."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.records: list[tuple[str, float, int]] = []
        self.stop_after = stop_after

    def record(self, name: str, value: float, step: int) -> None:
        self.records.append((name, value, step))

    @property
    def stop_requested(self) -> bool:
        return self.stop_after is not None and len(self.records) >= self.stop_after


def examples(rows: int = 300) -> Examples:
    """Returns numbers with gaps, and a column of category codes with gaps."""
    random = np.random.default_rng(2)
    matrix = random.normal(size=(rows, 4)).astype(np.float32)
    matrix[:, 3] = random.integers(0, 5, rows)
    matrix[random.random(rows) < 0.2, 1] = np.nan
    labels = (matrix[:, 0] + (matrix[:, 3] == 2) + 0.5 * random.normal(size=rows) > 0.3).astype(np.float32)
    matrix[random.random(rows) < 0.1, 3] = np.nan
    return Examples(matrix, labels)


def session(folder: Path, recorder: Recorder | None = None) -> Session:
    """Returns a session that saves after every round."""
    return Session(Workspace.open(folder, "the same work"), recorder or Recorder(), 0.0)


def fit(
    architecture: str,
    into: Session,
    data: Examples | None = None,
    settings: Mapping[str, Any] | None = None,
    count: int = 2,
    categorical: Sequence[int] = (3,),
) -> list[LogOddsModel]:
    """Returns the models of ``count`` folds."""
    data = data or examples()
    if settings is None:
        rounds = {"n_estimators": 30, "early_stopping_rounds": 1000}
        settings = {} if architecture in WITHOUT_ROUNDS else rounds
    configuration = validate_configuration(architecture, settings).resolved(len(data), int(data.labels.sum()))
    folds = [np.arange(len(data)) % max(count, 2) == fold for fold in range(count)]
    task = FitTask(data, folds, categorical, Hardware(threads=1), 7)
    return family_of(architecture).fit_folds(configuration, task, into)
