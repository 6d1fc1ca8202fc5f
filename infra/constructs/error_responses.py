"""Gives API Gateway's own error responses the JSON shape of the application's errors."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from aws_cdk import aws_apigateway as apigateway

Type = apigateway.ResponseType


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """Error response of API Gateway. ``status`` None keeps API Gateway's status."""

    type: apigateway.ResponseType
    status: int | None
    code: str
    error: str
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def template(self) -> str:
        body = {"error": self.error, "code": self.code, "details": [], "request_id": "$context.requestId"}
        return json.dumps(body)


# The application's headers (shared/http/middleware.py) but for its policy for pages: API Gateway puts each value in
# single quotes, which the policy contains, and no browser takes JSON with these headers for a page.
SECURITY_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
    "X-Content-Type-Options": "nosniff",
}

_UNAUTHENTICATED = "Send a valid bearer token in the Authorization header."
_UNKNOWN = "There is no such path. /docs lists what there is."
_INTERNAL = "Something went wrong on our side. Try again; if it stays, tell us the request_id."
_TOO_MANY = "Too many requests. Wait as long as Retry-After says, then send fewer at a time."

RESPONSES = (
    ErrorResponse(Type.DEFAULT_4_XX, None, "bad_request", "The request was refused. Check it against /docs."),
    ErrorResponse(Type.DEFAULT_5_XX, None, "internal_error", _INTERNAL),
    ErrorResponse(Type.BAD_REQUEST_BODY, 400, "validation_error", "The body is not what this path takes; see /docs."),
    ErrorResponse(
        Type.BAD_REQUEST_PARAMETERS, 400, "validation_error", "A parameter is not what this path takes; see /docs."
    ),
    ErrorResponse(Type.UNAUTHORIZED, 401, "unauthenticated", _UNAUTHENTICATED, {"WWW-Authenticate": "'Bearer'"}),
    ErrorResponse(
        Type.EXPIRED_TOKEN,
        401,
        "unauthenticated",
        "The token has expired. Sign in again.",
        {"WWW-Authenticate": "'Bearer'"},
    ),
    ErrorResponse(Type.INVALID_SIGNATURE, 401, "unauthenticated", _UNAUTHENTICATED),
    # The authorizer denies only callers without a valid token. Functions decide about permissions.
    ErrorResponse(Type.ACCESS_DENIED, 401, "unauthenticated", _UNAUTHENTICATED, {"WWW-Authenticate": "'Bearer'"}),
    ErrorResponse(Type.INVALID_API_KEY, 403, "permission_denied", "This API key may not do that."),
    ErrorResponse(Type.WAF_FILTERED, 403, "permission_denied", "The request was blocked by the firewall."),
    # API Gateway uses this type for a path or method that does not exist.
    ErrorResponse(Type.MISSING_AUTHENTICATION_TOKEN, 404, "not_found", _UNKNOWN),
    ErrorResponse(Type.RESOURCE_NOT_FOUND, 404, "not_found", _UNKNOWN),
    ErrorResponse(
        Type.REQUEST_TOO_LARGE, 413, "payload_too_large", "The request is over 10 MB. Upload large files to S3 instead."
    ),
    ErrorResponse(
        Type.UNSUPPORTED_MEDIA_TYPE, 415, "unsupported_media_type", "Send JSON with Content-Type: application/json."
    ),
    ErrorResponse(Type.THROTTLED, 429, "too_many_requests", _TOO_MANY, {"Retry-After": "'1'"}),
    ErrorResponse(Type.QUOTA_EXCEEDED, 429, "too_many_requests", _TOO_MANY, {"Retry-After": "'3600'"}),
    ErrorResponse(Type.AUTHORIZER_FAILURE, 500, "internal_error", _INTERNAL),
    ErrorResponse(Type.AUTHORIZER_CONFIGURATION_ERROR, 500, "internal_error", _INTERNAL),
    ErrorResponse(Type.API_CONFIGURATION_ERROR, 500, "internal_error", _INTERNAL),
    ErrorResponse(Type.INTEGRATION_FAILURE, 502, "internal_error", _INTERNAL),
    ErrorResponse(Type.INTEGRATION_TIMEOUT, 504, "timeout", "The answer took too long. Try again, or ask for less."),
)


def add_error_responses(api: apigateway.RestApi, allowed_origin: str | None = None) -> None:
    """Adds RESPONSES to ``api``. Browsers of ``allowed_origin`` may read them."""
    security = {name: f"'{value}'" for name, value in SECURITY_HEADERS.items()}
    cors = {"Access-Control-Allow-Origin": f"'{allowed_origin}'"} if allowed_origin else {}
    for response in RESPONSES:
        api.add_gateway_response(
            response.type.response_type.title().replace("_", ""),
            type=response.type,
            status_code=str(response.status) if response.status else None,
            response_headers={"X-Request-Id": "context.requestId", **security, **response.headers, **cors},
            templates={"application/json": response.template},
        )
