"""The time that a job still needs, on a clock that the test moves."""

import pytest

from functions.jobs.fitting.base import Examples, FitTask, Hardware
from functions.jobs.fitting.families import family_of
from functions.jobs.time_left import TimeLeft
from tests.unit.jobs.fits import examples


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def fit(left: TimeLeft, clock: Clock, model: str, rounds: int, seconds: float) -> None:
    for step in range(1, rounds + 1):
        clock.now += seconds / rounds
        left.record(model, step)


@pytest.mark.row("X-3")
def test_models_that_are_done_say_how_long_the_others_take() -> None:
    clock = Clock()
    left = TimeLeft(5, 2000, clock)
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
def test_the_first_model_takes_at_most_all_its_rounds() -> None:
    clock = Clock()
    left = TimeLeft(1, 1000, clock)
    fit(left, clock, "loss", 100, 10.0)
    estimate = left.estimate()
    assert estimate is not None
    assert estimate.seconds_left == pytest.approx(90, rel=0.02)


def test_a_model_that_takes_longer_than_the_others_is_about_to_end() -> None:
    clock = Clock()
    left = TimeLeft(2, 1000, clock)
    fit(left, clock, "loss", 10, 1.0)
    fit(left, clock, "loss_2", 500, 50.0)
    estimate = left.estimate()
    assert estimate is not None
    assert (estimate.seconds_left, estimate.share_done) == (0, 1)


def test_nothing_is_estimated_without_rounds() -> None:
    clock = Clock()
    left = TimeLeft(5, None, clock)
    left.record("loss", 10)
    assert left.estimate() is None


@pytest.mark.parametrize(
    ("architecture", "models"), [("lightgbm", 3), ("additive", 0), ("additive_catboost", 3), ("auto", 12)]
)
def test_an_architecture_knows_its_models_with_rounds(architecture: str, models: int) -> None:
    few: Examples = examples()
    folds = [few.labels > 1] * 3
    task = FitTask(few, folds, [3], Hardware(1, 0), 0)
    assert family_of(architecture).models_with_rounds(task) == models
