"""Additive models as tables: what each value of each column adds to the log-odds."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from shared.propensity.dates import Numbers
from shared.propensity.features import Matrix

FiniteNumber = Annotated[float, Field(allow_inf_nan=False)]


class ScorecardColumn(BaseModel):
    """One column of the matrix: a line through points for numbers, or a value for each category's code."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    column: int = Field(ge=0)
    points: list[FiniteNumber] = Field(
        default_factory=list, description="rising numbers; between two the value lies on a line, beyond it stays"
    )
    values: list[FiniteNumber] = Field(min_length=1, description="at each point, or of each category's code")
    missing: FiniteNumber
    others: FiniteNumber = Field(default=0.0, description="of a category without a value of its own")

    def at(self, numbers: npt.ArrayLike) -> Numbers:
        """Returns what these values of the column add; NaN is missing."""
        cells = np.asarray(numbers, dtype=np.float64)
        gone = np.isnan(cells)
        known = np.where(gone, 0.0, cells)
        if self.points:
            added = np.interp(known, self.points, self.values)
        else:
            table = np.array([*self.values, self.others])
            codes = known.astype(np.int64)
            added = table[np.where((codes < 0) | (codes >= len(self.values)), len(self.values), codes)]
        return np.asarray(np.where(gone, self.missing, added))

    def of(self, number: float) -> float:
        """Returns what one value adds, as ``at`` does."""
        if math.isnan(number):
            return self.missing
        if not self.points:
            code = int(number)
            return self.values[code] if 0 <= code < len(self.values) else self.others
        place = bisect_right(self.points, number)
        if not 0 < place < len(self.points):
            return self.values[-1 if place else 0]
        start, first = self.points[place - 1], self.values[place - 1]
        slope = (self.values[place] - first) / (self.points[place] - start)
        return slope * (number - start) + first

    def scaled(self, weight: float) -> "ScorecardColumn":
        """Returns the column that adds ``weight`` times as much."""
        return self.model_copy(
            update={
                "values": [value * weight for value in self.values],
                "missing": self.missing * weight,
                "others": self.others * weight,
            }
        )


def added(columns: Sequence[ScorecardColumn]) -> ScorecardColumn:
    """Returns the sum of tables of one column: exact, because it has all their points."""
    first = columns[0]
    if len(columns) == 1:
        return first
    places: Numbers | npt.NDArray[np.int64]
    if first.points:
        places = np.unique(np.concatenate([np.array(column.points) for column in columns]))
    else:
        places = np.arange(max(len(column.values) for column in columns))
    return ScorecardColumn(
        column=first.column,
        points=places.tolist() if first.points else [],
        values=np.sum([column.at(places) for column in columns], axis=0).tolist(),
        missing=sum(column.missing for column in columns),
        others=sum(column.others for column in columns),
    )


def contributions(columns: Sequence[ScorecardColumn], matrix: Matrix) -> Numbers:
    """Returns what each column of the matrix adds to the log-odds of each row."""
    found = np.zeros(matrix.shape)
    for column in columns:
        found[:, column.column] += column.at(matrix[:, column.column])
    return found
