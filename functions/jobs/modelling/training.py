"""Keeps the models of one training while they are fitted: saves them, reports their progress, and stops in time."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field

from functions.jobs.fitting.base import EndedEarlyError, FitSession, MinutesUsedUpError, TrainingStoppedError
from shared.errors import JobFailedError
from shared.propensity.log_odds import LogOddsModel

# Saving may take this share of the time.
SAVING_SHARE = 0.02


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
    suffix: str
    member: str
    series: str
    session: "Session"
    clock: Callable[[], float] = time.monotonic
    ending: type[EndedEarlyError] | None = None
    _next_save: float = field(init=False)

    def __post_init__(self) -> None:
        self._next_save = self.clock() + self.session.save_interval_seconds

    @property
    def best_round(self) -> int:
        """Returns the round with the lowest loss so far, counted from 1."""
        return self.state.best_round

    @property
    def ended_early(self) -> bool:
        """Implements ``RoundWatcher``."""
        return self.ending is not None

    def after_round(self, finished_rounds: int, loss: float, save: Callable[[Path], object] | None) -> bool:
        """Implements ``RoundWatcher``."""
        losses = self.state.losses
        # Any loss is less than one that is no number.
        losses.append(math.inf if math.isnan(loss) else loss)
        self.state.rounds = finished_rounds
        if not self.state.best_round or losses[-1] < losses[self.state.best_round - 1]:
            self.state.best_round = finished_rounds
        observer = self.session.observer
        observer.record(self.series, loss, finished_rounds)
        if save and (observer.stop_requested or self.clock() >= self._next_save):
            started = self.clock()
            self.keep(save)
            now = self.clock()
            self._next_save = now + max(self.session.save_interval_seconds, (now - started) / SAVING_SHARE)
        is_done = finished_rounds - self.state.best_round >= self.patience
        self.ending = None if is_done else self.session.ending
        return is_done or self.ended_early

    def keep(self, save: Callable[[Path], object]) -> None:
        """Implements ``RoundWatcher``."""
        self.session.workspace.save(self.member, self.state, self.suffix, save)


@dataclass(frozen=True)
class Workspace:
    """A folder that remains after an interruption, with a state and a model file for each model of one training."""

    folder: Path

    @classmethod
    def open(cls, folder: Path, fingerprint: str) -> "Workspace":
        """Returns the folder. It deletes saved models with another fingerprint."""
        folder.mkdir(parents=True, exist_ok=True)
        mark = folder / "fingerprint.txt"
        if not mark.exists() or mark.read_text() != fingerprint:
            for file in folder.glob("member-*"):
                file.unlink()
            _replace(mark, lambda path: _write(path, fingerprint))
        return cls(folder)

    def state(self, member: str) -> MemberState:
        """Returns the saved state of a model, or a new state if a file is missing or unreadable."""
        path = self.folder / f"member-{member}.state"
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

    def save(self, member: str, state: MemberState, suffix: str, save: Callable[[Path], Any]) -> None:
        """Saves a model and its state. The order of the writes keeps both consistent if the process is killed."""
        before = state.file
        state.file = f"member-{member}-{state.rounds}{'-final' if state.complete else ''}{suffix}"
        _replace(self.folder / state.file, save)
        _replace(self.folder / f"member-{member}.state", lambda path: _write(path, state.model_dump_json()))
        if before and before != state.file:
            (self.folder / before).unlink(missing_ok=True)


@dataclass(frozen=True)
class Session(FitSession):
    """Implements ``FitSession`` for all models of a training, or those of one ``name`` among several."""

    workspace: Workspace
    observer: Observer
    save_interval_seconds: float
    name: str = ""
    notes: list[str] = field(default_factory=list)
    watchers: dict[str, MemberWatcher] = field(default_factory=dict)
    deadline: float = math.inf
    clock: Callable[[], float] = time.monotonic
    began: float = field(default_factory=time.monotonic)

    def finished(self, fold: int) -> LogOddsModel | None:
        """See ``FitSession``."""
        state = self.workspace.state(self._member(fold))
        return LogOddsModel.load(self.workspace.path(state)) if state.complete else None

    def finish(self, fold: int, model: LogOddsModel) -> LogOddsModel:
        """See ``FitSession``. It is read again, so that the training measures the same model that scores later."""
        watcher = self.watchers.get(self._member(fold))
        # What was saved last may be some rounds behind.
        state = watcher.state if watcher else MemberState()
        if state.losses and not any(map(math.isfinite, state.losses)):
            raise JobFailedError(
                "The fit diverged: the loss is not a number after any round. Use a smaller learning_rate, or leave "
                "columns with extreme values out."
            )
        if watcher and watcher.ending:
            reached = f"{state.best_round:,} rounds"
            raise watcher.ending([LogOddsModel.of_files(model.files())], reached)
        state.complete = True
        self.workspace.save(self._member(fold), state, ".json", model.save)
        return LogOddsModel.load(self.workspace.path(state))

    def resume(self, fold: int) -> tuple[Path, int] | None:
        """See ``FitSession``."""
        state = self.workspace.state(self._member(fold))
        return (self.workspace.path(state), state.rounds) if state.file else None

    def watch(self, fold: int, patience: int, suffix: str) -> MemberWatcher:
        """See ``FitSession``."""
        member = self._member(fold)
        series, state = loss_name(fold, self.name), self.workspace.state(member)
        self.watchers[member] = MemberWatcher(state, patience, suffix, member, series, self, self.clock)
        return self.watchers[member]

    def check(self) -> None:
        """See ``FitSession``."""
        if self.ending:
            raise self.ending

    @property
    def ending(self) -> type[EndedEarlyError] | None:
        """Returns why the fit must not go on, if it must not."""
        if self.observer.stop_requested:
            return TrainingStoppedError
        return MinutesUsedUpError if self.clock() > self.deadline else None

    def note(self, text: str) -> None:
        """See ``FitSession``."""
        self.notes.append(text)

    def part(self, name: str, seconds_left: float | None = None) -> "Session":
        """See ``FitSession``."""
        deadline = self.deadline if seconds_left is None else self.clock() + seconds_left
        return replace(self, name=name, deadline=deadline)

    def seconds(self) -> float:
        """See ``FitSession``."""
        return self.clock() - self.began

    def _member(self, fold: int) -> str:
        return f"{self.name}-{fold}" if self.name else str(fold)


def loss_name(fold: int, member: str = "") -> str:
    """Returns the name of the series of a model's validation loss."""
    name = f"{member}_validation_log_loss" if member else "validation_log_loss"
    return name if fold == 0 else f"{name}_{fold + 1}"


def _replace(path: Path, write: Callable[[Path], Any]) -> None:
    """Replaces a file in one step, so that an interruption keeps the old file."""
    # The suffix stays, because XGBoost chooses its format by it.
    beside = path.with_name(f".unfinished-{path.name}")
    write(beside)
    beside.replace(path)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
