"""Turns every error into the same JSON: ``error``, ``code``, ``details`` and ``request_id``."""

from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as AwsConnectionError
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match

from shared.errors import (
    ApiError,
    Detail,
    MethodNotAllowedError,
    NotFoundError,
    PayloadTooLargeError,
    UnavailableError,
    ValidationFailedError,
)
from shared.models.base import Model
from shared.observability import count_failed_request, count_failure, logger

# Responses under these paths have the shapes of OpenAI's API.
OPENAI_PATHS = "/v1/"
OPENAI_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
THROTTLED = {
    "LimitExceededException",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "SlowDown",
    "ThrottledException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
    "TransactionInProgressException",
}


class ErrorDetail(Model):
    field: str
    message: str


class ErrorAnswer(Model):
    """Body of every 4xx and 5xx response."""

    error: str
    code: str
    details: list[ErrorDetail]
    request_id: str


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Returns the ``responses=`` of a route that can fail with these statuses."""
    return {status: {"model": ErrorAnswer, "description": _DESCRIPTIONS[status]} for status in sorted(statuses)}


_DESCRIPTIONS = {
    400: "The request is wrong; `details` says where.",
    401: "The bearer token is missing, expired or not valid.",
    402: "The account of the language model's server has no credit left.",
    403: "The caller, or the API key, lacks the permission or scope named in `error`.",
    404: "The space does not have it.",
    409: "The current state does not allow this.",
    410: "It has expired.",
    412: "`If-Match` is not the current ETag.",
    413: "The request is too large.",
    429: "Too many requests; `Retry-After` says when to try again.",
    502: "A system that the space uses refused the call or failed.",
    503: "A system that is needed can't be reached now.",
    504: "A system that is needed did not respond in time.",
}


def error_body(error: ApiError, request_id: str) -> dict[str, Any]:
    body = ErrorAnswer(
        error=error.message,
        code=error.code,
        details=[ErrorDetail(field=detail.field, message=detail.message) for detail in error.details],
        request_id=request_id,
    )
    return body.model_dump()


def openai_error_body(error: ApiError) -> dict[str, Any]:
    """Returns the error in the shape of OpenAI's API."""
    kind = OPENAI_TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
    where = error.details[0].field.removeprefix("body.") if error.details else error.openai_param or None
    named = {"type": error.openai_type or kind, "param": where, "code": error.openai_code or error.code}
    return {"error": {"message": error.message, **named}}


def error_response(error: ApiError, request_id: str, path: str) -> JSONResponse:
    if error.status >= ApiError.status and not error.is_theirs:
        count_failed_request()
    body = openai_error_body(error) if path.startswith(OPENAI_PATHS) else error_body(error, request_id)
    return JSONResponse(body, status_code=error.status, headers=error.headers)


def _from_validation(error: RequestValidationError) -> ApiError:
    details = []
    for problem in error.errors():
        path = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "json_invalid":
            path, message = "body", f"is not valid JSON: {problem['ctx']['error']}"
        else:
            message = str(problem["msg"]).removeprefix("Value error, ")
        details.append(Detail(path, message))
    first = details[0]
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    return ValidationFailedError(f"{first.field}: {first.message}{more}", details[:100])


def _from_http(error: HTTPException) -> ApiError:
    if error.status_code == NotFoundError.status:
        return NotFoundError("There is no such address. /openapi.json lists them all.")
    if error.status_code == MethodNotAllowedError.status:
        return MethodNotAllowedError("This address does not take this method.")
    if error.status_code == PayloadTooLargeError.status:
        return PayloadTooLargeError(str(error.detail))
    return ValidationFailedError(f"body: {error.detail}", [Detail("body", str(error.detail))])


def _from_aws(error: ClientError) -> ApiError:
    if error.response["Error"]["Code"] in THROTTLED:
        return UnavailableError("The service is busy. Try again in a moment.", headers={"Retry-After": "2"})
    if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= 500:
        return _unreachable(error)
    return unexpected(error)


def unexpected(error: Exception) -> ApiError:
    """Logs a defect with its stack trace, counts it, and returns the error for the client."""
    logger.error("unhandled error", exc_info=(type(error), error, error.__traceback__))
    count_failure()
    return ApiError("Something failed on our side. Try again. If that fails too, send the request_id to support.")


def _unreachable(error: Exception) -> ApiError:
    logger.warning("a system we need can't be reached", exc_info=(type(error), error, error.__traceback__))
    return UnavailableError(
        "A system we need can't be reached just now. Try again in a moment.", headers={"Retry-After": "5"}
    )


TRANSLATIONS: dict[type[Exception], Callable[[Any], ApiError]] = {
    ApiError: lambda error: error,
    RequestValidationError: _from_validation,
    HTTPException: _from_http,
    ClientError: _from_aws,
    AwsConnectionError: _unreachable,
    HTTPClientError: _unreachable,
}


def translated(error: Exception) -> ApiError:
    """Returns the error that clients get; ``error`` is of one of the kinds in TRANSLATIONS."""
    return next(translate for kind, translate in TRANSLATIONS.items() if isinstance(error, kind))(error)


def _methods(request: Request) -> str:
    """Returns all methods of an address. Starlette names only those of the first matching route."""
    routes = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
    # /a/b takes precedence over /a/{id}.
    path = min((route.path for route in routes), key=lambda path: path.count("{"))
    return ", ".join(sorted(method for route in routes if route.path == path for method in route.methods))


def install_error_handlers(app: FastAPI) -> None:
    async def handler(request: Request, error: Exception) -> JSONResponse:
        shown = translated(error)
        if isinstance(shown, MethodNotAllowedError):
            shown.headers = {"Allow": _methods(request)}
            shown.message = f"This address does not take this method; it takes {shown.headers['Allow']}."
        return error_response(shown, request.state.request_id, request.url.path)

    for kind in TRANSLATIONS:
        app.add_exception_handler(kind, handler)
