"""The interface of all model families."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from functions.jobs.time_left import Stage
from shared.errors import JobFailedError
from shared.propensity.architectures.configuration import ArchitectureConfiguration
from shared.propensity.features import Matrix
from shared.propensity.holdouts import Labels, Mask
from shared.propensity.log_odds import LogOdds, LogOddsModel, Probabilities

ConfigurationT = TypeVar("ConfigurationT", bound=ArchitectureConfiguration, contravariant=True)
# Below it, threads wait for each other more than they work.
CELLS_FOR_A_THREAD = 500_000
# What follows the last model, compared with all models: their text, the choice of a threshold and the measurement.
LAST_SHARE = 0.3


@dataclass(frozen=True)
class Examples:
    """Rows with their answers: a matrix of features and a 0 or 1 for each of its rows.

    A model may start from log-odds that are known already, the ``baseline``. It may be fitted to probabilities of the
    label, the ``taught``, in place of labels.
    """

    matrix: Matrix
    labels: Labels
    baseline: LogOdds | None = None
    taught: Probabilities | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: npt.NDArray[np.intp]) -> "Examples":
        """Returns some of the rows."""
        baseline, taught = (None if each is None else each[rows] for each in (self.baseline, self.taught))
        return Examples(self.matrix[rows], self.labels[rows], baseline, taught)


@dataclass(frozen=True)
class Hardware:
    """What fitting may use: CPU threads, and a GPU when ``gpu_count`` is above 0: the one with this number.

    ``processes`` fit on this machine at the same time.
    """

    threads: int
    gpu_count: int = 0
    gpu: int = 0
    processes: int = 1


@dataclass(frozen=True)
class FitTask:
    """What to fit on: examples, the validation rows of each model, and the columns that hold codes of categories.

    Codes are by falling frequency. ``weights`` is the file that the operator provides for the architecture.
    """

    examples: Examples
    folds: Sequence[Mask]
    categorical: Sequence[int]
    hardware: Hardware
    seed: int
    weights: Path | None = None


def threads_for(cells: int, processes: int = 1) -> int:
    """As many threads as a process has processors for itself, fewer where the data are too few to share."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(available // processes, cells // CELLS_FOR_A_THREAD))


class MissingLibraryError(JobFailedError):
    """Error raised when a library is missing that only some containers have."""


class EndedEarlyError(Exception):
    """Error raised when a fit must not go on. ``models`` are those of the first folds, as far as there are any.

    ``reached`` says how far an unfinished one of them came.
    """

    def __init__(self, models: Sequence[LogOddsModel] = (), reached: str = "") -> None:
        super().__init__()
        self.models, self.reached = [*models], reached


class TrainingStoppedError(EndedEarlyError):
    """Error raised when the job must stop. What was fitted so far is saved, to go on from."""


class MinutesUsedUpError(EndedEarlyError):
    """Error raised when a fit has used up the minutes that it may take."""


class RoundWatcher(Protocol):
    """Gets every round and decides when to stop."""

    @property
    def best_round(self) -> int:
        """Returns the round with the lowest loss so far, counted from 1."""

    @property
    def ended_early(self) -> bool:
        """Returns whether the fitting ended because it must not go on."""

    def after_round(self, finished_rounds: int, loss: float, save: Callable[[Path], object] | None) -> bool:
        """True ends the fitting; ``save`` writes what there is so far, all rounds of it, to continue from.

        ``None`` if nothing can be written between two rounds.
        """

    def keep(self, save: Callable[[Path], object]) -> None:
        """Keeps what there is, all rounds of it, to continue from."""


class FitSession(Protocol):
    """The models of one architecture while they are fitted: one for each fold."""

    def finished(self, fold: int) -> LogOddsModel | None:
        """Returns the model of a fold if it was fitted before an interruption."""

    def finish(self, fold: int, model: LogOddsModel) -> LogOddsModel:
        """Keeps the model of a fold, and returns it as it was kept.

        Raises:
            EndedEarlyError: the model was not done. The error has it, and only its rounds are kept.
        """

    def resume(self, fold: int) -> tuple[Path, int] | None:
        """Returns the file of an unfinished model, and the number of its rounds."""

    def watch(self, fold: int, patience: int, suffix: str) -> RoundWatcher:
        """Returns the observer of a fold's rounds, which writes files with this suffix."""

    def check(self) -> None:
        """Raises EndedEarlyError if the fit must not go on."""

    def note(self, text: str) -> None:
        """Tells the owner of the training what was chosen, and why."""

    def part(self, name: str, seconds_left: float | None = None) -> "FitSession":
        """Returns a session for one of several architectures that are fitted together."""

    def seconds(self) -> float:
        """Returns the seconds since the fit began."""


def fit_each(folds: int, fit: Callable[[int], LogOddsModel]) -> list[LogOddsModel]:
    """Returns the model of each fold.

    Raises:
        EndedEarlyError: with the models that are done, or else with what there is of the first one.
    """
    models: list[LogOddsModel] = []
    for index in range(folds):
        try:
            models.append(fit(index))
        except EndedEarlyError as early:
            if not models:
                raise
            raise type(early)(models) from early
    return models


class Architecture(ABC, Generic[ConfigurationT]):
    """Fits models of one family, one for each fold. Implementations import their library."""

    name: ClassVar[str]

    def stages(self, configuration: ConfigurationT, task: FitTask) -> list[Stage]:
        """Returns the models that are going to report their rounds. ``configuration`` is resolved."""
        del configuration, task
        return []

    @abstractmethod
    def fit_folds(self, configuration: ConfigurationT, task: FitTask, session: FitSession) -> list[LogOddsModel]:
        """Returns a model for each fold, fitted on the rows outside of it. ``configuration`` is resolved.

        Models that ``session`` has already are not fitted again.

        Raises:
            JobFailedError: the hardware asked for can't be used.
            EndedEarlyError: the fit must not go on.
        """


class BoostingArchitecture(Architecture[ConfigurationT]):
    """Fits each fold alone, round by round, and stops early by the fold's rows."""

    # Of the file of an unfinished model.
    suffix: ClassVar[str]

    @abstractmethod
    def fit(
        self,
        configuration: ConfigurationT,
        fitted: Examples,
        validation: Examples,
        categorical: Sequence[int],
        hardware: Hardware,
        seed: int,
        watcher: RoundWatcher,
        resume: tuple[Path, int] | None = None,
    ) -> LogOddsModel:
        """Boosts on ``fitted`` and keeps ``watcher.best_round`` rounds.

        After each round ``watcher`` learns the log loss on ``validation``. ``resume`` is a file the watcher had saved
        and the number of rounds in it.
        """

    def stages(self, configuration: ConfigurationT, task: FitTask) -> list[Stage]:
        """See ``Architecture``."""
        count = len(task.folds)
        return [
            Stage(count, configuration.most_rounds, configuration.patience),
            Stage(1, work=LAST_SHARE * count),
        ]

    def fit_folds(self, configuration: ConfigurationT, task: FitTask, session: FitSession) -> list[LogOddsModel]:
        """See ``Architecture``."""
        return fit_each(len(task.folds), lambda index: self.fit_fold(configuration, task, index, session))

    def fit_fold(self, configuration: ConfigurationT, task: FitTask, index: int, session: FitSession) -> LogOddsModel:
        """Returns the model of one fold."""
        if model := session.finished(index):
            return model
        session.check()
        held = task.folds[index]
        resume = session.resume(index)
        watcher = session.watch(index, configuration.patience, self.suffix)
        seed = task.seed + index
        model = self.fit(
            configuration,
            # Without names here, so that a library can drop the rows before its trees grow.
            task.examples.take(np.nonzero(~held)[0]),
            task.examples.take(np.nonzero(held)[0]),
            task.categorical,
            task.hardware,
            seed,
            watcher,
            resume,
        )
        return session.finish(index, model)
