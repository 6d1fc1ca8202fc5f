"""Rules of API keys: everybody has their own, and a key makes no further keys."""

from shared.clock import Clock, utc_now
from shared.dynamodb.table import Table
from shared.models.api_key import ApiKey, ApiKeyCreate, ApiKeyUpdate, NewApiKey
from shared.models.base import Deleted, Page
from shared.spaces.api_keys import ApiKeys, past_end
from shared.spaces.members import SpaceContext


class ApiKeyService:
    def __init__(self, table: Table, clock: Clock = utc_now) -> None:
        self._keys = ApiKeys(table, clock)
        self._clock = clock

    def create(self, context: SpaceContext, request: ApiKeyCreate) -> NewApiKey:
        """Raises as ``ApiKeys.create`` does."""
        return self._keys.create(context, request)

    def list_after(self, context: SpaceContext, after: str, limit: int) -> Page[ApiKey]:
        return self._keys.list_after(context, after, limit)

    def get(self, context: SpaceContext, key_id: str) -> ApiKey:
        return self._keys.get(context, key_id)

    def update(self, context: SpaceContext, key_id: str, request: ApiKeyUpdate, expected_version: int | None) -> ApiKey:
        """Raises ValidationFailedError for an end that is past, and NotFoundError for a key that was revoked."""
        if request.valid_until is not None and request.valid_until <= self._clock():
            raise past_end()
        changes = request.changes()
        if "scopes" in changes:
            changes["scopes"] = list(dict.fromkeys(changes["scopes"]))
        return self._keys.update(context, key_id, changes, expected_version)

    def delete(self, context: SpaceContext, key_id: str, expected_version: int | None) -> Deleted:
        self._keys.get(context, key_id)
        return self._keys.revoke(context.space_id, context.user_id, key_id, expected_version)
