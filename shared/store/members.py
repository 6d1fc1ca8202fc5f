"""Which spaces a user belongs to, and with which rights."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from shared.aws.clock import Clock, utc_now
from shared.errors import NotFoundError, SpaceRequiredError
from shared.models.space import Membership, Space, UserPermission
from shared.store.repository import Repository, is_identifier
from shared.store.table import Table


@dataclass(frozen=True)
class Scope:
    """The space a request works in and what its caller may do there: every service call starts with one."""

    space_id: str
    user_id: str
    is_owner: bool = False
    permissions: frozenset[UserPermission] = field(default_factory=frozenset)

    def allows(self, permission: UserPermission) -> bool:
        return self.is_owner or permission in self.permissions


class Members:
    """Memberships live under the user, so that the spaces of a user are one query."""

    def __init__(self, table: Table, clock: Clock = utc_now) -> None:
        self._table = table
        self.memberships = Repository(table, Membership, kind="membership", clock=clock)
        self.spaces = Repository(table, Space, kind="space", clock=clock)

    def select(self, user_id: str, space_id: str | None) -> Scope:
        """The scope of the user in the space, or in the only space there is.

        Raises NotFoundError for a space the user does not belong to, exactly as for one that does not exist, and
        SpaceRequiredError when no space is named and the choice is not obvious.
        """
        if not space_id:
            page = self.memberships.list_after(user_id, None, 1)
            if page.has_more:
                raise SpaceRequiredError("You belong to several spaces. Name one in the X-Space-Id header.")
            if not page.data:
                raise SpaceRequiredError("You belong to no space yet. Create one with POST /spaces.")
            space_id = page.data[0].id
        return self.scope(user_id, space_id)

    def scope(self, user_id: str, space_id: str) -> Scope:
        """Raises NotFoundError unless the space exists and the user belongs to it."""
        membership_key = self.memberships.key(user_id, space_id)
        space_key = self.spaces.key(space_id, space_id)
        found = self._table.get_many([membership_key, space_key]) if is_identifier(space_id) else {}
        if membership_key not in found or space_key not in found:
            raise NotFoundError("There is no space with this id among yours.")
        membership = self.memberships.load(found[membership_key])
        return Scope(space_id, user_id, membership.is_owner, frozenset(membership.permissions))

    def get_spaces(self, space_ids: Iterable[str]) -> list[Space]:
        """Those of the spaces that exist, in the order of their ids in ``space_ids``."""
        keys = [self.spaces.key(space_id, space_id) for space_id in space_ids]
        found = self._table.get_many(keys)
        return [self.spaces.load(found[key]) for key in keys if key in found]
