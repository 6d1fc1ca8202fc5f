"""A correction of a model's log-odds, kept with the checkpoint. It rises everywhere, so no two rows change places."""

from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.propensity.log_odds import ContributionMatrix, LogOdds
from shared.propensity.scorecards import FiniteNumber

MAX_KNOTS = 200


class LogisticCalibration(BaseModel):
    """Stretches and moves log-odds."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["logistic"] = "logistic"
    slope: Annotated[FiniteNumber, Field(gt=0)]
    intercept: FiniteNumber

    def corrected(self, log_odds: LogOdds) -> LogOdds:
        """Returns the corrected log-odds."""
        return self.slope * log_odds + self.intercept


class IsotonicCalibration(BaseModel):
    """Straight lines between the steps of an isotonic regression; beyond them, log-odds keep their distances."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["isotonic"] = "isotonic"
    log_odds: list[FiniteNumber] = Field(min_length=2, max_length=MAX_KNOTS)
    calibrated: list[FiniteNumber] = Field(min_length=2, max_length=MAX_KNOTS)

    @model_validator(mode="after")
    def _rises(self) -> "IsotonicCalibration":
        if len(self.log_odds) != len(self.calibrated):
            raise ValueError("each step needs its log-odds and the corrected ones")
        if min(np.diff(self.log_odds).min(), np.diff(self.calibrated).min()) <= 0:
            raise ValueError("the steps of a calibration must rise")
        return self

    def corrected(self, log_odds: LogOdds) -> LogOdds:
        """Returns the corrected log-odds."""
        lowest, highest = self.log_odds[0], self.log_odds[-1]
        within = np.interp(log_odds, self.log_odds, self.calibrated)
        return within + np.minimum(log_odds - lowest, 0) + np.maximum(log_odds - highest, 0)


Calibration = Annotated[LogisticCalibration | IsotonicCalibration, Field(discriminator="kind")]


def corrected_contributions(
    calibration: LogisticCalibration | IsotonicCalibration, contributions: ContributionMatrix
) -> ContributionMatrix:
    """Returns contributions, with the base in the last column, that sum to the corrected log-odds.

    All contributions of a row are stretched alike.
    """
    base, reached = contributions[:, -1], contributions.sum(axis=1)
    new_base, new_reached = calibration.corrected(base), calibration.corrected(reached)
    way = reached - base
    stretch = np.divide(new_reached - new_base, way, out=np.ones_like(way), where=way != 0)
    return np.concatenate([contributions[:, :-1] * stretch[:, None], new_base[:, None]], axis=1)
