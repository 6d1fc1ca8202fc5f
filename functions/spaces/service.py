"""Rules of spaces: whoever creates one owns it, and only members see it."""

from shared.aws.clock import Clock, new_id, utc_now
from shared.errors import PermissionDeniedError
from shared.models.base import Page
from shared.models.space import Membership, Space, SpaceCreate, SpaceUpdate
from shared.store.members import Members
from shared.store.repository import Idempotency
from shared.store.table import Table, put


class SpaceService:
    def __init__(self, table: Table, clock: Clock = utc_now) -> None:
        self._members = Members(table, clock)
        self._clock = clock

    def create(self, user_id: str, request: SpaceCreate, idempotency: Idempotency | None) -> Space:
        now = self._clock()
        space = Space(
            id=new_id(),
            created_at=now,
            created_by=user_id,
            updated_at=now,
            updated_by=user_id,
            **request.model_dump(),
        )
        membership = Membership(id=space.id, created_at=now, updated_at=now, is_owner=True)
        values = {name: getattr(space, name) for name in Space.model_fields}
        stored = self._members.memberships.create(
            user_id,
            membership,
            idempotency=idempotency,
            also=[put(self._members.spaces.key(space.id, space.id), values)],
        )
        return space if stored.id == space.id else self._members.spaces.get(stored.id, stored.id)

    def list_after(self, user_id: str, after: str, limit: int) -> Page[Space]:
        """The user's own spaces, newest first."""
        page = self._members.memberships.list_after(user_id, after, limit)
        spaces = self._members.get_spaces(membership.id for membership in page.data)
        return Page(count=page.count, data=spaces, has_more=page.has_more)

    def get(self, user_id: str, space_id: str) -> Space:
        self._members.scope(user_id, space_id)
        return self._members.spaces.get(space_id, space_id)

    def update(self, user_id: str, space_id: str, request: SpaceUpdate, expected_version: int | None) -> Space:
        """Raises PermissionDeniedError for members that do not own the space."""
        if not self._members.scope(user_id, space_id).is_owner:
            raise PermissionDeniedError("Only the owner of the space may change it. Ask them.")
        changes = request.changes()
        if changes:
            changes["updated_by"] = user_id
        return self._members.spaces.update(space_id, space_id, changes, expected_version=expected_version)
