"""Limits on the use of language models: rates by the minute, budgets by the day and the month (UTC)."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from shared.models.base import Identifier, Model, ModelName, Timestamp

USERS_LIMIT = 100
PRICES_LIMIT = 100
# Costs are counted in billionths of the space's currency, so that sums are exact.
NANO = 10**9
MILLION = 10**6


def _require_number(value: Any) -> Any:
    """Returns the value. Raises ValueError for ``false``, which would be read as 0 and stop all calls."""
    if isinstance(value, bool | str):
        raise ValueError("is not a number")
    return value


Count = Annotated[int, BeforeValidator(_require_number), Field(ge=0, le=10**12)]
Cost = Annotated[float, BeforeValidator(_require_number), Field(ge=0, le=10**9)]
Price = Annotated[float, BeforeValidator(_require_number), Field(ge=0, le=10**6)]


class Limits(Model):
    """A field that is left out sets no limit; 0 allows no call. A call may begin while any budget is left."""

    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None
    concurrent_calls: Count | None = None
    tokens_per_day: Count | None = None
    tokens_per_month: Count | None = None
    cost_per_day: Cost | None = None
    cost_per_month: Cost | None = None

    @property
    def ceilings(self) -> dict["LimitName", int]:
        """Returns the limits that are set, in counted units: costs in billionths."""
        given = {name: getattr(self, name) for name in LimitName}
        return {
            name: round(value * NANO) if name in COSTS else int(value)
            for name, value in given.items()
            if value is not None
        }


class LimitName(StrEnum):
    """Names of limits, in the order in which a refused call reports them."""

    COST_PER_MONTH = "cost_per_month"
    COST_PER_DAY = "cost_per_day"
    TOKENS_PER_MONTH = "tokens_per_month"
    TOKENS_PER_DAY = "tokens_per_day"
    TOKENS_PER_MINUTE = "tokens_per_minute"
    REQUESTS_PER_MINUTE = "requests_per_minute"
    CONCURRENT_CALLS = "concurrent_calls"


COSTS = frozenset({LimitName.COST_PER_DAY, LimitName.COST_PER_MONTH})


class ModelPrice(Model):
    """Price of a million tokens."""

    input: Price = 0
    output: Price = 0

    def cost(self, input_tokens: int, output_tokens: int) -> int:
        """Returns the cost in billionths of the currency."""
        return round((input_tokens * self.input + output_tokens * self.output) * (NANO // MILLION))


class SpaceLimits(Model):
    """All limits of a space, except the limits of its API keys."""

    space: Limits = Field(default_factory=Limits, description="for all calls in the space together")
    each_user: Limits = Field(default_factory=Limits, description="for the calls of each user, including API keys")
    users: dict[Identifier, Limits] = Field(
        default_factory=dict,
        max_length=USERS_LIMIT,
        description="for single users, by id, instead of `each_user`",
    )
    prices: dict[ModelName, ModelPrice] = Field(
        default_factory=dict,
        max_length=PRICES_LIMIT,
        description="price of a million tokens, by model; an unlisted model costs as much as the dearest listed one",
    )

    def of_user(self, user_id: str) -> Limits:
        return self.users.get(user_id, self.each_user)

    def price(self, model: str) -> ModelPrice:
        dearest = ModelPrice(
            input=max((each.input for each in self.prices.values()), default=0),
            output=max((each.output for each in self.prices.values()), default=0),
        )
        return self.prices.get(model, dearest)


class LimitUsage(Model):
    """Current use of a limit. ``reserved`` is for calls that have not ended."""

    limit: float
    used: float
    reserved: float
    resets_at: Timestamp | None = Field(default=None, description="end of the period; null for what has no period")


class SpaceLimitsAnswer(SpaceLimits):
    """The limits, and their current use by the whole space and by the caller."""

    space_usage: dict[LimitName, LimitUsage]
    own_usage: dict[LimitName, LimitUsage]
    job_usage: dict[str, LimitUsage] = Field(
        default_factory=dict,
        description="use of the limits that the operator sets: running_trainings, running_evaluations, "
        "running_runs, gpu_hours_per_month and storage_gib",
    )
    version: int = Field(default=1, exclude=True, repr=False)
