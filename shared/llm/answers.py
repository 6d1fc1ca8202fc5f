"""Completions of a language model's server, and the errors of calls to it. ``upstream`` makes the calls."""

from dataclasses import dataclass
from typing import Any

from shared.errors import ApiError, UnavailableError, UpstreamError


class UnreachableError(UnavailableError):
    """Error raised when there is no connection, or one that broke before the response (``was_connected``)."""

    code = "cluster_unreachable"
    was_connected = False


class UpstreamTimeoutError(ApiError):
    """Error raised when the server accepted the call and did not respond in time."""

    status = 504
    code = "cluster_timeout"


class BrokenAnswerError(UpstreamError):
    """Error raised for a response without a completion: an internal error, or JSON of another shape."""

    code = "cluster_error"


class RefusedError(UpstreamError):
    """Error raised when the server refuses the cluster's token, or lacks the requested model or path."""

    code = "cluster_refused"


class RejectedError(ApiError):
    """Error raised when the server rejects the request, which its caller can correct."""

    status = 400
    code = "cluster_rejected"


class BusyError(ApiError):
    """Error raised when the server refuses calls for a while."""

    status = 429
    code = "cluster_busy"


@dataclass(frozen=True)
class Completion:
    """A whole completion, as the server sent it."""

    body: dict[str, Any]

    @property
    def model(self) -> str:
        return str(self.body.get("model") or "")

    @property
    def usage(self) -> dict[str, Any]:
        return usage_of(self.body)

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


def usage_of(body: dict[str, Any]) -> dict[str, Any]:
    """Returns the tokens that the server counted, if it did."""
    usage = body.get("usage")
    return usage if isinstance(usage, dict) else {}
