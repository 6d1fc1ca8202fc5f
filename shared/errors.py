"""Errors with the HTTP status and the stable code of their response."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Detail:
    """One problem: its field (a dotted path such as ``body.name``) and a message."""

    field: str
    message: str


@dataclass
class ApiError(Exception):
    """Error that the client gets. Its message says how to continue."""

    message: str
    details: list[Detail] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)

    status = 500
    code = "internal_error"
    # Whether something of the space's own failed: such a response is no failure of ours in metrics and alarms.
    is_theirs = False
    # The error's parts in OpenAI's shape, if they do not follow from the code, the status and the first detail.
    openai_code = ""
    openai_type = ""
    openai_param = ""

    def __str__(self) -> str:
        return self.message


class ValidationFailedError(ApiError):
    status = 400
    code = "validation_error"

    @classmethod
    def of(cls, field_path: str, message: str) -> "ValidationFailedError":
        """Returns the error of one field."""
        return cls(f"{field_path}: {message}", [Detail(field_path, message)])


class InvalidCursorError(ApiError):
    status = 400
    code = "invalid_cursor"


class SpaceRequiredError(ApiError):
    status = 400
    code = "space_required"


class UnauthenticatedError(ApiError):
    status = 401
    code = "unauthenticated"


class PermissionDeniedError(ApiError):
    status = 403
    code = "permission_denied"


class NotFoundError(ApiError):
    status = 404
    code = "not_found"


class MethodNotAllowedError(ApiError):
    status = 405
    code = "method_not_allowed"


class ConflictError(ApiError):
    status = 409
    code = "conflict"


class GoneError(ApiError):
    """Error raised for something that has expired."""

    status = 410
    code = "gone"


class PreconditionFailedError(ApiError):
    status = 412
    code = "precondition_failed"


class PayloadTooLargeError(ApiError):
    status = 413
    code = "payload_too_large"


class LimitReachedError(ApiError):
    """Error raised when a space has reached a limit that its operator set."""

    status = 429
    code = "limit_reached"


class ClientGoneError(ApiError):
    """Error raised when the client has left and its work was cancelled. The status is nginx's."""

    status = 499
    code = "client_gone"


class UpstreamError(ApiError):
    """Error raised when a user's system (a bucket, a cluster) refuses a call or fails."""

    status = 502
    code = "upstream_error"
    is_theirs = True


class UnavailableError(ApiError):
    status = 503
    code = "unavailable"


class ContendedError(UnavailableError):
    """Error raised when too many requests of a space change the same thing at the same time."""

    is_theirs = True


# The beginning of the text of a job that ended with an error of ours.
UNEXPECTED_JOB_ERROR = "The job failed with an unexpected error"


class JobFailedError(Exception):
    """Error that ends a job. Users read its text as the entity's ``error``."""


class TransientError(Exception):
    """Failure of a user's system that may pass, so the step is repeated for some minutes.

    If it stays, users read its text as the entity's ``error``.
    """


class OutageError(TransientError):
    """The same of ours: AWS refuses calls or does not respond."""
