"""What a client may set for each architecture: published as JSON schemas, checked before anything starts.

A field left out, or null, is chosen by the rows (``resolved``); what was chosen is kept with the checkpoint.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from shared.models.base import ColumnName

# Up to here five models, each stopped early on the fifth of the rows it hasn't seen, are averaged: on a few thousand
# rows that is worth more than any other setting. Beyond, one model is enough, and five would cost five times as much.
MAX_ROWS_FOR_ENSEMBLE = 20_000
MANY_ROWS = 200_000
ENSEMBLE_SIZE = 5
# Up to so many rows, fewer rows of the rarer label than these are worth five models, too.
MANY_RARE_ROWS = 100_000
FEW_OF_A_LABEL = 1_000
# Fewest rows in a leaf, where rows are enough.
ROWS_OF_A_LEAF = 20
# From so many rows on, a network takes steps of so many.
_BATCH_SIZES = ((1_000_000, 2048), (200_000, 1024), (50_000, 512))


def are_few(rows: int, positives: int) -> bool:
    """Returns whether several models of rows tell more than one does."""
    rare = min(positives, rows - positives)
    return rows < MAX_ROWS_FOR_ENSEMBLE or (rows < MANY_RARE_ROWS and rare < FEW_OF_A_LABEL)


def _rows_of_a_leaf(rows: int) -> int:
    """Returns the fewest rows of a leaf. Few rows could not be told apart by leaves of many."""
    return min(max(rows // ROWS_OF_A_LEAF, 2), ROWS_OF_A_LEAF)


CalibrationChoice = Literal["automatic", "none", "logistic", "isotonic"]


class _RuleOfThreshold(BaseModel):
    """Chooses the threshold on rows that the models have not seen."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class F1Rule(_RuleOfThreshold):
    """The best F1."""

    rule: Literal["f1"]


class CostRule(_RuleOfThreshold):
    """The lowest cost of rows that are called wrongly."""

    rule: Literal["cost"]
    false_positive: float = Field(gt=0, le=1e9, description="Cost of a negative row that is called positive.")
    false_negative: float = Field(gt=0, le=1e9, description="Cost of a positive row that is not.")


class CapacityRule(_RuleOfThreshold):
    """The rows with the highest probabilities, up to a share of all rows."""

    rule: Literal["capacity"]
    share: float = Field(gt=0, le=1, description="Largest share of rows that is called positive.")


ThresholdRule = Annotated[F1Rule | CostRule | CapacityRule, Field(discriminator="rule")]


class ArchitectureConfiguration(BaseModel):
    """What all architectures have in common."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)

    ensemble_size: int | None = Field(
        default=None,
        ge=1,
        le=20,
        description="Models averaged, each validated on other rows; null: 5, from 20,000 rows on 1 (with few rows of a "
        "label, from 100,000).",
    )
    validation_fraction: float = Field(
        default=0.2, gt=0, lt=0.5, description="Share of the fitted rows kept for validation by a single model."
    )
    seed: int | None = Field(
        default=None, ge=0, lt=2**31, description="Seed of everything random; null: the training's."
    )
    excluded_columns: list[ColumnName] = Field(
        default_factory=list, max_length=10_000, description="Columns not to learn from."
    )
    calibration: CalibrationChoice = Field(
        default="automatic",
        description="Correction of the probabilities, from rows that the models have not seen; automatic: the one that "
        "improves the log loss of other rows by twice its standard error, or none.",
    )
    threshold: ThresholdRule | None = Field(
        default=None,
        description="How the threshold is chosen, from which on a row gets the positive label; null: 0.5, or the best "
        "F1 where 0.5 calls hardly any row positive.",
    )

    @property
    def patience(self) -> int:
        """Returns the rounds without a better loss after which fitting stops."""
        return 1

    @property
    def most_rounds(self) -> int | None:
        """Returns how many rounds a model is fitted at most; ``None`` without rounds or with members of several."""
        return None

    def resolved(self, rows: int, positives: int) -> Self:
        """Returns the configuration with defaults for rows and positive rows; explicit values stay."""
        return self._with_choices({"ensemble_size": ENSEMBLE_SIZE if are_few(rows, positives) else 1})

    def _with_choices(self, choices: Mapping[str, object]) -> Self:
        return self.model_copy(update={name: choice for name, choice in choices.items() if getattr(self, name) is None})


class AdditiveConfiguration(ArchitectureConfiguration):
    """A scorecard: each column adds to the log-odds by a table of its own."""

    knots: int | None = Field(
        default=None,
        ge=0,
        le=32,
        description="Inner quantiles at which the line of a numeric column may bend; null: 0 or 8, by validation.",
    )
    penalty: float | None = Field(
        default=None, gt=0, le=1_000_000, description="L2 penalty on weights; null: from 300 to 0.3, by validation."
    )


class BoostingConfiguration(ArchitectureConfiguration):
    """What gradient-boosted trees of all libraries have in common."""

    n_estimators: int = Field(
        default=2000, ge=1, le=20_000, description="Most boosting rounds; early stopping usually ends sooner."
    )
    early_stopping_rounds: int = Field(
        default=50, ge=1, le=1000, description="Rounds without a better validation log loss after which fitting stops."
    )
    learning_rate: float | None = Field(
        default=None, gt=0, le=1, description="How much of each tree is added; null: by the architecture and the rows."
    )
    max_depth: int | None = Field(
        default=None, ge=1, le=16, description="Deepest tree; null: by the architecture and the rows."
    )
    colsample_bytree: float | None = Field(
        default=None, gt=0, le=1, description="Share of the columns drawn for each tree or level; null: 0.7 or 0.8."
    )
    reg_lambda: float | None = Field(
        default=None, ge=0, le=10_000, description="L2 penalty on leaf values; null: by the architecture and the rows."
    )

    @property
    def patience(self) -> int:
        """See ``ArchitectureConfiguration.patience``."""
        return self.early_stopping_rounds

    @property
    def most_rounds(self) -> int | None:
        """See ``ArchitectureConfiguration.most_rounds``."""
        return self.n_estimators

    def resolved(self, rows: int, positives: int) -> Self:
        """See ``ArchitectureConfiguration.resolved``."""
        many, very_many = not are_few(rows, positives), rows >= MANY_ROWS
        choices: dict[str, object] = {
            "learning_rate": 0.1 if very_many else 0.05,
            "max_depth": 8 if very_many else 6 if many else 3,
            "colsample_bytree": 0.7,
            "reg_lambda": 5.0,
        }
        return super().resolved(rows, positives)._with_choices(choices)


class SampledBoostingConfiguration(BoostingConfiguration):
    """What LightGBM and XGBoost have in common."""

    subsample: float = Field(default=0.8, gt=0, le=1, description="Share of the rows drawn for each tree.")
    reg_alpha: float = Field(default=0.0, ge=0, le=10_000, description="L1 penalty on leaf values.")


class LightGBMConfiguration(SampledBoostingConfiguration):
    """LightGBM: trees grown leaf by leaf."""

    num_leaves: int | None = Field(
        default=None, ge=2, le=1024, description="Most leaves of a tree; null: 8, from 20,000 rows on 127."
    )
    max_depth: int | None = Field(
        default=None, ge=-1, le=16, description="Deepest tree, -1 for no limit; null: 3, from 20,000 rows on -1."
    )
    min_child_samples: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        description="Fewest rows in a leaf; null: 20, fewer below 400 rows or with few rows of a label.",
    )
    categories: Literal["sets", "numbers"] | None = Field(
        default=None,
        description="Whether a split takes any set of categories, or those above a rank of frequency; null: sets, "
        "from 20,000 rows on numbers.",
    )
    max_bin: int = Field(default=255, ge=2, le=255, description="Most steps a numeric column is read in.")

    def resolved(self, rows: int, positives: int) -> Self:
        """See ``ArchitectureConfiguration.resolved``."""
        many = not are_few(rows, positives)
        # A leaf of more rows than there are of a rare label could not tell the label apart.
        rare = max(min(positives, rows - positives) // 5, 1)
        least = _rows_of_a_leaf(rows)
        few = {"num_leaves": 8, "categories": "sets"}
        more = {
            "num_leaves": 127,
            "categories": "numbers",
            "max_depth": -1,
            "learning_rate": 0.05,
            "colsample_bytree": 0.8,
        }
        choices = {**(more if many else few), "min_child_samples": min(least, rare)}
        return BoostingConfiguration.resolved(self._with_choices(choices), rows, positives)


class XGBoostConfiguration(SampledBoostingConfiguration):
    """XGBoost: trees grown level by level on histograms."""

    min_child_weight: float | None = Field(
        default=None,
        ge=0,
        le=100_000,
        description="Least sum of second derivatives in a leaf (a row adds p(1-p)); null: that of 20 rows with the "
        "share of positive rows as p, fewer below 400 rows.",
    )
    gamma: float = Field(default=0.0, ge=0, le=10_000, description="Least gain of a split.")
    max_bin: int = Field(default=256, ge=2, le=1024, description="Most steps a numeric column is read in.")

    def resolved(self, rows: int, positives: int) -> Self:
        """See ``ArchitectureConfiguration.resolved``."""
        rate = positives / max(rows, 1)
        choices = {"min_child_weight": _rows_of_a_leaf(rows) * rate * (1 - rate)}
        return super().resolved(rows, positives)._with_choices(choices)


class CatBoostConfiguration(BoostingConfiguration):
    """CatBoost: symmetric trees, one category against the others at each split."""

    def resolved(self, rows: int, positives: int) -> Self:
        """See ``ArchitectureConfiguration.resolved``."""
        many = not are_few(rows, positives)
        choices: dict[str, object] = {"max_depth": 6}
        if many:
            choices = {"max_depth": 8, "learning_rate": 0.15, "reg_lambda": 3.0}
        return BoostingConfiguration.resolved(self._with_choices(choices), rows, positives)


class AdditiveCatBoostConfiguration(CatBoostConfiguration):
    """CatBoost on top of a scorecard."""

    knots: int = Field(default=5, ge=0, le=32, description="Inner quantiles at which a line of the scorecard may bend.")

    def resolved(self, rows: int, positives: int) -> Self:
        """See ``ArchitectureConfiguration.resolved``."""
        return CatBoostConfiguration.resolved(self._with_choices({"max_depth": 4}), rows, positives)


class TabMConfiguration(ArchitectureConfiguration):
    """TabM: perceptrons that share most of their weights."""

    rounds: int = Field(
        default=200,
        ge=1,
        le=5_000,
        description="Most rounds, each of all rows or of 500 batches; early stopping usually ends sooner.",
    )
    early_stopping_rounds: int = Field(
        default=12, ge=1, le=1000, description="Rounds without a better validation log loss after which fitting stops."
    )
    batch_size: int | None = Field(
        default=None, ge=16, le=65_536, description="Rows of a step; null: 256, with more rows up to 2,048."
    )
    learning_rate: float = Field(default=0.001, gt=0, le=1, description="Size of the steps (AdamW).")
    weight_decay: float = Field(default=0.0003, ge=0, le=1, description="How fast weights shrink (AdamW).")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="Share of the hidden units left out in each step.")
    members: int = Field(default=10, ge=1, le=64, description="Perceptrons that share the kernels.")
    layers: int = Field(default=2, ge=1, le=8, description="Hidden layers.")
    width: int = Field(default=256, ge=8, le=1024, description="Units of a hidden layer.")
    bins: int = Field(default=48, ge=2, le=256, description="Bins of a numeric column, between which vectors bend.")
    vector_size: int = Field(default=16, ge=1, le=64, description="Length of the vector of a column's value.")

    @property
    def patience(self) -> int:
        """See ``ArchitectureConfiguration.patience``."""
        return self.early_stopping_rounds

    @property
    def most_rounds(self) -> int | None:
        """See ``ArchitectureConfiguration.most_rounds``."""
        return self.rounds

    def resolved(self, rows: int, positives: int) -> Self:
        """See ``ArchitectureConfiguration.resolved``."""
        size = next((size for least, size in _BATCH_SIZES if rows >= least), 256)
        return super().resolved(rows, positives)._with_choices({"batch_size": size})


class TabICLConfiguration(ArchitectureConfiguration):
    """TabICL: a transformer that learns from the rows it is shown, and teaches trees."""

    context_rows: int = Field(
        default=10_000,
        ge=100,
        le=100_000,
        description="Most rows that are shown to the transformer together. With many columns it sees fewer.",
    )
    taught_rows: int = Field(
        default=50_000,
        ge=100,
        le=1_000_000,
        description="Most rows of which the trees learn the transformer's probabilities; of others they learn labels.",
    )
    views: int = Field(
        default=8, ge=1, le=64, description="How often the transformer sees the rows, with its columns in other orders."
    )


class AutoConfiguration(ArchitectureConfiguration):
    """Several architectures together, weighted by how well they predict rows that they have not seen."""

    minutes: float | None = Field(
        default=None,
        gt=0,
        le=7 * 24 * 60,
        description="Time for fitting. Architectures that are not done then are left out, except the scorecard; null: "
        "as long as it takes.",
    )
