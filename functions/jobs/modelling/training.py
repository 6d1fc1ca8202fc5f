"""Fits the models of one training with early stopping, and saves them regularly so that the work can be resumed."""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from shared.errors import JobFailedError
from shared.propensity.architectures.base import (
    Architecture,
    Examples,
    Hardware,
    Predictor,
    threads_for,
)
from shared.propensity.architectures.configuration import BoostingConfiguration
from shared.propensity.ensemble import Ensemble
from shared.propensity.holdouts import Mask

# Saving may take this share of the time.
SAVING_SHARE = 0.02


class TrainingStoppedError(Exception):
    """Error raised when the job must stop. The models that were fitted so far are saved."""


class Observer(Protocol):
    """A receiver of a training's series, which can also stop the training."""

    def record(self, name: str, value: float, step: int) -> None:
        """Records one value of a series."""

    @property
    def stop_requested(self) -> bool:
        """Returns whether the training must stop at the next round."""


class MemberState(BaseModel):
    """The progress of one model, saved beside its file."""

    # A loss may be infinite.
    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="constants")

    file: str | None = None
    rounds: int = 0
    complete: bool = False
    best_round: int = 0
    losses: list[float] = Field(default_factory=list)


@dataclass
class MemberWatcher:
    """An observer of one model's rounds. It stops early, reports progress, saves, and checks requests to stop."""

    state: MemberState
    patience: int
    workspace: "Workspace"
    member: int
    observer: Observer
    save_interval_seconds: float
    clock: Callable[[], float] = time.monotonic
    _next_save: float = field(init=False)

    def __post_init__(self) -> None:
        self._next_save = self.clock() + self.save_interval_seconds

    @property
    def best_round(self) -> int:
        """Returns the round with the lowest loss so far, counted from 1."""
        return self.state.best_round

    def after_round(self, finished_rounds: int, loss: float, save: Callable[[Path], None]) -> bool:
        """Implements ``RoundWatcher``."""
        losses = self.state.losses
        # Any loss is less than one that is no number.
        losses.append(math.inf if math.isnan(loss) else loss)
        self.state.rounds = finished_rounds
        if not self.state.best_round or losses[-1] < losses[self.state.best_round - 1]:
            self.state.best_round = finished_rounds
        self.observer.record(loss_name(self.member), loss, finished_rounds)
        stop = self.observer.stop_requested
        if stop or self.clock() >= self._next_save:
            started = self.clock()
            self.workspace.save(self.member, self.state, save)
            now = self.clock()
            self._next_save = now + max(self.save_interval_seconds, (now - started) / SAVING_SHARE)
        if stop:
            raise TrainingStoppedError
        return finished_rounds - self.state.best_round >= self.patience


@dataclass(frozen=True)
class Workspace:
    """A folder that remains after an interruption, with a state and a model file for each model of one training."""

    folder: Path
    suffix: str

    @classmethod
    def open(cls, folder: Path, suffix: str, fingerprint: str) -> "Workspace":
        """Returns the folder. It deletes saved models with another fingerprint."""
        folder.mkdir(parents=True, exist_ok=True)
        mark = folder / "fingerprint.txt"
        if not mark.exists() or mark.read_text() != fingerprint:
            for file in folder.glob("member-*"):
                file.unlink()
            _replace(mark, lambda path: _write(path, fingerprint))
        return cls(folder, suffix)

    def state(self, member: int) -> MemberState:
        """Returns the saved state of a model, or a new state if a file is missing or unreadable."""
        path = self.folder / f"member-{member}.json"
        if not path.exists():
            return MemberState()
        try:
            state = MemberState.model_validate_json(path.read_bytes())
        except ValueError:
            return MemberState()
        return state if state.file and (self.folder / state.file).exists() else MemberState()

    def path(self, state: MemberState) -> Path:
        """Returns the path of a state's model."""
        return self.folder / str(state.file)

    def save(self, member: int, state: MemberState, save: Callable[[Path], Any]) -> None:
        """Saves a model and its state. The order of the writes keeps both consistent if the process is killed."""
        before = state.file
        state.file = f"member-{member}-{state.rounds}{'-final' if state.complete else ''}{self.suffix}"
        _replace(self.folder / state.file, save)
        _replace(self.folder / f"member-{member}.json", lambda path: _write(path, state.model_dump_json()))
        if before and before != state.file:
            (self.folder / before).unlink(missing_ok=True)


def fit_ensemble(
    architecture: Architecture[Any],
    configuration: BoostingConfiguration,
    examples: Examples,
    folds: Iterable[Mask],
    categorical: Sequence[int],
    gpu_count: int,
    seed: int,
    observer: Observer,
    workspace: Workspace,
    save_interval_seconds: float,
) -> Ensemble:
    """Returns one model for each fold. The rows of the fold decide when the model stops early.

    Models in ``workspace`` are not fitted again. An incomplete model continues from its last saved round.

    Raises:
        TrainingStoppedError: ``observer`` requested a stop.
        JobFailedError: the requested hardware cannot be used, or the fit diverges.
    """
    hardware = Hardware(threads=threads_for(examples.matrix), gpu_count=gpu_count)
    members: list[Predictor] = []
    for index, held in enumerate(folds):
        state = workspace.state(index)
        if not state.complete:
            resume = (workspace.path(state), state.rounds) if state.file else None
            watcher = MemberWatcher(
                state, configuration.early_stopping_rounds, workspace, index, observer, save_interval_seconds
            )
            model = architecture.fit(
                configuration,
                examples.take(np.nonzero(~held)[0]),
                examples.take(np.nonzero(held)[0]),
                categorical,
                hardware,
                seed + index,
                watcher,
                resume,
            )
            if not any(map(math.isfinite, state.losses)):
                raise JobFailedError(
                    "The fit diverged: the loss is not a number after any round. Use a smaller learning_rate, or leave "
                    "columns with extreme values out."
                )
            state.complete = True
            workspace.save(index, state, model.save)
        # Loaded from the file, so that the training measures the same model that scores later.
        members.append(architecture.load(workspace.path(state)))
    return Ensemble(members)


def loss_name(member: int) -> str:
    """Returns the name of the series of a model's validation loss."""
    return "validation_log_loss" if member == 0 else f"validation_log_loss_{member + 1}"


def _replace(path: Path, write: Callable[[Path], Any]) -> None:
    """Replaces a file in one step, so that an interruption keeps the old file."""
    # The suffix stays, because XGBoost chooses its format by the suffix.
    beside = path.with_name(f".unfinished-{path.name}")
    write(beside)
    beside.replace(path)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
