"""Completions of language models, and the errors of calls to their server. ``upstream`` makes the calls."""

from dataclasses import dataclass
from typing import Any

from shared.errors import ApiError, NotFoundError, UnavailableError, UpstreamError

# Clients look for these words of OpenAI's message.
CONTEXT_WORDS = "maximum context length"


class UnreachableError(UpstreamError):
    """Error raised when the connection fails. ``was_connected`` is true if it failed before the response."""

    code = "cluster_unreachable"
    was_connected = False


class UpstreamTimeoutError(ApiError):
    """Error raised when the server accepts the call but does not respond in time."""

    status = 504
    code = "cluster_timeout"
    is_theirs = True


class OutOfTimeError(UpstreamTimeoutError):
    """Error raised when the request has no time left for a call."""


class BrokenResponseError(UpstreamError):
    """Error raised for a response without a completion, such as an internal error or an unknown JSON format."""

    code = "cluster_error"


class OverloadedError(BrokenResponseError):
    """Error raised when the server says that it cannot take calls for now."""

    status = 503
    code = "cluster_overloaded"


class RefusedError(UpstreamError):
    """Error raised when the server refuses the cluster's token, or the call for a reason of its own."""

    code = "cluster_refused"


class RejectedError(ApiError):
    """Error raised when the server rejects the request. The caller can correct it."""

    status = 400
    code = "cluster_rejected"


class ContextOverflowError(RejectedError):
    """Error raised when not even the newest turn fits into the model."""

    code = "context_length_exceeded"
    openai_param = "messages"


class ModeratedError(RejectedError):
    """Error raised when the server refuses the content of the request."""

    status = 403
    code = "cluster_moderated"
    openai_code = "content_policy_violation"
    openai_type = "invalid_request_error"


class UnknownModelError(NotFoundError):
    code = "model_not_found"


class ConflictingCallError(ApiError):
    """Error raised when the server refuses the call because of another call."""

    status = 409
    code = "cluster_conflict"


class BusyError(ApiError):
    """Error raised when the server refuses the call because it is busy."""

    status = 429
    code = "cluster_busy"
    openai_code = "rate_limit_exceeded"


class QuotaError(BusyError):
    """Error raised when the account of the server has no credit or quota left. Its status is 402 or 429."""

    code = "cluster_quota"
    openai_code = openai_type = "insufficient_quota"


def blame_deployment(error: ApiError) -> None:
    """Makes an error of a server one of ours, because the server is the deployment's."""
    error.status, error.is_theirs = UnavailableError.status, False


@dataclass(frozen=True)
class Completion:
    """A whole completion that the server sent."""

    body: dict[str, Any]

    @property
    def model(self) -> str:
        return str(self.body.get("model") or "")

    @property
    def message(self) -> dict[str, Any]:
        message: dict[str, Any] = self.body["choices"][0]["message"]
        return message

    @property
    def finish_reason(self) -> str | None:
        reason = self.body["choices"][0].get("finish_reason")
        return reason if isinstance(reason, str) else None

    @property
    def text(self) -> str:
        return str(self.message.get("content") or "")
