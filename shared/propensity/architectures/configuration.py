"""What a client may set for each architecture: published as JSON schemas, checked before anything starts.

A field left out, or null, is chosen by the number of rows (``resolved``); what was chosen is kept with the checkpoint.
"""

from collections.abc import Mapping
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from shared.models.base import ColumnName

# Up to here five models, each stopped early on the fifth of the rows it hasn't seen, are averaged: on a few thousand
# rows that is worth more than any other setting. Beyond, one model is enough, and five would cost five times as much.
MAX_ROWS_FOR_ENSEMBLE = 20_000
ENSEMBLE_SIZE = 5


class BoostingConfiguration(BaseModel):
    """What gradient-boosted trees of either library have in common."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)

    n_estimators: int = Field(
        default=2000, ge=1, le=20_000, description="Most boosting rounds; early stopping usually ends sooner."
    )
    early_stopping_rounds: int = Field(
        default=50, ge=1, le=1000, description="Rounds without a better validation log loss after which fitting stops."
    )
    learning_rate: float | None = Field(
        default=None, gt=0, le=1, description="How much of each tree is added; null: 0.05, from 200,000 rows on 0.1."
    )
    max_depth: int | None = Field(
        default=None, ge=1, le=16, description="Deepest tree; null: 3, from 20,000 rows on 6, from 200,000 on 8."
    )
    subsample: float = Field(default=0.8, gt=0, le=1, description="Share of the rows drawn for each tree.")
    colsample_bytree: float = Field(default=0.7, gt=0, le=1, description="Share of the columns drawn for each tree.")
    reg_alpha: float = Field(default=0.0, ge=0, le=10_000, description="L1 penalty on leaf values.")
    reg_lambda: float = Field(default=5.0, ge=0, le=10_000, description="L2 penalty on leaf values.")
    ensemble_size: int | None = Field(
        default=None,
        ge=1,
        le=20,
        description="Models averaged, each validated on other rows; null: 5, beyond 20,000 rows 1.",
    )
    validation_fraction: float = Field(
        default=0.2, gt=0, lt=0.5, description="Share of the fitted rows kept for early stopping by a single model."
    )
    seed: int | None = Field(
        default=None, ge=0, lt=2**31, description="Seed of everything random; null: the training's."
    )
    excluded_columns: list[ColumnName] = Field(
        default_factory=list, max_length=10_000, description="Columns not to learn from."
    )

    def resolved(self, rows: int) -> Self:
        """Returns the configuration with defaults for the number of rows; explicit values stay."""
        many, very_many = rows >= MAX_ROWS_FOR_ENSEMBLE, rows >= 10 * MAX_ROWS_FOR_ENSEMBLE
        choices = {
            "learning_rate": 0.1 if very_many else 0.05,
            "max_depth": 8 if very_many else 6 if many else 3,
            "ensemble_size": 1 if many else ENSEMBLE_SIZE,
        }
        return self._with_choices(choices)

    def _with_choices(self, choices: Mapping[str, int | float]) -> Self:
        return self.model_copy(update={name: choice for name, choice in choices.items() if getattr(self, name) is None})


class LightGBMConfiguration(BoostingConfiguration):
    """LightGBM: trees grown leaf by leaf."""

    num_leaves: int | None = Field(
        default=None,
        ge=2,
        le=1024,
        description="Most leaves of a tree; null: 8, from 20,000 rows on 31, from 200,000 on 63.",
    )
    min_child_samples: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        description="Fewest rows in a leaf; null: 20, fewer below 400 rows, more beyond 10,000, 200 at most.",
    )
    max_bin: int = Field(default=255, ge=2, le=255, description="Most steps a numeric column is read in.")

    def resolved(self, rows: int) -> Self:
        """See ``BoostingConfiguration.resolved``."""
        many, very_many = rows >= MAX_ROWS_FOR_ENSEMBLE, rows >= 10 * MAX_ROWS_FOR_ENSEMBLE
        leaves = 63 if very_many else 31 if many else 8
        least = min(max(rows // 20, 2), 20)
        choices = {"num_leaves": leaves, "min_child_samples": min(max(rows // 500, least), 200)}
        return super().resolved(rows)._with_choices(choices)


class XGBoostConfiguration(BoostingConfiguration):
    """XGBoost: trees grown level by level on histograms."""

    min_child_weight: float = Field(
        default=5.0, ge=0, le=100_000, description="Least sum of second derivatives in a leaf (a row adds p(1-p))."
    )
    gamma: float = Field(default=0.0, ge=0, le=10_000, description="Least gain of a split.")
    max_bin: int = Field(default=256, ge=2, le=1024, description="Most steps a numeric column is read in.")
