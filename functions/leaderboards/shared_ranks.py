"""Ranks that rows share where a paired test can't separate them.

Each result keeps replicates of its metrics, made with the same random signs for the same rows. So the errors of
differences are known for any two results, without reading the scores of rows.
"""

import base64
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from shared.models.job import REPLICATES, MetricName, Resample

# A row is compared with so many rows above it, so that a page costs the same on any leaderboard.
COMPARED_ROWS = 20
# Of Student's t with as many degrees of freedom as there are replicates, at 95%.
_LIMIT = 1.985
# Replicates are rounded to half precision, so no difference is known better than to this part of the error.
_ROUNDING = 2**-11


@dataclass(frozen=True)
class Replicates:
    """The replicates of what rows are ordered by: a metric, or its mean over benchmarks.

    ``resamples`` are those of each benchmark. Gini has those of ROC AUC.
    """

    resamples: Sequence[Resample]
    metric: MetricName

    @cached_property
    def rounding(self) -> float:
        """Returns how far the replicates may be off."""
        return _ROUNDING * sum(map(self._error, self.resamples)) / len(self.resamples)

    @cached_property
    def deviations(self) -> list[float]:
        """Returns the deviations of the replicates from the value."""
        scaled = [[self._error(each) * unit for unit in _units(each)] for each in self.resamples]
        return [sum(each) / len(scaled) for each in zip(*scaled, strict=True)]

    def error_of_difference(self, other: "Replicates") -> float:
        """Returns the standard error of the difference of two values."""
        return max(math.dist(self.deviations, other.deviations) / math.sqrt(REPLICATES), self.rounding, other.rounding)

    def _error(self, resample: Resample) -> float:
        return resample.error * (2.0 if self.metric is MetricName.GINI else 1.0)


@dataclass(frozen=True)
class RankedPlace:
    """A row's value and its rank by values alone; ``replicates`` is ``None`` for a row that can't be tested."""

    checkpoint_id: str
    value: float
    rank: int
    replicates: Replicates | None


def shared_rank(row: RankedPlace, better: Sequence[RankedPlace]) -> int:
    """Returns the row's rank, or the best one of the next better rows from which a test cannot separate it."""
    # Of equal values, those that a page of any size finds.
    nearest = sorted(better, key=lambda each: (-each.rank, each.checkpoint_id))[:COMPARED_ROWS]
    return next((each.rank for each in reversed(nearest) if not _is_apart(row, each)), row.rank)


def _is_apart(row: RankedPlace, other: RankedPlace) -> bool:
    if row.replicates is None or other.replicates is None:
        return row.value != other.value
    return abs(row.value - other.value) > _LIMIT * row.replicates.error_of_difference(other.replicates)


def _units(resample: Resample) -> tuple[float, ...]:
    return struct.unpack(f"<{REPLICATES}e", base64.b64decode(resample.replicates))
