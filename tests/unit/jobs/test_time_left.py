"""The time that a job still needs, on a clock that the test moves."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from functions.jobs.fitting.base import Examples, FitTask, Hardware
from functions.jobs.fitting.families import family_of
from functions.jobs.time_left import Stage, TimeLeft
from shared.propensity.architectures.registry import validate_configuration
from tests.unit.jobs.fits import examples

# The times of rounds in processor seconds, as jobs on public and generated tables reported them.
RECORDED = json.loads((Path(__file__).parents[2] / "fixtures" / "recorded_progress.json").read_text())


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def fit(left: TimeLeft, clock: Clock, model: str, rounds: int, seconds: float) -> None:
    for step in range(1, rounds + 1):
        clock.now += seconds / rounds
        left.record(model, 1 / step)


def stages_of(architecture: str, rows: int, positives: int, folds: int) -> list[Stage]:
    labels = (np.arange(rows) < positives).astype(np.float32)
    task = FitTask(Examples(np.zeros((rows, 1), np.float32), labels), [labels > 1] * folds, [], Hardware(1), 0)
    configuration = validate_configuration(architecture, {}, "configuration").resolved(rows, positives)
    return family_of(architecture).stages(configuration, task)


def totals(run: dict[str, Any], shares: tuple[float, ...]) -> list[float]:
    """Returns what a recorded job was expected to take in all, by its true time, when these shares of it were over."""
    clock = Clock()
    clock.now = 0.0
    folds = 5 if len(run["models"]) > 1 else 1
    left = TimeLeft(stages_of(run["architecture"], run["rows"], run["positives"], folds), clock)
    reports = [
        (float(at), name, run["first_losses"][place] if number == 0 else 0.5)
        for number, (name, began, ended, rounds) in enumerate(run["models"])
        for place, at in enumerate(np.linspace(began, ended, rounds))
    ]
    found = []
    for share in shares:
        moment = share * run["seconds"]
        while reports and reports[0][0] <= moment:
            clock.now, name, loss = reports.pop(0)
            left.record(name, loss)
        clock.now = moment
        estimate = left.estimate()
        assert estimate is not None
        found.append((moment + estimate.seconds_left) / run["seconds"])
    return found


@pytest.mark.row("X-3")
@pytest.mark.parametrize("name", RECORDED)
def test_half_way_through_a_recorded_job_its_whole_time_is_known_within_a_quarter(name: str) -> None:
    quarter, half, late = totals(RECORDED[name], (0.25, 0.5, 0.75))
    assert 0.55 < quarter < 1.4
    assert 0.75 < half < 1.25
    assert 0.8 < late < 1.2


@pytest.mark.row("X-3")
def test_models_that_are_done_say_how_long_the_others_take() -> None:
    clock = Clock()
    left = TimeLeft([Stage(5, 2000, 50)], clock)
    assert left.estimate() is None
    fit(left, clock, "loss", 200, 20.0)
    fit(left, clock, "loss_2", 180, 18.0)
    fit(left, clock, "loss_3", 110, 11.0)

    estimate = left.estimate()
    # Half of the third model, and two more.
    assert estimate is not None
    assert estimate.seconds_left == pytest.approx(8 + 2 * 19, rel=0.1)
    assert estimate.share_done == pytest.approx(49 / 95, rel=0.1)


@pytest.mark.row("X-3")
def test_models_of_other_kinds_take_longer_in_their_proportion() -> None:
    clock = Clock()
    left = TimeLeft([Stage(2, series="quick"), Stage(2, series="slow", work=3), Stage(1, work=2)], clock)
    fit(left, clock, "quick_loss", 100, 10.0)
    fit(left, clock, "quick_loss_2", 100, 10.0)
    estimate = left.estimate()
    assert estimate is not None
    assert estimate.seconds_left == pytest.approx(2 * 30 + 20, rel=0.1)
    fit(left, clock, "slow_loss", 10, 60.0)
    fit(left, clock, "slow_loss_2", 10, 6.0)
    estimate = left.estimate()
    # What is known of a kind counts more than its proportion.
    assert estimate is not None
    assert estimate.seconds_left == pytest.approx(60 + 20, rel=0.3)


@pytest.mark.row("X-3")
def test_the_losses_of_the_first_model_foretell_its_end() -> None:
    clock = Clock()
    left = TimeLeft([Stage(1, 2000, 50)], clock)
    for step in range(100):
        clock.now += 0.1
        left.record("loss", 0.4 + 0.3 * 0.98**step)
    estimate = left.estimate()
    assert estimate is not None
    assert 10 < estimate.seconds_left < 30
    for step in range(30):
        clock.now += 0.1
        left.record("loss", 0.45 + step / 1000)
    estimate = left.estimate()
    assert estimate is not None
    assert estimate.seconds_left == pytest.approx(2, abs=0.2), "20 of 50 rounds of patience are left"


def test_losses_that_are_no_numbers_may_last_for_all_rounds() -> None:
    clock = Clock()
    left = TimeLeft([Stage(1, 1000, 50)], clock)
    for _ in range(100):
        clock.now += 0.1
        left.record("loss", float("inf"))
    estimate = left.estimate()
    assert estimate is not None
    assert estimate.seconds_left == pytest.approx(90, rel=0.02)


def test_a_model_that_takes_longer_than_the_others_is_about_to_end() -> None:
    clock = Clock()
    left = TimeLeft([Stage(2, 1000, 50)], clock)
    fit(left, clock, "loss", 10, 1.0)
    fit(left, clock, "loss_2", 500, 50.0)
    estimate = left.estimate()
    assert estimate is not None
    assert (estimate.seconds_left, estimate.share_done) == (0, 1)


def test_nothing_is_estimated_without_rounds() -> None:
    clock = Clock()
    left = TimeLeft([], clock)
    left.record("loss", 10)
    assert left.estimate() is None


@pytest.mark.parametrize(
    ("architecture", "models"), [("lightgbm", 3), ("additive", 0), ("additive_catboost", 3), ("auto", 12)]
)
def test_an_architecture_knows_its_models_with_rounds(architecture: str, models: int) -> None:
    few: Examples = examples()
    stages = stages_of(architecture, len(few), int(few.labels.sum()), 3)
    assert sum(stage.models for stage in stages[:-1]) == models
