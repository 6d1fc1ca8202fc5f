"""API keys, each under its user in its space: ``api_key#<space>#<user>``.

A key belongs to one membership. When its user leaves the space or is removed, the key is refused, also after the user
joins again, because that makes another membership.

``api_key_entry#<space>`` lists the keys of all users, for the owner, with the last use of each. Any function may write
there, so nothing that a key may do depends on it.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

from boto3.dynamodb.conditions import Attr, ConditionBase
from boto3.dynamodb.conditions import Key as KeyCondition
from botocore.exceptions import BotoCoreError, ClientError

from shared.clock import Clock, new_id, utc_now
from shared.dynamodb.repository import ConditionNotMetError, Modification, Repository, cursor_id
from shared.dynamodb.table import ConditionFailedError, Item, Key, Table, put, update
from shared.errors import ConflictError, NotFoundError, UnauthenticatedError, ValidationFailedError
from shared.models.api_key import ApiKey, ApiKeyCreate, KeyToken, NewApiKey
from shared.models.base import Deleted, Page, format_timestamp, parse_timestamp
from shared.models.space import Privilege, Right, UserPermission
from shared.observability import logger
from shared.spaces.members import Members, SpaceContext

MAX_KEYS = 50
# How long owners see a revoked key.
KEPT = timedelta(days=90)
# The uses of a key in this time are noted by one write.
USE_PAUSE = timedelta(minutes=5)


class ApiKeys:
    def __init__(self, table: Table, clock: Clock = utc_now) -> None:
        self._table = table
        self._keys = Repository(table, ApiKey, kind="api_key", clock=clock)
        self._members = Members(table, clock)
        self._clock = clock

    def create(self, context: SpaceContext, request: ApiKeyCreate) -> NewApiKey:
        """Stores a new key of the context's membership.

        Raises ValidationFailedError for an end that is past, ConflictError if the member has as many keys as one may
        have, and NotFoundError if the membership ended.
        """
        now, token = self._clock(), KeyToken.new(context.space_id, context.user_id, new_id())
        if request.valid_until is not None and request.valid_until <= now:
            raise past_end()
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
            generation=context.generation,
        )
        owner = _owner(context.space_id, context.user_id)
        places = self._counted_places(owner, key.generation)
        full = ConflictError(f"This member has {MAX_KEYS} API keys, the most that one may have. Revoke one.")
        taken = update(places, {}, add={"taken": 1}, condition=Attr("taken").lt(MAX_KEYS), error=full)
        whose = {"user_id": context.user_id, "email": self._members.email(context.space_id, context.user_id)}
        entry = put(entry_key(context.space_id, key.id), whose)
        self._table.transact([self._members.is_current(context), taken, self._keys.put_write(owner, key), entry])
        return NewApiKey(**{name: getattr(key, name) for name in ApiKey.model_fields}, key=str(token))

    def list_after(self, context: SpaceContext, after: str, limit: int) -> Page[ApiKey]:
        """Returns the caller's keys, newest first."""
        pk, last, live = self._partition(context.space_id, context.user_id), cursor_id(after), _live(context.generation)
        condition = KeyCondition("SK").lt(last) if last is not None else None
        items = list(self._table.query(pk, condition=condition, filter=live, limit=limit + 1))
        count, _ = self._table.count(pk, condition=None, index=None, filter=live)
        return Page(count=count, data=[self._keys.load(item) for item in items[:limit]], has_more=len(items) > limit)

    def get(self, context: SpaceContext, key_id: str) -> ApiKey:
        key = self._keys.get(_owner(context.space_id, context.user_id), key_id)
        if key.deleted_at is not None or key.generation != context.generation:
            raise self._keys.not_found()
        return key

    def update(
        self, context: SpaceContext, key_id: str, changes: dict[str, object], expected_version: int | None
    ) -> ApiKey:
        owner, live = _owner(context.space_id, context.user_id), _live(context.generation)
        self.get(context, key_id)
        try:
            return self._keys.update(owner, key_id, changes, expected_version=expected_version, condition=live)
        except ConditionNotMetError:  # revoked just now
            raise self._keys.not_found() from None

    def revoke(self, space_id: str, user_id: str, key_id: str, expected_version: int | None = None) -> Deleted:
        """Ends a key for good. Raises NotFoundError, also for a revoked key, and PreconditionFailedError."""
        owner, now = _owner(space_id, user_id), self._clock()
        expires_at = int((now + KEPT).timestamp())

        def mark(key: ApiKey) -> Modification:
            if key.deleted_at is not None:
                raise self._keys.not_found()
            places = self._counted_places(owner, key.generation)
            entry = update(entry_key(space_id, key_id), {"user_id": user_id, "expires_at": expires_at})
            values = {"deleted_at": now, "secret_hash": "", "expires_at": expires_at}
            return Modification(values, [update(places, {}, add={"taken": -1}), entry])

        self._keys.modify(owner, key_id, mark, expected_version=expected_version)
        return Deleted(id=key_id)

    def revoke_all(self, space_id: str, user_id: str, generation: str | None) -> None:
        """Ends all keys of a membership that ended. They are refused already; this records it."""
        for item in list(self._table.query(self._partition(space_id, user_id), filter=_live(generation))):
            try:
                self.revoke(space_id, user_id, item["SK"])
            except NotFoundError:  # the owner was faster
                continue

    def of_user(self, space_id: str, user_id: str) -> list[str]:
        """Returns the ids of all keys of a user, also of those that were revoked."""
        return [item["SK"] for item in self._table.query(self._partition(space_id, user_id), attributes=["SK"])]

    def get_many(self, space_id: str, users: Mapping[str, str]) -> dict[str, ApiKey]:
        """Returns the existing keys, by id. ``users`` has the user of each."""
        keys = [self._keys.key(_owner(space_id, user_id), key_id) for key_id, user_id in users.items()]
        return {key.sk: self._keys.load(item) for key, item in self._table.get_many(keys).items()}

    def admit(self, token: KeyToken, address: str) -> SpaceContext:
        """Returns the context of a key: the present rights of its user, without those of an owner.

        Raises UnauthenticatedError. Only the holder of the secret learns that the user left, or that the key expired.
        For everything else there is one response after one read: a forged key finds out no key, no member, no space.
        """
        place = self._keys.key(_owner(token.space_id, token.user_id), token.key_id)
        entry = entry_key(token.space_id, token.key_id)
        context, found = self._members.context_and(token.user_id, token.space_id, (place, entry))
        key = self._keys.load(found[place]) if place in found else None
        if key is None or key.deleted_at is not None or not token.belongs_to(key):
            raise UnauthenticatedError("There is no such API key; perhaps it was revoked. Make a new one.")
        if context is None or context.generation != key.generation:
            raise UnauthenticatedError("The API key's user left its space. Join it again, and make a new key.")
        if key.valid_until is not None and key.valid_until <= self._clock():
            raise UnauthenticatedError("The API key has expired. Make a new one.")
        self._note_use(token, found.get(entry, {}), address)
        rights: tuple[Right, ...] = (*UserPermission, *Privilege)
        permissions = frozenset(each for each in rights if context.allows(each) and key.covers(each))
        return replace(context, is_owner=False, permissions=permissions, key=key)

    def _note_use(self, token: KeyToken, entry: Item, address: str) -> None:
        now = self._clock()
        if "last_used_at" in entry and parse_timestamp(entry["last_used_at"]) > now - USE_PAUSE:
            return
        is_due = Attr("last_used_at").not_exists() | Attr("last_used_at").lte(format_timestamp(now - USE_PAUSE))
        values = {"user_id": token.user_id, "last_used_at": now, "last_used_address": address or None}
        try:
            self._table.write(
                update(
                    entry_key(token.space_id, token.key_id),
                    values,
                    condition=is_due & Attr("expires_at").not_exists(),
                )
            )
        except ConditionFailedError:  # another request was faster, or the key was revoked just now
            return
        except (BotoCoreError, ClientError):  # the request matters more than the note
            logger.warning("the use of an API key was not noted", exc_info=True)

    def _counted_places(self, owner: str, generation: str | None) -> Key:
        """Returns the item that counts the keys of a membership, and makes it of the keys that there are."""
        places = Key(f"api_key#{owner}#places", generation or "first")
        if self._table.get(places) is None:
            taken, _ = self._table.count(f"api_key#{owner}", condition=None, index=None, filter=_live(generation))
            with suppress(ConditionFailedError):  # another request was faster
                self._table.write(put(places, {"taken": taken}, Attr("PK").not_exists()))
        return places

    @staticmethod
    def _partition(space_id: str, user_id: str) -> str:
        return f"api_key#{_owner(space_id, user_id)}"


def past_end() -> ValidationFailedError:
    return ValidationFailedError.of("body.valid_until", "is past; leave it out for a key without an end")


def entry_key(space_id: str, key_id: str) -> Key:
    return Key(f"api_key_entry#{space_id}", key_id)


def _owner(space_id: str, user_id: str) -> str:
    return f"{space_id}#{user_id}"


def _live(generation: str | None) -> ConditionBase:
    """Returns the condition that a key is not revoked and belongs to this membership of its user."""
    of_membership = Attr("generation").eq(generation) if generation else Attr("generation").not_exists()
    return Attr("deleted_at").not_exists() & of_membership
