"""Completions of language models, and the errors of calls to their server. ``upstream`` makes the calls."""

from dataclasses import dataclass
from typing import Any

from shared.errors import ApiError, UnavailableError, UpstreamError


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
    """Error raised when the request has no time left for a call, whatever the server does."""


class BrokenResponseError(UpstreamError):
    """Error raised for a response without a completion, such as an internal error or an unknown JSON format."""

    code = "cluster_error"


class RefusedError(UpstreamError):
    """Error raised when the server refuses the cluster's token or does not have the requested model or path."""

    code = "cluster_refused"


class RejectedError(ApiError):
    """Error raised when the server rejects the request. The caller can correct it."""

    status = 400
    code = "cluster_rejected"


class BusyError(ApiError):
    """Error raised when the server refuses the call because it is busy."""

    status = 429
    code = "cluster_busy"


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
    """Returns the token counts of the response, or an empty dictionary if the server did not count."""
    usage = body.get("usage")
    return usage if isinstance(usage, dict) else {}
