"""Middleware of every request: an id, a size limit, security headers, one log line, the shape of errors, origins."""

import re
import time
from typing import Protocol
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.bounds import REQUEST_BODY
from shared.errors import PayloadTooLargeError
from shared.http.errors import error_response, unexpected
from shared.observability import logger

# Lambda accepts events of 6 MB, and the body in them may be base64.
BODY_LIMIT = REQUEST_BODY.size_bytes
TOO_LARGE = (
    f"The request is larger than {BODY_LIMIT // 1024**2} MB. Send less in one request, or upload files to a connector."
)
# A response may set a header of its own, as the public pages do. infra/constructs/error_responses.py has the same
# headers for API Gateway's own errors. The policy is for a browser that is sent to an address of the API.
SECURITY_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
    "X-Content-Type-Options": "nosniff",
}
# Upload tokens have 43 characters. Ids have 36.
_LONG_PART = re.compile(r"[^/]{40,}")
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
# What a browser application may read of a response, beside its body.
EXPOSED_HEADERS = ("ETag", "Retry-After", "X-Request-Id")
PREFLIGHT_SECONDS = 3600


class RequestMiddleware:
    """Runs inside Starlette's error handling and around the app's own."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else str(uuid4())
        path = scope["path"]
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        started = state["started"] = time.perf_counter()
        status = 0
        received = 0

        async def receive_bounded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > BODY_LIMIT:
                raise HTTPException(PayloadTooLargeError.status, TOO_LARGE)
            return message

        async def send_tagged(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                answer = MutableHeaders(scope=message)
                answer["X-Request-Id"] = request_id
                for name, value in SECURITY_HEADERS.items():
                    answer.setdefault(name, value)
            await send(message)

        with logger.append_context_keys(request_id=request_id):
            try:
                if headers.get("content-length", "").isdigit() and int(headers["content-length"]) > BODY_LIMIT:
                    await error_response(PayloadTooLargeError(TOO_LARGE), request_id, path)(scope, receive, send_tagged)
                else:
                    await self._app(scope, receive_bounded, send_tagged)
            except Exception as error:
                if status:  # the response has begun, so it can only be broken off
                    raise
                await error_response(unexpected(error), request_id, path)(scope, receive, send_tagged)
            finally:
                logger.info(
                    "request",
                    extra={
                        "method": scope["method"],
                        "path": _LONG_PART.sub("***", _logged_path(scope)),
                        "status": status,
                        "duration_ms": round((time.perf_counter() - started) * 1000, 2),
                        "space_id": state.get("space_id"),
                        "user_id": state.get("user_id"),
                    },
                )


def _logged_path(scope: Scope) -> str:
    """Returns the path for the log. The keys of customers are personal data, so the log has their route instead."""
    named = "key" in scope.get("path_params", {})
    path: str = scope["route"].path if named else scope["path"]
    return path


class CorsSettings(Protocol):
    @property
    def cors_origins(self) -> str | None:
        """Returns the origins, separated by commas."""


class CorsResources(Protocol):
    @property
    def settings(self) -> CorsSettings:
        """Returns the settings of the process."""


class CorsMiddleware:
    """Lets browser applications of the origins in the setting ``cors_origins`` call the API.

    It answers preflight requests, and names the origin in responses. It reads the setting at a
    browser's first request.
    """

    def __init__(self, app: ASGIApp, resources: CorsResources) -> None:
        self._plain = app
        self._resources = resources
        self._app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Only browsers name an origin.
        if scope["type"] != "http" or "origin" not in Headers(scope=scope):
            await self._plain(scope, receive, send)
            return
        if self._app is None:
            origins = self._resources.settings.cors_origins
            self._app = self._allowing(origins.split(",")) if origins else self._plain
        await self._app(scope, receive, send)

    def _allowing(self, origins: list[str]) -> ASGIApp:
        # Few deployments need it, and every import makes a cold start longer.
        from starlette.middleware.cors import CORSMiddleware

        # Tokens come in a header, and never in a cookie. Client libraries send headers of their own.
        return CORSMiddleware(
            self._plain,
            allow_origins=origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=EXPOSED_HEADERS,
            max_age=PREFLIGHT_SECONDS,
        )
