"""Experiments: arms that decide in different ways, for shares of the customers."""

from decimal import Decimal
from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from shared.models.action import ModelReference, ValueAmount
from shared.models.base import Model, NotBlank, Timestamp
from shared.models.insight import CONTACT_LIMITS, ContactExemptions, ContactLimit, PriorityWeights, SuppressionDays

ARMS_LIMIT = 20
ArmName = Annotated[NotBlank, StringConstraints(max_length=64)]
Salt = Annotated[NotBlank, StringConstraints(max_length=100)]
_WHOLE = Decimal(100)


class ArmPolicy(Model):
    """Fields of the policy that are others in this arm. Those that are left out are the policy's."""

    contact_limits: Annotated[list[ContactLimit], Field(max_length=CONTACT_LIMITS)] | None = None
    default_value: ValueAmount | None = None
    exempt: ContactExemptions | None = None
    suppression_days: SuppressionDays | None = None
    weights: PriorityWeights | None = None


class ExperimentArm(Model):
    """A share of the customers. An arm with only a name and a percentage decides as usual."""

    checkpoint: ModelReference | None = Field(
        default=None, description="id or alias of a checkpoint that scores instead of the models of actions"
    )
    control: bool = Field(default=False, description="make no offer; the insight keeps which one it would have been")
    name: ArmName
    percentage: Decimal = Field(gt=0, le=100, max_digits=5, decimal_places=2, description="its share of the customers")
    policy: ArmPolicy | None = None
    replaces: ModelReference | None = Field(
        default=None, description="use `checkpoint` only for actions with this `model_id`; for all with one if left out"
    )

    @model_validator(mode="after")
    def _consistent(self) -> "ExperimentArm":
        if self.control and (self.checkpoint or self.policy):
            raise ValueError("makes no offer, so it has neither a checkpoint nor a policy")
        if self.replaces and not self.checkpoint:
            raise ValueError("replaces a model, so name the checkpoint that takes its place")
        return self


class ExperimentsUpdate(Model):
    """The whole state of the space's experiment. Without arms the space has no experiment."""

    arms: Annotated[list[ExperimentArm], Field(max_length=ARMS_LIMIT)] = Field(default_factory=list)
    explore: bool = Field(
        default=False,
        description="draw the propensity of actions without a model from what is known about their acceptance rate "
        "(Thompson sampling), so that new actions get offers",
    )
    salt: Salt | None = Field(
        default=None, description="another salt deals the customers anew; the present one, or a new one, if left out"
    )

    @model_validator(mode="after")
    def _complete(self) -> "ExperimentsUpdate":
        names = [arm.name for arm in self.arms]
        if len(set(names)) < len(names):
            raise ValueError("has two arms of the same name")
        if self.arms and sum(arm.percentage for arm in self.arms) != _WHOLE:
            raise ValueError("must have arms whose percentages add up to 100")
        return self


class Experiments(Model):
    """The experiment of a space. Its ``id`` changes with its arms and its salt, and results belong to one id."""

    arms: list[ExperimentArm] = Field(default_factory=list)
    explore: bool = False
    id: str | None = None
    salt: str | None = None
    updated_at: Timestamp | None = None
    updated_by: str | None = None
    version: int = Field(default=0, exclude=True, repr=False)

    @property
    def is_running(self) -> bool:
        return bool(self.arms) or self.explore


class ArmResult(Model):
    """The customers of an arm, those who accepted, and the difference of their shares to the baseline's, at 95%."""

    arm: str
    conversions: int
    customers: int
    high: float | None = Field(description="the upper end of the interval of `rate`")
    is_significant: bool | None = Field(description="whether the interval of the uplift leaves out 0")
    low: float | None = Field(description="the lower end of the interval of `rate`")
    percentage: Decimal
    rate: float | None = Field(description="conversions divided by customers")
    uplift: float | None = Field(description="the rate minus the rate of the baseline; null for the baseline")
    uplift_high: float | None
    uplift_low: float | None


class SampleRatio(Model):
    """Whether the customers fit the percentages of the arms. A mismatch makes the uplift worthless."""

    mismatch: bool = Field(description="whether chance explains the difference with less than 0.1%")
    p_value: float | None


class Uplift(Model):
    """Results of the running experiment. Each customer counts once, in the arm of the first decision."""

    arms: list[ArmResult]
    baseline: str | None = Field(description="the control arm, or else the first arm")
    experiment_id: str | None
    sample_ratio: SampleRatio
