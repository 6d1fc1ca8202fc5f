"""Estimates when a job has fitted all its models, by the rounds and the models so far."""

import time
from collections.abc import Callable
from itertools import pairwise
from statistics import mean

from shared.models.job import JobEstimate


class TimeLeft:
    """The models of one training, which are fitted one after the other. Models without rounds are not counted.

    Until the first one is done, the estimate is the longest time: models usually stop before their last round.
    """

    def __init__(self, models: int, rounds: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._models = models
        self._rounds = rounds
        self._clock = clock
        # When the first round of each model was done, and when the last round was.
        self._began: dict[str, float] = {}
        self._done_rounds = 0
        self._last = 0.0

    def record(self, series: str, rounds: int) -> None:
        """Notes the rounds that a model has done."""
        self._last, self._done_rounds = self._clock(), rounds
        self._began.setdefault(series, self._last)

    def estimate(self) -> JobEstimate | None:
        began = list(self._began.values())
        usual = self._usual(began)
        if usual is None:
            return None
        now = self._clock()
        left = max(began[-1] + usual - now, 0.0) + usual * max(self._models - len(began), 0)
        done = now - began[0]
        return JobEstimate(share_done=done / (done + left) if left else 1.0, seconds_left=left)

    def _usual(self, began: list[float]) -> float | None:
        """Returns the seconds that a model takes."""
        if len(began) > 1:
            return mean(after - before for before, after in pairwise(began))
        if began and self._rounds and self._done_rounds > 1:
            return (self._last - began[0]) * self._rounds / (self._done_rounds - 1)
        return None
