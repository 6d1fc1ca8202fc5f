"""Rules of API keys: everybody has their own, and a key makes no further keys."""

from datetime import datetime

from shared.clock import Clock, new_id, utc_now
from shared.dynamodb.table import Table
from shared.errors import ValidationFailedError
from shared.models.api_key import ApiKey, ApiKeyCreate, ApiKeyUpdate, KeyToken, NewApiKey
from shared.models.base import Deleted, Page
from shared.spaces.api_keys import ApiKeys
from shared.spaces.members import SpaceContext


class ApiKeyService:
    def __init__(self, table: Table, clock: Clock = utc_now) -> None:
        self._keys = ApiKeys(table, clock)
        self._clock = clock

    def create(self, context: SpaceContext, request: ApiKeyCreate) -> NewApiKey:
        """Raises ValidationFailedError for an end that is past, and as ``ApiKeys.create`` does."""
        self._require_future(request.valid_until)
        now, token = self._clock(), KeyToken.new(context.space_id, context.user_id, new_id())
        key = ApiKey(
            id=token.key_id,
            created_at=now,
            updated_at=now,
            name=request.name,
            hint=str(token)[-4:],
            scopes=list(dict.fromkeys(request.scopes)),
            valid_until=request.valid_until,
            limits=request.limits,
            secret_hash=token.hash,
        )
        stored = self._keys.create(context, key)
        return NewApiKey(**{name: getattr(stored, name) for name in ApiKey.model_fields}, key=str(token))

    def list_after(self, context: SpaceContext, after: str, limit: int) -> Page[ApiKey]:
        return self._keys.list_after(context, after, limit)

    def get(self, context: SpaceContext, key_id: str) -> ApiKey:
        return self._keys.get(context, key_id)

    def update(self, context: SpaceContext, key_id: str, request: ApiKeyUpdate, expected_version: int | None) -> ApiKey:
        """Raises as ``create`` does."""
        self._require_future(request.valid_until)
        changes = request.changes()
        if "scopes" in changes:
            changes["scopes"] = list(dict.fromkeys(changes["scopes"]))
        return self._keys.update(context, key_id, changes, expected_version)

    def delete(self, context: SpaceContext, key_id: str, expected_version: int | None) -> Deleted:
        self._keys.get(context, key_id)
        return self._keys.revoke(context.space_id, context.user_id, key_id, expected_version)

    def _require_future(self, valid_until: datetime | None) -> None:
        if valid_until is not None and valid_until <= self._clock():
            raise ValidationFailedError.of("body.valid_until", "is past; leave it out for a key without an end")
