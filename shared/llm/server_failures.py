"""Reads how a server says that a call failed, and returns the error that keeps its class.

Servers say it with a status, or with an error in a response or an event that looks like a success. They name the reason
in a code, a type or words only.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import Any

from shared.clock import utc_now
from shared.errors import ApiError
from shared.llm.completions import (
    CONTEXT_WORDS,
    BrokenResponseError,
    BusyError,
    ConflictingCallError,
    ContextOverflowError,
    ModeratedError,
    OverloadedError,
    QuotaError,
    RefusedError,
    RejectedError,
    UnknownModelError,
    UpstreamTimeoutError,
)
from shared.network.foreign_json import ForeignJsonError, parse

_ERROR_CHARACTERS = 500
_READ_BYTES = 10_000
_LONGEST_WAIT = 999_999
_NAME = re.compile(r"[A-Za-z][\w.\- ]{0,99}", re.ASCII)
_FIELD = re.compile(r"\w[\w.\[\]\-]{0,199}", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_STATUS = re.compile("[45][0-9]{2}")
_REJECTED = (400, 413, 422)
# The statuses of errors that have none, by the names that servers give them.
_STATUSES = {
    400: ("invalid_request_error", "invalid_argument", "bad_request", "badrequesterror", "content_filter"),
    401: ("invalid_api_key", "authentication_error", "unauthenticated"),
    402: ("billing_error", "payment_required", "insufficient_credits"),
    403: ("permission_error", "permission_denied"),
    404: ("model_not_found", "not_found_error", "not_found", "notfounderror"),
    429: ("rate_limit_exceeded", "rate_limit_error", "resource_exhausted", "too_many_requests", "insufficient_quota"),
    503: ("overloaded_error", "overloaded", "service_unavailable", "unavailable"),
    504: ("timeout", "timeout_error", "deadline_exceeded"),
}
_BY_NAME = {name: status for status, names in _STATUSES.items() for name in names}
_CONTEXT = r"context[ _-]?(length|window|size)|exceed_context"
_OVERFLOW = re.compile(
    rf"{_CONTEXT}|(prompt|input|request) (is|was) too (long|large)|too many (input )?tokens|"
    r"(input|prompt) token count|max_new_tokens`? must be <=",
    re.IGNORECASE,
)
# Some servers answer 500 to a request that they cannot read.
_UNREADABLE = re.compile(rf"{_CONTEXT}|image input is not supported|not a multimodal model|mmproj", re.IGNORECASE)
_MODERATION = re.compile(
    r"moderat|flagged|content[ _-]?(policy|filter)|safety (system|policy)|usage polic", re.IGNORECASE
)
_CREDENTIALS = re.compile(r"api[ _-]?key|token|credential|unauthori[sz]ed|authenticat|signature", re.IGNORECASE)
_QUOTA = re.compile(r"insufficient[ _](quota|credit|balance|fund)|exceeded your current quota|billing", re.IGNORECASE)


@dataclass(frozen=True)
class _Stated:
    """What a server says about a failure. ``is_structured`` is false for plain text such as a proxy's page."""

    reason: str
    code: str = ""
    kind: str = ""
    field: str = ""
    is_flagged: bool = False
    is_structured: bool = False
    status: int | None = None


def failure_of(status: int, content: bytes, headers: Mapping[str, str]) -> ApiError:
    """Returns the error for a response with a status of 400 or more."""
    text = content[:_READ_BYTES].decode(errors="replace").strip()
    try:
        body = parse(text)
    except ForeignJsonError:
        body = text
    if isinstance(body, list) and body:
        body = body[0]
    is_structured = isinstance(body, dict) and ("error" in body or body.get("object") == "error")
    stated = replace(_stated(body), is_structured=is_structured)
    if not stated.reason:
        stated = replace(stated, reason=text[:_ERROR_CHARACTERS] or "no reason given")
    return _failure(status, stated, headers)


def failure_in(body: dict[str, Any]) -> ApiError | None:
    """Returns the error that a response or an event of a successful call states, or ``None``."""
    choices = body.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    inner = first.get("error") if isinstance(first, dict) else None
    if not inner and not body.get("error") and body.get("object") != "error":
        return None
    stated = _stated({"error": inner} if inner else body)
    return _failure(stated.status or 500, stated, {})


def _stated(body: Any) -> _Stated:
    """Returns what a body states. The error is in ``error``, as an object or a text, or the body is the error."""
    if not isinstance(body, dict):
        return _Stated(str(body or "")[:_ERROR_CHARACTERS])
    error = body.get("error") or body
    if not isinstance(error, dict):
        error = {**body, "message": error}
    message = error.get("message") or error.get("detail") or ""
    reason = message if isinstance(message, str) else json.dumps(message, ensure_ascii=False)
    code, kind = error.get("code"), error.get("type") or error.get("error_type") or error.get("status")
    metadata = error.get("metadata")
    stated = (_status(each) for each in (code, error.get("status"), error.get("status_code"), kind))
    return _Stated(
        reason[:_ERROR_CHARACTERS],
        code=_matching(_NAME, code),
        kind=_matching(_NAME, kind),
        field=_matching(_FIELD, error.get("param")),
        is_flagged=isinstance(metadata, dict) and bool(metadata.get("reasons")),
        status=next((each for each in stated if each), None),
    )


def _failure(status: int, stated: _Stated, headers: Mapping[str, str]) -> ApiError:
    error = _by_status(status, stated)
    if isinstance(error, BusyError | OverloadedError):
        wait = _wait(headers) or ("5" if type(error) is BusyError else None)
        error.headers = {"Retry-After": wait} if wait else {}
    return error


def _by_status(status: int, stated: _Stated) -> ApiError:
    words, reason = f"{stated.code} {stated.kind} {stated.reason}", stated.reason
    if status in _REJECTED or (status == 500 and _UNREADABLE.search(words)):
        return _overflow(reason) if _OVERFLOW.search(words) else _rejection(stated)
    if status == 402 or (status == 429 and _QUOTA.search(words)):
        return _with_status(status, QuotaError(f"The server's account has no credit or quota left: {reason}"))
    if status == 429:
        return BusyError(f"The language model's server is busy: {reason}")
    if status == 403 and (stated.is_flagged or _MODERATION.search(words)):
        return ModeratedError(f"The language model's server does not accept the content: {reason}")
    if status == 401 or (status == 403 and (not stated.is_structured or _CREDENTIALS.search(words))):
        return RefusedError("The language model's server does not accept the cluster's token. Update the token.")
    if status == 404 and stated.is_structured and "model" in words.lower():
        return UnknownModelError(f"The language model's server does not have the model: {reason}")
    if status == 409:
        return ConflictingCallError(f"The language model's server is in conflict with another call: {reason}")
    if status in (408, 504):
        return UpstreamTimeoutError(f"The language model's server ran out of time: {reason}")
    if status in (503, 529):
        return OverloadedError(f"The language model's server is overloaded: {reason}")
    if status >= 500:
        return BrokenResponseError(f"The language model's server failed with status {status}: {reason}")
    refused = RefusedError(f"The language model's server refused the call with status {status}: {reason}")
    # Without an error in OpenAI's shape, it is the address of the cluster that is wrong.
    return _with_status(status, refused) if status in (403, 404) and stated.is_structured else refused


def _overflow(reason: str) -> ContextOverflowError:
    known = "" if CONTEXT_WORDS in reason else f"The request exceeds the model's {CONTEXT_WORDS}. "
    return ContextOverflowError(f"{known}The language model's server rejected the request: {reason}")


def _rejection(stated: _Stated) -> RejectedError:
    error = RejectedError(f"The language model's server rejected the request: {stated.reason}")
    error.openai_code, error.openai_type, error.openai_param = stated.code, stated.kind, stated.field
    return error


def _with_status(status: int, error: ApiError) -> ApiError:
    error.status = status
    return error


def _wait(headers: Mapping[str, str]) -> str | None:
    """Returns the whole seconds of the server's ``Retry-After``, which is a number or a date, or ``None``."""
    given = headers.get("Retry-After", "").strip()
    milliseconds = headers.get("Retry-After-Ms", "").strip()
    if _NUMBER.fullmatch(milliseconds):
        seconds = float(milliseconds) / 1000
    elif _NUMBER.fullmatch(given):
        seconds = float(given)
    else:
        try:
            seconds = (parsedate_to_datetime(given) - utc_now()).total_seconds()
        except (ValueError, TypeError, OverflowError):  # TypeError: a date without a zone
            return None
    return str(max(0, math.ceil(seconds))) if seconds <= _LONGEST_WAIT else None


def _status(value: Any) -> int | None:
    """Returns the status that a number or a name means."""
    if isinstance(value, str):
        name = value.lower().replace(" ", "_")
        value = int(value) if _STATUS.fullmatch(value) else _BY_NAME.get(name)
    return value if isinstance(value, int) and 400 <= value < 600 else None


def _matching(pattern: re.Pattern[str], value: Any) -> str:
    return value if isinstance(value, str) and pattern.fullmatch(value) else ""
