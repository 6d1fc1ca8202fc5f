"""Ends memberships for good: with them end the member's API keys and the open invites to the member's addresses."""

from collections.abc import Sequence

from shared.clock import Clock
from shared.dynamodb.repository import Repository
from shared.dynamodb.table import Table, Write, repeat_on_conflict
from shared.errors import PreconditionFailedError
from shared.models.base import Deleted
from shared.models.space import Membership
from shared.models.user import User
from shared.spaces.api_keys import ApiKeys
from shared.spaces.invites import InviteChangedError, Invites
from shared.spaces.members import Members, OwnerChangedError


class MemberRemovals:
    def __init__(self, table: Table, clock: Clock) -> None:
        self._members = Members(table, clock)
        self._invites = Invites(table, clock)
        self._keys = ApiKeys(table, clock)
        self._users = Repository(table, User, kind="user", clock=clock)

    def remove(self, space_id: str, user_id: str, also: Sequence[Write] = ()) -> Deleted:
        """Removes a member and carries out ``also`` in the same transaction.

        Raises NotFoundError for users who are no members, and ConflictError for the last owner.
        """

        def step() -> Membership:
            membership = self._members.membership(space_id, user_id)
            withdrawn = self._invites.withdrawal_writes(space_id, self._emails(space_id, user_id))
            self._members.remove(space_id, user_id, membership, [*withdrawn, *also])
            return membership

        busy = "The member's rights change too often just now."
        ended = repeat_on_conflict(step, busy, (InviteChangedError, OwnerChangedError, PreconditionFailedError))
        self._keys.revoke_all(space_id, user_id, ended.generation)
        return Deleted(id=user_id)

    def _emails(self, space_id: str, user_id: str) -> set[str]:
        """Returns the address with which a member joined, and the one of their last sign-in."""
        user = self._users.get_many(user_id, [user_id]).get(user_id)
        return {email for email in (self._members.email(space_id, user_id), user and user.email) if email}
