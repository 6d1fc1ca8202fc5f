"""Decision runs: the decisions about all customers in files, within the capacities of the run."""

from typing import Annotated, Any

from pydantic import Field, model_validator

from shared.models.action import ActionPriority, ActionStatus, ActionValue, Channel, Conditions, ModelReference
from shared.models.base import ALSO_WITH_POINT, Identifier, Model, Timestamp
from shared.models.experiment import ArmPolicy
from shared.models.insight import CANDIDATES_LIMIT, Arbitration, Rule, Wording
from shared.models.job import JobModel
from shared.models.run import DuplicateCustomer, Run, RunCreate, RunOutputCreate

MAX_LIMITS = 1000
SHOWN_DUPLICATES = 100
OfferAmount = Annotated[int, Field(ge=0, le=1_000_000_000, strict=True), ALSO_WITH_POINT]


class OfferLimit(Model):
    """How many offers of an action, or on a channel, the run makes."""

    action_id: Identifier | None = None
    channel: Channel | None = None
    capacity: OfferAmount | None = Field(default=None, description="the most offers; no limit when left out")
    minimum: OfferAmount = Field(default=0, description="the fewest offers; the run fails if so many cannot be made")

    @model_validator(mode="after")
    def _says_something(self) -> "OfferLimit":
        if (self.action_id is None) == (self.channel is None):
            raise ValueError("names nothing or two things: send action_id or channel")
        if self.capacity is None and not self.minimum:
            raise ValueError("limits nothing: send capacity or minimum")
        if self.capacity is not None and self.minimum > self.capacity:
            raise ValueError("has a minimum above its capacity")
        return self


class ActionOverride(Model):
    """Fields of an action that are others in this run. Those that are left out are the action's."""

    action_id: Identifier
    channel: Channel | None = None
    conditions: Conditions | None = None
    model_id: ModelReference | None = None
    priority: ActionPriority | None = None
    status: ActionStatus | None = None
    value: ActionValue | None = None


class RunOverrides(Model):
    """What is otherwise in a dry run: fields of the policy, and of actions. Arms of an experiment keep their own."""

    actions: Annotated[list[ActionOverride], Field(max_length=CANDIDATES_LIMIT)] = Field(default_factory=list)
    policy: ArmPolicy | None = None


class DecisionRunCreate(RunCreate):
    actions: list[Identifier] = Field(
        default_factory=list,
        max_length=CANDIDATES_LIMIT,
        description="the actions to choose from; all active actions of the space when empty",
    )
    dry_run: bool = Field(
        default=False, description="only compute the summary: no output, no reserved contacts, nothing else stored"
    )
    limits: Annotated[list[OfferLimit], Field(max_length=MAX_LIMITS)] = Field(
        default_factory=list,
        description="capacities and minimums; the run makes the offers with the highest sum of scores within them",
    )
    output: RunOutputCreate | None = Field(default=None, description="where the decisions go; not for a dry run")
    overrides: RunOverrides | None = Field(default=None, description="only for a dry run")
    wording: Wording = Field(default=Wording.NONE, description="`none` or `offer`: no language model writes in runs")

    @model_validator(mode="after")
    def _consistent(self) -> "DecisionRunCreate":
        if self.wording is Wording.ARGUMENT:
            raise ValueError("wording must be none or offer, because no language model writes in runs")
        if self.dry_run and self.output is not None:
            raise ValueError("output is not for a dry run, which writes nothing: leave it out")
        if not self.dry_run and self.output is None:
            raise ValueError("output is missing: name a managed connector, or ask for a dry_run")
        if self.overrides is not None and not self.dry_run:
            raise ValueError("overrides are for a dry run only: change the policy or the actions instead")
        if self.limits and self.wording is Wording.OFFER:
            raise ValueError("wording must be none with limits, because they decide on the offer last")
        places = [each.action_id or each.channel for each in self.limits]
        if len(set(places)) < len(places):
            raise ValueError("limits names an action or a channel twice: send one limit for each")
        return self


class DecisionRun(Run):
    """A run. Its output has one row for each customer, with the offer or the reason why it gets no offer."""

    actions: list[str] = Field(description="the actions that were compared")
    cancelled_at: Timestamp | None = Field(default=None, description="when its reserved contacts were released")
    decided_at: Timestamp = Field(description="the moment of all decisions")
    dry_run: bool
    limits: list[OfferLimit]
    overrides: RunOverrides | None = None
    policy_version: int
    wording: Wording
    # Packed, once there is one.
    summary: str | None = Field(default=None, exclude=True, repr=False)


class OfferCount(Model):
    """The offers of one action on one channel."""

    action_id: str
    channel: str | None = None
    name: str
    offers: int
    score: float = Field(description="the sum of the scores")
    expected_acceptances: float = Field(description="the sum of the propensities")
    expected_value: float | None = Field(description="the sum of propensity times value; null without values")


class RemovalCount(Model):
    action_id: str
    customers: int
    rule: Rule


class LimitUse(Model):
    """What became of a limit. A ``price`` above 0 is what one more offer would add to the sum of scores."""

    action_id: str | None = None
    channel: str | None = None
    capacity: int | None = None
    minimum: int = 0
    offers: int
    price: float = 0.0


class AllocationQuality(Model):
    """How good the allocation within the limits is. No allocation has a higher sum of scores than ``bound``."""

    bound: float
    gap: float = Field(description="(bound - score) / bound")
    limits: list[LimitUse]
    method: str = Field(description="`none`: no limit binds; `exact`: by HiGHS; `prices`: by prices of the limits")
    score: float


class OfferChange(Model):
    """The offers of one action on one channel in this run minus those in the other."""

    action_id: str
    channel: str | None = None
    offers: int
    expected_value: float | None


class RunDifference(Model):
    """This run minus another one."""

    compared_to: str
    customers: int
    expected_acceptances: float
    expected_value: float | None
    offers: int
    offers_by_action: list[OfferChange]
    removals: dict[str, int] = Field(description="by rule")
    score: float


class DecisionSummary(Model):
    """What a run decided."""

    allocation: AllocationQuality | None = Field(default=None, description="with limits")
    arbitration: Arbitration
    customers: int
    difference: RunDifference | None = Field(default=None, description="with `compare_to`")
    duplicates: int = Field(description="rows about a customer of an earlier row; the first one counts")
    duplicate_rows: list[DuplicateCustomer] = Field(description=f"some of them, {SHOWN_DUPLICATES} at most")
    expected_acceptances: float
    expected_value: float | None
    offers: int
    offers_by_action: list[OfferCount]
    removals: list[RemovalCount] = Field(description="customers by the rule that removed an action")
    reserved: int
    score: float
    without_offer: dict[str, int] = Field(description="customers without an offer by reason")


class DecisionSettings(JobModel):
    """Settings of a decision run in its plan: the moment, and what the run does with it."""

    now: Timestamp
    dry_run: bool
    limits: list[OfferLimit]
    wording: Wording
    policy: dict[str, Any]
    experiments: dict[str, Any]
    actions: list[dict[str, Any]]
    groups: list[dict[str, Any]]
    checkpoints: dict[str, dict[str, Any]]
    counts: dict[str, dict[str, int]]


# The columns of the output, in the words of Athena and Spark.
DECISION_COLUMNS = {
    "client_key": "string",
    "action_id": "string",
    "channel": "string",
    "score": "double",
    "propensity": "double",
    "score_source": "string",
    "checkpoint_id": "string",
    "reason": "string",
    "arm": "string",
    "experiment_id": "string",
    "withheld_action_id": "string",
    "contact_id": "string",
    "reserved_until": "string",
    "insight": "string",
    "argument": "string",
    "argument_content": "string",
    "insight_id": "string",
}
