"""API keys. A key acts for one user in one space, with some of the user's permissions.

A key contains the ids of the space, the user and the key, so that one read checks it, as it checks a token. A checksum
rejects a mistyped or invented key without a read.
"""

import hashlib
import hmac
import secrets
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Self
from uuid import UUID

from pydantic import Field

from shared.models.base import KEEP, Entity, Model, Name, PartialUpdate, Timestamp
from shared.models.limits import Limits
from shared.models.space import Privilege, Right, UserPermission

PREFIX = "ik_"
_ID_BYTES, _SECRET_BYTES, _CHECKSUM_BYTES = 16, 32, 4
_BYTES = 3 * _ID_BYTES + _SECRET_BYTES + _CHECKSUM_BYTES
CHARACTERS = len(PREFIX) + _BYTES // 3 * 4


class BroadScope(StrEnum):
    """Scopes wider than one permission: all reads, all writes, or chats and OpenAI's addresses."""

    READ = "read"
    WRITE = "write"
    CHAT = "chat"


KeyScope = BroadScope | UserPermission | Privilege
Scopes = Annotated[list[KeyScope], Field(min_length=1, max_length=len((*BroadScope, *UserPermission, *Privilege)))]


class ApiKeyCreate(Model):
    name: Name
    scopes: Scopes = Field(description="what the key may do; never more than you, and never the owner's own rights")
    valid_until: Timestamp | None = Field(default=None, description="the key does not expire when this is left out")
    limits: Limits | None = Field(default=None, description="limits of the key, besides its user's and the space's")


class ApiKeyUpdate(PartialUpdate):
    name: Name = KEEP
    scopes: Scopes = KEEP
    valid_until: Timestamp | None = None
    limits: Limits | None = None


class ApiKey(Entity):
    """An API key without its secret. The hash is a plain SHA-256: 256 random bits can't be guessed at any speed."""

    name: str
    hint: str = Field(description="the key's last four characters")
    scopes: list[KeyScope]
    valid_until: Timestamp | None = None
    limits: Limits | None = None
    secret_hash: str = Field(exclude=True, repr=False)
    # The membership for which the key was made: it works as long as its user has this one.
    generation: str | None = Field(default=None, exclude=True, repr=False)
    # A revoked key stays for a while, because owners look at its last use.
    deleted_at: Timestamp | None = Field(default=None, exclude=True, repr=False)

    def covers(self, right: Right) -> bool:
        """Returns whether the scopes include the right. No broad scope includes a privilege."""
        if right in self.scopes or isinstance(right, Privilege):
            return right in self.scopes
        reads = right.rpartition(":")[2] in ("get", "list")
        return (BroadScope.READ if reads else BroadScope.WRITE) in self.scopes


class ApiKeyState(StrEnum):
    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


class SpaceApiKey(ApiKey):
    """A key as the owner of its space sees it."""

    user_id: str
    email: str | None = Field(description="the user's address when they joined")
    state: ApiKeyState = Field(description="a key is also revoked when its user leaves the space or is removed")
    revoked_at: Timestamp | None = Field(description="null for a key that ended with its user's membership")
    last_used_at: Timestamp | None = Field(description="exact to five minutes")
    last_used_address: str | None = Field(description="the IP address of the caller at that time")


class NewApiKey(ApiKey):
    """A new key with its text, which can't be read again later: only a hash of its secret is stored."""

    key: str = Field(repr=False)


@dataclass(frozen=True)
class KeyToken:
    """Content of a key's text: the ids that it claims, and the secret that proves them."""

    space_id: str
    user_id: str
    key_id: str
    secret: bytes = field(repr=False)

    @classmethod
    def new(cls, space_id: str, user_id: str, key_id: str) -> Self:
        return cls(space_id, user_id, key_id, secrets.token_bytes(_SECRET_BYTES))

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Returns the content of a key, or ``None`` for a text that is not a key of this API."""
        if len(text) != CHARACTERS or not text.startswith(PREFIX):
            return None
        try:
            content = urlsafe_b64decode(text.removeprefix(PREFIX))
        except ValueError:
            return None
        body, checksum = content[:-_CHECKSUM_BYTES], content[-_CHECKSUM_BYTES:]
        if len(content) != _BYTES or zlib.crc32(body).to_bytes(_CHECKSUM_BYTES) != checksum:
            return None
        space, user, key = (body[start : start + _ID_BYTES] for start in range(0, 3 * _ID_BYTES, _ID_BYTES))
        secret = body[3 * _ID_BYTES :]
        return cls(str(UUID(bytes=space)), str(UUID(bytes=user)), str(UUID(bytes=key)), secret)

    def __str__(self) -> str:
        ids = b"".join(UUID(each).bytes for each in (self.space_id, self.user_id, self.key_id))
        body = ids + self.secret
        return PREFIX + urlsafe_b64encode(body + zlib.crc32(body).to_bytes(_CHECKSUM_BYTES)).decode()

    @property
    def hash(self) -> str:
        return hashlib.sha256(self.secret).hexdigest()

    def belongs_to(self, key: ApiKey) -> bool:
        return hmac.compare_digest(self.hash, key.secret_hash)
