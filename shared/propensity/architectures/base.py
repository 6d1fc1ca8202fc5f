"""The interface of all model families."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from shared.propensity.architectures.configuration import BoostingConfiguration
from shared.propensity.features import Matrix

ConfigurationT = TypeVar("ConfigurationT", bound=BoostingConfiguration, contravariant=True)
Labels = npt.NDArray[np.float32]
Probabilities = npt.NDArray[np.float64]
# One row for each of a matrix; a column for each of its columns, and one more for the base that they add to.
ContributionMatrix = npt.NDArray[np.float64]
# Below it, threads wait for each other more than they work.
CELLS_FOR_A_THREAD = 500_000


@dataclass(frozen=True)
class Examples:
    """Rows with their answers: a matrix of features and a 0 or 1 for each of its rows."""

    matrix: Matrix
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: npt.NDArray[np.intp]) -> "Examples":
        """Returns some of the rows."""
        return Examples(self.matrix[rows], self.labels[rows])


@dataclass(frozen=True)
class Hardware:
    """What fitting may use: CPU threads, and a GPU when ``gpu_count`` is above 0."""

    threads: int
    gpu_count: int = 0


def threads_for(matrix: Matrix) -> int:
    """As many threads as there are processors, fewer where the data are too few to share."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(available, matrix.size // CELLS_FOR_A_THREAD))


class RoundWatcher(Protocol):
    """Gets every round and decides when to stop."""

    @property
    def best_round(self) -> int:
        """Returns the round with the lowest loss so far, counted from 1."""

    def after_round(self, finished_rounds: int, loss: float, save: Callable[[Path], None]) -> bool:
        """True ends the fitting; ``save`` writes what there is so far, all rounds of it, to continue from."""


class Predictor(Protocol):
    """A fitted model."""

    def predict(self, matrix: Matrix) -> Probabilities:
        """Returns the probability of the positive class of each row."""

    def contributions(self, matrix: Matrix) -> ContributionMatrix:
        """Returns the exact contribution of each column to each row's log odds (TreeSHAP).

        With the base they sum to them.
        """

    def save(self, path: Path) -> None:
        """Writes the library's own, code-free format."""


class Architecture(ABC, Generic[ConfigurationT]):
    """Fits and reads models of one family. Implementations import their library."""

    name: ClassVar[str]
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
    ) -> Predictor:
        """Boosts on ``fitted`` and keeps ``watcher.best_round`` rounds.

        After each round ``watcher`` learns the log loss on ``validation``. ``configuration`` is resolved,
        ``categorical`` are the columns that hold codes, and ``resume`` is a file the watcher had saved and the number
        of rounds in it.

        Raises:
            JobFailedError: the hardware asked for can't be used.
        """

    @abstractmethod
    def load(self, path: Path) -> Predictor:
        """Reads what ``save`` wrote.

        Raises:
            CheckpointError: the file isn't one of this library's models.
        """
