"""The rules by which rows are held out from fitting: kept with the checkpoint, they find the same rows again later."""

from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from shared.propensity.dates import DateOrder, DateReading, Seconds, date_readings

Mask = npt.NDArray[np.bool_]
# 1 for a positive row, 0 for a negative one.
Labels = npt.NDArray[np.float32]
Draws = npt.NDArray[np.float64]


class _Rule(BaseModel):
    model_config = ConfigDict(extra="forbid")


class RandomHoldout(_Rule):
    """Each row has a draw, from the seed and its place in a file or its own values; small draws are held out."""

    kind: Literal["random"] = "random"
    seed: int
    limits: tuple[float, float] = Field(description="of the negative and of the positive rows: the same share of both")
    columns: list[str] | None = Field(
        default=None, description="rows that are equal in these columns have equal draws; null: each row has its own"
    )

    def held_out(self, draws: Draws, labels: Labels) -> Mask:
        """Returns the mask of the rows that are held out."""
        return draws < np.where(labels == 1, self.limits[1], self.limits[0])


class TimeHoldout(_Rule):
    """Rows later than ``after`` (seconds since 1970, UTC) are held out; rows without a time are fitted on."""

    kind: Literal["time"] = "time"
    column: str
    date_order: DateOrder = DateOrder.ISO
    date_formats: list[str] = Field(default_factory=list)
    after: float

    @property
    def readings(self) -> tuple[DateReading, ...]:
        """Returns the ways to read a text of the column."""
        return date_readings(tuple(self.date_formats), self.date_order)

    def held_out(self, moments: Seconds) -> Mask:
        """Returns the mask of the rows that are held out."""
        with np.errstate(invalid="ignore"):
            return np.asarray(moments > self.after)


class GroupHoldout(_Rule):
    """Whole groups are held out: those whose hash, a number in [0, 1), is below ``limit``."""

    kind: Literal["group"] = "group"
    column: str
    seed: int
    limit: float

    def held_out(self, draws: Draws) -> Mask:
        """Returns the mask of the rows that are held out."""
        return draws < self.limit


Holdout = Annotated[RandomHoldout | TimeHoldout | GroupHoldout, Field(discriminator="kind")]
