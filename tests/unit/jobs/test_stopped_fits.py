"""What a fit has when it must not go on: the models that are done, or else what there is of the first one."""

from pathlib import Path

import numpy as np
import pytest

from functions.jobs.fitting.base import TrainingStoppedError
from functions.jobs.modelling.training import Session, Workspace
from functions.jobs.train.results import stop_note
from shared.propensity.log_odds import LogOddsModel, mean
from tests.fixtures.trained_models import HERE
from tests.unit.jobs.fits import Recorder, examples, fit, session

BOOSTING = ("lightgbm", "xgboost", "catboost")
pytestmark = pytest.mark.row("X-3")


class StopsAtCheck(Recorder):
    """Asks to stop when it has been asked so many times."""

    def __init__(self, checks: int | None = None) -> None:
        super().__init__()
        self.checks, self.asked = checks, 0

    @property
    def stop_requested(self) -> bool:
        self.asked += 1
        return self.checks is not None and self.asked > self.checks


def stopped(architecture: str, into: Session, count: int = 2) -> TrainingStoppedError:
    with pytest.raises(TrainingStoppedError) as raised:
        fit(architecture, into, count=count)
    return raised.value


def ranking(model: LogOddsModel) -> float:
    """Returns how often a row of the positive label is above one of the other."""
    data = examples()
    chances, positive = model.predict(data.matrix), data.labels == 1
    return float((chances[positive][:, None] > chances[~positive][None]).mean())


@pytest.mark.parametrize("architecture", BOOSTING)
def test_the_first_model_is_what_it_is_if_no_model_is_done(tmp_path: Path, architecture: str) -> None:
    recorder = Recorder(stop_after=10)
    early = stopped(architecture, session(tmp_path, recorder))

    best = int(np.argmin([loss for _, loss, _ in recorder.records])) + 1
    assert early.reached == f"{best} rounds"
    assert stop_note(early, 2).endswith(f"fitted until then: {best} rounds, 1 of 2 models.")
    [model] = early.models
    assert model.forest.count("\nTree=") == best
    assert ranking(model) > 0.7


@pytest.mark.parametrize("architecture", BOOSTING)
def test_models_that_are_done_come_without_one_that_is_not(tmp_path: Path, architecture: str) -> None:
    early = stopped(architecture, session(tmp_path, Recorder(stop_after=40)))
    (whole, _) = fit(architecture, session(tmp_path / "whole"))

    assert early.models == [whole]
    assert stop_note(early, 2).endswith("fitted until then: 1 of 2 models.")


@pytest.mark.parametrize("architecture", HERE)
def test_whenever_it_stops_what_there_is_can_be_used_and_the_next_fit_ends_like_a_whole_one(
    tmp_path: Path, architecture: str
) -> None:
    counting = StopsAtCheck()
    whole = fit(architecture, session(tmp_path / "whole", counting), count=3)
    usable = 0
    for checks in np.linspace(0, counting.asked - 2, 9).astype(int):
        folder = tmp_path / str(checks)
        early = stopped(architecture, session(folder, StopsAtCheck(int(checks))), count=3)
        usable += bool(early.models)
        assert not early.models or ranking(mean(early.models)) > 0.7
    again = fit(architecture, session(folder), count=3)

    assert usable >= 6
    matrix = examples().matrix
    assert np.abs(mean(again).predict(matrix) - mean(whole).predict(matrix)).mean() < 0.03


def test_auto_weighs_what_its_members_have(tmp_path: Path) -> None:
    class StopsInXGBoost(Recorder):
        @property
        def stop_requested(self) -> bool:
            return sum(name.startswith("xgboost") for name, *_ in self.records) >= 5

    into = session(tmp_path, StopsInXGBoost())
    early = stopped("auto", into)
    assert len(early.models) == 2
    assert "auto fitted additive_8, additive_0 with 2 folds" in into.notes[0]
    assert into.notes[0].endswith(
        "xgboost, catboost_6, additive_catboost, catboost_4 were not done when the training was stopped."
    )
    assert stop_note(early, 2).endswith("fitted until then: 2 of 6 architectures, 2 of 2 models.")


def test_auto_with_one_fold_weighs_the_rounds_of_a_member_that_is_not_done(tmp_path: Path) -> None:
    class StopsInXGBoost(Recorder):
        @property
        def stop_requested(self) -> bool:
            return sum(name.startswith("xgboost") for name, *_ in self.records) >= 25

    into = session(tmp_path, StopsInXGBoost())
    early = stopped("auto", into, count=1)
    assert "auto fitted additive_8, additive_0, xgboost with" in into.notes[0]
    assert into.notes[1] == "Of xgboost, there is only what was fitted until then: 25 rounds."
    assert ", xgboost 0." in into.notes[2]
    assert early.models[0].forest.count("\nTree=") == 25
    assert early.models[0].columns


def test_minutes_that_are_used_up_keep_the_rounds_of_a_member_with_one_fold(tmp_path: Path) -> None:
    now = 0.0

    class SlowXGBoost(Recorder):
        def record(self, name: str, value: float, step: int) -> None:
            nonlocal now
            now += 5 if name.startswith("xgboost") else 0.001
            super().record(name, value, step)

    into = Session(Workspace.open(tmp_path, "x"), SlowXGBoost(), 1000.0, clock=lambda: now, began=0.0)
    [model] = fit("auto", into, settings={"minutes": 1}, count=1)
    assert "auto fitted additive_8, additive_0, xgboost with one part" in into.notes[0]
    assert into.notes[0].endswith(
        "catboost_6, additive_catboost, catboost_4 did not fit into the 1 minutes: raise minutes to use them."
    )
    assert into.notes[1].startswith("Of xgboost, there is only what was fitted until then: ")
    assert model.forest
