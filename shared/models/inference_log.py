"""Inference logs: one row for every call to a language model, whichever group made it."""

from enum import StrEnum

from pydantic import Field

from shared.models.base import Model, Timestamp


class CallType(StrEnum):
    """What a language model was called for."""

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
    """How much text the guard has read, and how much of the answer was sent; both in characters."""

    scanned_characters: int = 0
    sent_characters: int = 0


class InferenceLog(Model):
    """One call. ``prompt`` and ``answer`` are kept only for spaces that opted in."""

    id: str
    type: CallType
    model: str
    user: str = Field(description="the `user` of the request, or the id of who made it")
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
    created_at: Timestamp
