"""API keys, each under its user in its space: ``api_key#<space>#<user>``."""

from shared.clock import Clock, utc_now
from shared.dynamodb.repository import Repository
from shared.dynamodb.table import Table
from shared.errors import NotFoundError, UnauthenticatedError
from shared.models.api_key import ApiKey, KeyToken
from shared.models.base import Deleted, Page
from shared.models.space import UserPermission
from shared.spaces.members import Members, SpaceContext


class ApiKeys:
    def __init__(self, table: Table, clock: Clock = utc_now) -> None:
        self._keys = Repository(table, ApiKey, kind="api_key", clock=clock)
        self._members = Members(table, clock)
        self._clock = clock

    def create(self, context: SpaceContext, key: ApiKey) -> ApiKey:
        return self._keys.create(_owner(context), key)

    def list_after(self, context: SpaceContext, after: str, limit: int) -> Page[ApiKey]:
        return self._keys.list_after(_owner(context), after, limit)

    def get(self, context: SpaceContext, key_id: str) -> ApiKey:
        return self._keys.get(_owner(context), key_id)

    def update(
        self, context: SpaceContext, key_id: str, changes: dict[str, object], expected_version: int | None
    ) -> ApiKey:
        return self._keys.update(_owner(context), key_id, changes, expected_version=expected_version)

    def delete(self, context: SpaceContext, key_id: str, expected_version: int | None) -> Deleted:
        return self._keys.delete(_owner(context), key_id, expected_version=expected_version)

    def admit(self, token: KeyToken) -> SpaceContext:
        """Returns the context of a key: the present rights of its user, without those of an owner.

        Raises UnauthenticatedError. Only the holder of the secret learns that a key has expired. For everything else
        there is one response after one read, so that a forged key finds out no key, no member and no space.
        """
        place = self._keys.key(f"{token.space_id}#{token.user_id}", token.key_id)
        try:
            context, also = self._members.context_and(token.user_id, token.space_id, place)
        except NotFoundError:
            raise _unknown_key() from None
        key = self._keys.load(also) if also else None
        if key is None or not token.belongs_to(key):
            raise _unknown_key()
        if key.valid_until is not None and key.valid_until <= self._clock():
            raise UnauthenticatedError("The API key has expired. Make a new one.")
        permissions = frozenset(each for each in UserPermission if context.allows(each) and key.covers(each))
        return SpaceContext(context.space_id, context.user_id, False, permissions, context.limits, key)


def _unknown_key() -> UnauthenticatedError:
    return UnauthenticatedError(
        "There is no such API key: it was revoked, its user left the space, or it never existed. Make a new one."
    )


def _owner(context: SpaceContext) -> str:
    return f"{context.space_id}#{context.user_id}"
