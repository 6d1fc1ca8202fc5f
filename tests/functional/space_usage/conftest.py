"""Fixtures of the tests of limits: a stage with small limits, and a clock that only the test moves."""

import pytest

from shared.settings import Settings
from tests.fixtures.clocks import MovableClock

GIB = 1 << 30


@pytest.fixture
def settings(settings: Settings) -> Settings:
    limits = {
        "max_running_trainings": 2,
        "max_running_evaluations": 1,
        "max_gpu_hours_per_month": 72,
        "max_storage_gib": 10,
    }
    return settings.model_copy(update=limits)


@pytest.fixture
def movable_clock(movable_clock: MovableClock) -> MovableClock:
    movable_clock.now = movable_clock.now.replace(day=10)
    return movable_clock
