"""What a language model's server answers, and what its failures mean; calling it is ``upstream``'s."""

from dataclasses import dataclass
from typing import Any

from shared.errors import ApiError, UnavailableError, UpstreamError


class UnreachableError(UnavailableError):
    """Nobody answered: no connection, or one that broke before a word was said (``was_connected``)."""

    code = "cluster_unreachable"
    was_connected = False


class UpstreamTimeoutError(ApiError):
    """The server took the call and did not answer in time."""

    status = 504
    code = "cluster_timeout"


class BrokenAnswerError(UpstreamError):
    """The server answered something that is no answer: an internal error, or no JSON of the agreed shape."""

    code = "cluster_error"


class RefusedError(UpstreamError):
    """The server does not take the cluster's token, or lacks what it was asked for."""

    code = "cluster_refused"


class RejectedError(ApiError):
    """The server finds the request itself wrong: its caller can put it right."""

    status = 400
    code = "cluster_rejected"


class BusyError(ApiError):
    """Error raised when the server refuses calls for a while."""

    status = 429
    code = "cluster_busy"


@dataclass(frozen=True)
class Completion:
    """A finished answer, as the server gave it."""

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


def usage_of(answer: dict[str, Any]) -> dict[str, Any]:
    """Returns the tokens that the server counted, if it did."""
    usage = answer.get("usage")
    return usage if isinstance(usage, dict) else {}
