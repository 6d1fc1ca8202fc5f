"""Parameters of many routes: pages, idempotency keys, entity tags."""

import hashlib
import re
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, TypeVar

from fastapi import Depends, Header, Query, Request, Response

from shared.dynamodb.repository import Idempotency
from shared.errors import PreconditionFailedError, ValidationFailedError
from shared.http.routers import CurrentPrincipal


class Versioned(Protocol):
    """A response with a version for its ETag."""

    version: int


V = TypeVar("V", bound=Versioned)

_ID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"

After = Annotated[
    str,
    Query(
        description="The id of the last row of the previous page, or its `next_after` if it has one; empty for the "
        "first page.",
        # Only for the document: a value that doesn't match gets its own error code.
        json_schema_extra={"pattern": f'^({_ID}|"")?$'},
    ),
]
AfterFile = Annotated[
    str, Query(max_length=1024, description="The last file of the previous page; empty for the first page.")
]
Limit = Annotated[int, Query(ge=1, le=100, description="Rows a page.")]

_SPELLINGS = ("page_size", "pageSize")
_ENTITY_TAG = re.compile(r'(?:W/)?"(\d{1,15})"')


@dataclass(frozen=True)
class PageNumber:
    """Page ``number`` (from 1) of lists of ``size`` rows."""

    number: int
    size: int


def page_number(documented: str, default: int = 10) -> Any:
    """Returns a dependency that reads ``page`` and the page size, under the documented spelling or the other one."""
    other = next(spelling for spelling in _SPELLINGS if spelling != documented)

    async def read(
        request: Request,
        size: Annotated[int, Query(alias=documented, ge=1, le=1000, description="Rows a page.")] = default,
        page: Annotated[int, Query(ge=1, le=10**9, description="Page number, from 1.")] = 1,
        given: Annotated[str | None, Query(alias=other, include_in_schema=False)] = None,
    ) -> PageNumber:
        if given is None:
            return PageNumber(page, size)
        if not given.isascii() or not given.isdigit() or not 1 <= int(given[:10]) <= 1000:
            raise ValidationFailedError.of(f"query.{other}", "must be a whole number from 1 to 1000")
        if documented in request.query_params and int(given) != size:
            raise ValidationFailedError.of(f"query.{other}", f"contradicts {documented}: send one of them")
        return PageNumber(page, int(given))

    return Depends(read)


async def _idempotency(
    request: Request,
    principal: CurrentPrincipal,
    idempotency_key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            min_length=1,
            max_length=255,
            description="Makes a retry safe: the same key and body return the same response.",
        ),
    ] = None,
) -> Idempotency | None:
    if idempotency_key is None:
        return None
    digest = hashlib.sha256(f"{request.method} {request.url.path}\n".encode() + await request.body()).hexdigest()
    return Idempotency(idempotency_key, principal.user_id, digest)


async def _expected_version(
    if_match: Annotated[
        str | None, Header(alias="If-Match", description="The ETag that you read; 412 when it is no longer current.")
    ] = None,
) -> int | None:
    if if_match is None or if_match.strip() == "*":
        return None
    tag = _ENTITY_TAG.fullmatch(if_match.strip())
    if tag is None:
        raise PreconditionFailedError('If-Match must be an ETag of a response, such as "3".')
    return int(tag[1])


IdempotencyKey = Annotated[Idempotency | None, Depends(_idempotency)]
ExpectedVersion = Annotated[int | None, Depends(_expected_version)]


def tagged(response: Response, body: V) -> V:
    """Returns the body, and sets its version as the ETag."""
    response.headers["ETag"] = f'"{body.version}"'
    return body
