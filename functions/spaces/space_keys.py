"""The API keys of all users of a space, for its owner."""

from collections.abc import Mapping
from typing import Any

from boto3.dynamodb.conditions import Attr
from boto3.dynamodb.conditions import Key as KeyCondition

from shared.clock import Clock
from shared.dynamodb.repository import cursor_id, is_identifier
from shared.dynamodb.table import Item, Key, Table, put, update
from shared.errors import NotFoundError
from shared.models.api_key import ApiKey, ApiKeyState, SpaceApiKey
from shared.models.base import Deleted, Page
from shared.spaces.api_keys import ApiKeys, entry_key
from shared.spaces.members import Members

_ENTRIES = "api_key_entry"


class SpaceKeys:
    def __init__(self, table: Table, clock: Clock) -> None:
        self._table = table
        self._keys = ApiKeys(table, clock)
        self._members = Members(table, clock)
        self._clock = clock

    def list_after(self, space_id: str, after: str, limit: int) -> Page[SpaceApiKey]:
        """Returns the keys of the space, newest first; those that were revoked in the last 90 days too."""
        self._list_old_keys(space_id)
        pk, last = f"{_ENTRIES}#{space_id}", cursor_id(after)
        kept = Attr("expires_at").not_exists() | Attr("expires_at").gt(int(self._clock().timestamp()))
        condition = KeyCondition("SK").lt(last) if last is not None else None
        entries = list(self._table.query(pk, condition=condition, filter=kept, limit=limit + 1))
        count, _ = self._table.count(pk, condition=None, index=None, filter=kept)
        return Page(count=count, data=self._shown(space_id, entries[:limit]), has_more=len(entries) > limit)

    def revoke(self, space_id: str, key_id: str) -> Deleted:
        """Raises NotFoundError, also for a key that was revoked."""
        entry = self._table.get(entry_key(space_id, key_id)) if is_identifier(key_id) else None
        if entry is None:
            raise NotFoundError("There is no API key with this id in the space.")
        return self._keys.revoke(space_id, entry["user_id"], key_id)

    def _shown(self, space_id: str, entries: list[Item]) -> list[SpaceApiKey]:
        users = {entry["SK"]: entry["user_id"] for entry in entries}
        keys = self._keys.get_many(space_id, users)
        generations = self._members.generations(space_id, set(users.values()))
        return [
            SpaceApiKey(
                **{name: getattr(key, name) for name in ApiKey.model_fields},
                user_id=entry["user_id"],
                email=entry.get("email"),
                state=self._state(key, entry["user_id"], generations),
                revoked_at=key.deleted_at,
                last_used_at=entry.get("last_used_at"),
                last_used_address=entry.get("last_used_address"),
            )
            for entry in entries
            if (key := keys.get(entry["SK"])) is not None
        ]

    def _state(self, key: ApiKey, user_id: str, generations: Mapping[str, Any]) -> ApiKeyState:
        if key.deleted_at is not None or user_id not in generations or generations[user_id] != key.generation:
            return ApiKeyState.REVOKED
        is_over = key.valid_until is not None and key.valid_until <= self._clock()
        return ApiKeyState.EXPIRED if is_over else ApiKeyState.ACTIVE

    def _list_old_keys(self, space_id: str) -> None:
        """Lists the keys that were made before there was a list, once for each space."""
        done = Key(f"{_ENTRIES}#{space_id}#complete", "all")
        if self._table.get(done) is not None:
            return
        owner = self._members.spaces.get(space_id, space_id).created_by
        for user_id in dict.fromkeys([owner, *self._members.user_ids(space_id)]):
            whose = {"user_id": user_id, "email": self._members.email(space_id, user_id)}
            for key_id in self._keys.of_user(space_id, user_id):
                self._table.write(update(entry_key(space_id, key_id), whose))
        self._table.write(put(done, {}))
