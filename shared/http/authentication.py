"""Identifies the caller and the space of a request."""

import json
from dataclasses import dataclass, field
from ipaddress import ip_address

from starlette.requests import Request

from shared.clock import Clock
from shared.dynamodb.table import Table
from shared.errors import UnauthenticatedError
from shared.http.authentication_cache import AuthenticationCache
from shared.http.tokens import Principal, TokenVerifier, bearer_token
from shared.models.api_key import PREFIX, KeyToken
from shared.spaces.api_keys import ApiKeys
from shared.spaces.members import Members, SpaceContext, unknown_space


@dataclass(frozen=True)
class Credentials:
    """The two headers that identify a caller. A missing header is empty."""

    authorization: str
    space_id: str
    # Where the caller is; it identifies nobody.
    address: str = field(default="", compare=False)


@dataclass(frozen=True)
class Identity:
    """The caller of a request. ``context`` is ``None`` until a space is selected."""

    principal: Principal
    context: SpaceContext | None = None


class Authentication:
    """Authenticates callers by a token of the issuer or by an API key."""

    def __init__(
        self, verifier: TokenVerifier, table: Table, cache: AuthenticationCache[Credentials, Identity], clock: Clock
    ) -> None:
        self._verifier = verifier
        self._members = Members(table)
        self._api_keys = ApiKeys(table, clock)
        self._cache = cache
        self._clock = clock

    def identify(self, credentials: Credentials) -> Identity:
        """Returns the caller; an API key also selects its space. Raises UnauthenticatedError."""
        token = bearer_token(credentials.authorization)
        if not token.startswith(PREFIX):
            return Identity(self._verifier.verify(token))
        key = KeyToken.parse(token)
        if key is None:
            raise UnauthenticatedError("This is not a valid API key. Copy the whole key, from its first character on.")
        context = self._api_keys.admit(key, credentials.address)
        return Identity(_key_holder(context), context)

    def enter_space(self, credentials: Credentials) -> Identity:
        """Returns the caller with the selected space. Raises NotFoundError for a space that is not the caller's."""
        identity = self.identify(credentials)
        if identity.context is None:
            principal = identity.principal
            wanted = credentials.space_id or principal.space_id
            return Identity(principal, self._members.select(principal.user_id, wanted))
        if credentials.space_id not in ("", identity.context.space_id):
            raise unknown_space()
        return identity

    def enter_space_and_remember(self, credentials: Credentials) -> Identity:
        """Returns the result of ``enter_space``, and stores it for ``remembered``."""
        checked_at = self._clock()
        identity = self.enter_space(credentials)
        self._cache.keep(credentials, identity, checked_at, identity.principal.expires_at)
        return identity

    def remembered(self, credentials: Credentials) -> Identity | None:
        """Returns the caller if the same credentials were checked a few seconds ago. It reads nothing."""
        return self._cache.find(credentials)


def _key_holder(context: SpaceContext) -> Principal:
    """Returns the user that an API key acts for. A key knows no name and no email address."""
    ends_at = context.key.valid_until.timestamp() if context.key and context.key.valid_until else float("inf")
    return Principal(context.user_id, "", "", False, "", "", context.space_id, ends_at)


def caller_address(request: Request) -> str:
    """Returns the IP address from which API Gateway, or else this server, got the request; empty if unknown.

    Headers of clients are not believed. Behind the Lambda Web Adapter each request comes from loopback, and the adapter
    itself sets the header that is read here.
    """
    peer = _address(request.client.host) if request.client else ""
    context = request.headers.get("x-amzn-request-context")
    if not context or not peer or not ip_address(peer).is_loopback:
        return peer
    try:
        return _address(json.loads(context)["identity"]["sourceIp"]) or peer
    except (ValueError, TypeError, KeyError):
        return peer


def _address(text: object) -> str:
    try:
        return str(ip_address(text)) if isinstance(text, str) else ""
    except ValueError:
        return ""
