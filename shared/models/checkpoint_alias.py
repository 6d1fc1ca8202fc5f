"""Checkpoint aliases, such as ``champion``, that a space moves from one checkpoint to the next, and their gates."""

from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from shared.models.base import Entity, Identifier, Model
from shared.models.job import MetricName

MAX_ALIASES = 100
# The checks of a promotion are one transaction of 100 writes.
MAX_REQUIRED_BENCHMARKS = 30
MAX_THRESHOLDS = 40
# Only an owner deletes it, as all aliases with a gate. Without a gate only an owner moves it.
PROTECTED_ALIAS = "champion"

AliasName = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,31}$"),
    Field(description="lower-case letters, digits and hyphens, 32 characters at most"),
]


def _without_repeats(identifiers: list[str]) -> list[str]:
    return list(dict.fromkeys(identifiers))


RequiredBenchmarks = Annotated[
    list[Identifier],
    Field(
        max_length=MAX_REQUIRED_BENCHMARKS,
        description="a checkpoint needs a result on each of these benchmarks, at its current revision",
    ),
    AfterValidator(_without_repeats),
]


class CheckpointAliasPut(Model):
    """New checkpoint of an alias. Only an owner may send ``required_benchmark_ids``, which changes the gate."""

    checkpoint_id: Identifier
    required_benchmark_ids: RequiredBenchmarks | None = None


class Threshold(Model):
    """A bound of a metric on one required benchmark, or on each of them."""

    metric: MetricName
    at_least: float | None = Field(default=None, strict=True, allow_inf_nan=False)
    at_most: float | None = Field(default=None, strict=True, allow_inf_nan=False)
    benchmark_id: Identifier | None = Field(default=None, description="each required benchmark when left out")

    @model_validator(mode="after")
    def _one_bound(self) -> "Threshold":
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("needs one of at_least and at_most")
        return self

    def is_met(self, value: float) -> bool:
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)

    def __str__(self) -> str:
        return f"{self.metric} >= {self.at_least}" if self.at_least is not None else f"{self.metric} <= {self.at_most}"


class NotWorse(Model):
    """The checkpoint must not be worse than the one that ``than`` names, on each required benchmark.

    It is worse when a paired test on the rows that both evaluations scored says so with this confidence, or when the
    metric falls by more than ``largest_drop``. Without such a test, any fall counts. See ``test`` in the answer.
    """

    metric: MetricName = MetricName.ROC_AUC
    than: AliasName | None = Field(default=None, description="an alias; when left out, the alias itself as it is now")
    confidence: float = Field(default=0.95, strict=True, ge=0.5, lt=1)
    largest_drop: float | None = Field(default=None, strict=True, ge=0, allow_inf_nan=False)


class PromotionGatePut(Model):
    required_benchmark_ids: RequiredBenchmarks = Field(default_factory=list)
    thresholds: list[Threshold] = Field(default_factory=list, max_length=MAX_THRESHOLDS)
    not_worse: NotWorse | None = None

    @model_validator(mode="after")
    def _on_required_benchmarks(self) -> "PromotionGatePut":
        if (self.thresholds or self.not_worse) and not self.required_benchmark_ids:
            raise ValueError("required_benchmark_ids must name the benchmarks on which the checkpoint is judged")
        others = {each.benchmark_id for each in self.thresholds} - {None, *self.required_benchmark_ids}
        if others:
            raise ValueError(f"thresholds name benchmarks that are not required: {', '.join(map(str, others))}")
        return self


class PromotionGate(PromotionGatePut, Entity):
    """What a checkpoint needs before an alias may name it. Its id is the alias, which need not exist yet."""

    updated_by: str


class ComparisonTest(StrEnum):
    """How two results were compared.

    ``paired_delong``: the test of DeLong, DeLong and Clarke-Pearson (1988) on the rows that both evaluations scored.
    ``paired_difference``: a z-test of the difference on these rows, by what each row adds to the metric. ``values``:
    the values alone, if an evaluation has kept no scores of rows (those of earlier versions) or too few are common.
    Promotions of earlier versions have ``unpaired_roc`` and ``unpaired_proportion``.
    """

    PAIRED_DELONG = "paired_delong"
    PAIRED_DIFFERENCE = "paired_difference"
    VALUES = "values"
    UNPAIRED_ROC = "unpaired_roc"
    UNPAIRED_PROPORTION = "unpaired_proportion"


class Comparison(Model):
    """A comparison with the checkpoint that had to be matched, on one benchmark."""

    benchmark_id: str
    metric: MetricName
    value: float
    against: float = Field(description="the value of the checkpoint that had to be matched")
    against_checkpoint_id: str
    test: ComparisonTest
    p_value: float | None = Field(
        description="probability of such a difference, or a worse one, between equal checkpoints; null without a test"
    )
    difference: float | None = Field(
        default=None, description="on the common rows, or of the values without a test; positive if it is better"
    )
    lowest_difference: float | None = Field(
        default=None, description="bound of the difference, with the gate's confidence; null without a test"
    )
    highest_difference: float | None = Field(
        default=None, description="the same above: the checkpoint is worse if this is below 0"
    )
    rows: int | None = Field(default=None, description="rows that both evaluations scored; null without a test")


class CheckpointAlias(Entity):
    """An alias. Its id is its name."""

    checkpoint_id: str
    required_benchmark_ids: list[str]
    comparisons: list[Comparison] = Field(
        default_factory=list, description="how the checkpoint was compared at its promotion, if the gate asks for it"
    )
    updated_by: str
