"""Inference logs: one row for every call to a language model, whichever group made it."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from pydantic import Field

from shared.models.base import Model, Timestamp

# Most tags of one call: one transaction updates the sums of each tag.
MAX_TAGS = 15
# Longest value of a filter: the user, the model, a tag, the correlation id.
MAX_NAME_LENGTH = 200


class CallType(StrEnum):
    """Purpose of a call of a language model."""

    CHAT = "chat"
    GUARD = "guard"
    ROUTER = "router"
    EMBEDDING = "embedding"
    PERSONA = "persona"
    ARGUMENT = "argument"
    INSIGHT = "insight"


class CallStatus(StrEnum):
    """How a call ended; ``cancelled`` means that the client left before its end."""

    SUCCESS = "success"
    ERROR = "error"
    BLOCKED = "blocked"
    CANCELLED = "cancelled"


class GuardCoverage(Model):
    """Numbers of characters that the guard read, and of the completion that were sent."""

    scanned_characters: int = 0
    sent_characters: int = 0


class InferenceLog(Model):
    """One call. ``prompt`` and ``answer`` are stored only for spaces that opted in."""

    id: str
    type: CallType
    model: str
    user: str = Field(description="the `user` of the request, or the caller's id")
    status: CallStatus
    tags: list[str] = Field(default_factory=list)
    correlation_id: str
    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    latency_ms: float
    first_token_ms: float | None = None
    error: str | None = None
    chat_id: str | None = None
    expert_id: str | None = None
    expert_version: int | None = None
    guard: GuardCoverage | None = None
    prompt: str | None = None
    answer: str | None = None
    is_own_cluster: bool = Field(default=False, exclude=True, description="whether the space's own server was called")
    created_at: Timestamp


@dataclass(frozen=True, kw_only=True)
class LogFilters:
    """Filters of calls. ``None`` does not filter. Both dates are inclusive."""

    start_date: datetime | None = None
    end_date: datetime | None = None
    user: str | None = None
    model: str | None = None
    status: CallStatus | None = None
    type: CallType | None = None
    tag: str | None = None
    correlation_id: str | None = None


class InferenceSummary(Model):
    """Totals of the calls of a period."""

    total_calls: int
    success_rate: float = Field(description="share of the calls with status `success`, 0 to 1; 0 without calls")
    avg_latency_ms: float = Field(description="mean over all calls; 0 without calls")
    input_tokens: int
    output_tokens: int
    total_tokens: int
    model_usage: dict[str, int] = Field(description="number of calls of each model")
    period_start_date: Timestamp
    period_end_date: Timestamp


class UsageGroup(StrEnum):
    """What usage is added up by. Days and hours are of UTC."""

    DAY = "day"
    HOUR = "hour"
    MODEL = "model"
    TYPE = "type"
    USER = "user"


class UsageRow(Model):
    """The calls of one day, hour, model, type or user."""

    name: str | None = Field(
        description="the beginning of the day or hour, the model, the type, or the id of the member. Null for the "
        "calls of all other users: programs may name their own in `user`"
    )
    calls: int
    succeeded: int
    avg_latency_ms: float
    input_tokens: int
    output_tokens: int
    total_tokens: int
    cost: float | None = Field(description="by the prices in the limits of the space; null without prices")


class InferenceUsage(Model):
    """Usage of a period: in the order of time, or else the dearest and largest first."""

    data: list[UsageRow]
    period_start_date: Timestamp
    period_end_date: Timestamp
