"""Verifies bearer tokens of the OpenID Connect issuer."""

import json
import threading
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import jwt

from shared.errors import UnauthenticatedError, UnavailableError
from shared.text.comparison import comparable_address

ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"]
KEYS_LIFETIME_SECONDS = 3600
# A token with an unknown key causes a new fetch of the keys, but not more often than this.
REFRESH_PAUSE_SECONDS = 30
FETCH_TIMEOUT_SECONDS = 5
KEYS_SIZE_LIMIT = 1_000_000


@dataclass(frozen=True)
class Principal:
    """The caller that a token names. The same issuer and subject always give the same ``user_id``."""

    user_id: str
    external_id: str
    email: str
    email_verified: bool
    first_name: str
    last_name: str
    space_id: str | None
    expires_at: float


def bearer_token(header: str) -> str:
    """Returns the token of an Authorization header. Raises UnauthenticatedError if it has none."""
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise UnauthenticatedError(
            "Send a bearer token: Authorization: Bearer <token>.", headers={"WWW-Authenticate": "Bearer"}
        )
    return token.strip()


def _email(claim: str) -> str:
    """Returns an address in the form of invites. Others stay as they are, and equal no invited address."""
    try:
        return comparable_address(claim)
    except ValueError:
        return claim.strip()


class TokenVerifier:
    """Verifies tokens of one issuer for some audiences with the issuer's published keys, fetched once and cached."""

    def __init__(self, issuer: str, audiences: Sequence[str], jwks_url: str | None = None) -> None:
        self._issuer = issuer
        self._audiences = audiences
        self._jwks_url = jwks_url
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at = float("-inf")
        self._lock = threading.Lock()

    def verify(self, token: str) -> Principal:
        """Returns the caller. Raises UnauthenticatedError, or UnavailableError if the issuer's keys can't be read."""
        try:
            key = self._key(jwt.get_unverified_header(token).get("kid", ""))
            if key is None:
                raise UnauthenticatedError("The bearer token is signed with a key that its issuer does not publish.")
            claims = jwt.decode(
                token,
                key,
                algorithms=ALGORITHMS,
                issuer=self._issuer,
                audience=self._audiences,
                leeway=10,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.ExpiredSignatureError:
            raise UnauthenticatedError("The bearer token has expired. Sign in again for a new one.") from None
        except jwt.MissingRequiredClaimError as error:
            raise UnauthenticatedError(
                f"The bearer token has no {error.claim!r} claim. Send the ID token, not an access token."
            ) from None
        except (jwt.PyJWTError, ValueError):
            raise UnauthenticatedError("The bearer token is not valid for this API. Sign in again.") from None
        if claims.get("token_use", "id") != "id":
            raise UnauthenticatedError("This is an access token. Send the ID token.")
        return self._principal(claims)

    def _principal(self, claims: dict[str, Any]) -> Principal:
        def text(*names: str) -> str:
            return next((str(claims[name]) for name in names if claims.get(name)), "")

        return Principal(
            user_id=str(uuid5(NAMESPACE_URL, f"{self._issuer}#{claims['sub']}")),
            external_id=str(claims["sub"]),
            email=_email(text("email")),
            email_verified=str(claims.get("email_verified", "")).lower() == "true",
            first_name=text("given_name"),
            last_name=text("family_name"),
            space_id=text("space_id", "custom:space_id") or None,
            expires_at=float(claims["exp"]),
        )

    def _key(self, key_id: str) -> jwt.PyJWK | None:
        age = time.monotonic() - self._fetched_at
        if age > KEYS_LIFETIME_SECONDS or (key_id not in self._keys and age > REFRESH_PAUSE_SECONDS):
            with self._lock:
                if time.monotonic() - self._fetched_at >= age:
                    self._refresh()
        return self._keys.get(key_id)

    def _refresh(self) -> None:
        try:
            address = self._jwks_url or self._fetch(f"{self._issuer}/.well-known/openid-configuration")["jwks_uri"]
            keys = jwt.PyJWKSet.from_dict(self._fetch(address)).keys
        except (OSError, ValueError, KeyError, jwt.PyJWTError) as error:
            if self._keys:  # old keys are used until the next try
                self._fetched_at = time.monotonic() - KEYS_LIFETIME_SECONDS + REFRESH_PAUSE_SECONDS
                return
            raise UnavailableError(
                "The keys of the sign-in service can't be read just now. Try again in a moment.",
                headers={"Retry-After": "5"},
            ) from error
        self._keys = {key.key_id: key for key in keys if key.key_id}
        self._fetched_at = time.monotonic()

    @staticmethod
    def _fetch(address: str) -> dict[str, Any]:
        with urllib.request.urlopen(address, timeout=FETCH_TIMEOUT_SECONDS) as response:  # noqa: S310 - the operator's setting
            found = json.loads(response.read(KEYS_SIZE_LIMIT))
        if not isinstance(found, dict):
            raise ValueError("not a JSON object")
        return found
