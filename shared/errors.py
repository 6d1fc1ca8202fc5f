"""One hierarchy: every error carries the HTTP status and the stable code it is answered with."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Detail:
    """One thing that is wrong: where (a dotted path such as ``body.name``) and what."""

    field: str
    message: str


@dataclass
class ApiError(Exception):
    """Error that the client gets. Its message says what to do next."""

    message: str
    details: list[Detail] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)

    status = 500
    code = "internal_error"

    def __str__(self) -> str:
        return self.message


class ValidationFailedError(ApiError):
    status = 400
    code = "validation_error"

    @classmethod
    def of(cls, field_path: str, message: str) -> "ValidationFailedError":
        """Returns one field is wrong."""
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
    """It was there, and its time is over."""

    status = 410
    code = "gone"


class PreconditionFailedError(ApiError):
    status = 412
    code = "precondition_failed"


class PayloadTooLargeError(ApiError):
    status = 413
    code = "payload_too_large"


class ClientGoneError(ApiError):
    """Nobody is there to be answered (the status is nginx's); what was being done for the client was stopped."""

    status = 499
    code = "client_gone"


class UpstreamError(ApiError):
    """A system the user pointed us at (a bucket, a cluster) refused or broke."""

    status = 502
    code = "upstream_error"


class UnavailableError(ApiError):
    status = 503
    code = "unavailable"


class JobFailedError(Exception):
    """A job can't go on; its text becomes the entity's ``error`` and is read by users."""
