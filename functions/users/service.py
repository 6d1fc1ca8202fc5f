"""Rules of users: the first call makes the user from the token; the token stays the truth about e-mail and identity."""

from collections.abc import Container

from shared.clock import Clock, utc_now
from shared.dynamodb.repository import Repository
from shared.dynamodb.table import ConditionFailedError, Table
from shared.errors import ApiError, ConflictError, GoneError, NotFoundError, PermissionDeniedError
from shared.http.tokens import Principal
from shared.models.invite import AcceptedInvites, InviteState
from shared.models.space import Privilege, Right, UserPermission
from shared.models.user import GrantedPermissions, Me, SpaceMembership, User, UserUpdate
from shared.spaces.invites import Invites
from shared.spaces.members import Members, SpaceContext

SPACES_LIMIT = 1000
# How many invites one call accepts; the next call accepts further ones.
ACCEPTED_AT_ONCE = 100


class UserService:
    def __init__(self, table: Table, clock: Clock = utc_now) -> None:
        self._table = table
        self._users = Repository(table, User, kind="user", clock=clock)
        self._members = Members(table, clock)
        self._invites = Invites(table, clock)
        self._clock = clock

    def me(self, principal: Principal, space_id: str | None) -> Me:
        """Returns the caller, with the spaces they belong to and what they may do in the selected one.

        Raises NotFoundError when ``space_id`` is not one of theirs.
        """
        user = self._provision(principal)
        memberships = self._members.memberships.list_after(principal.user_id, None, SPACES_LIMIT).data
        names = {space.id: space.name for space in self._members.get_spaces(each.id for each in memberships)}
        spaces = [
            SpaceMembership(
                id=membership.id,
                name=names[membership.id],
                is_owner=membership.is_owner,
                permissions=_effective(membership.is_owner, membership.permissions),
                privileges=_in_effect(membership.is_owner, membership.privileges),
            )
            for membership in memberships
            if membership.id in names
        ]
        if space_id:
            context = self._members.context(principal.user_id, space_id)
            permissions = _effective(context.is_owner, context.permissions)
            privileges = _in_effect(context.is_owner, context.permissions)
        else:
            only = spaces[0] if len(spaces) == 1 else None
            permissions, privileges = (only.permissions, only.privileges) if only else ([], [])
        return Me(**dict(user), permissions=permissions, privileges=privileges, spaces=spaces)

    def update(self, principal: Principal, request: UserUpdate, expected_version: int | None) -> User:
        self._provision(principal)
        return self._users.update(
            principal.user_id, principal.user_id, request.changes(), expected_version=expected_version
        )

    def add_permissions(
        self, context: SpaceContext, user_id: str, permissions: list[UserPermission]
    ) -> GrantedPermissions:
        """Adds permissions of a member and returns all of them.

        Raises NotFoundError for users who are no members.
        """
        member = self._members.add_permissions(context.space_id, user_id, permissions)
        return GrantedPermissions(permissions=_effective(member.is_owner, member.permissions))

    def accept_invites(self, principal: Principal) -> AcceptedInvites:
        """Joins every space that the caller's address is invited to.

        Raises PermissionDeniedError for an address that is not verified or that no invite can name. When no invite can
        be accepted, raises GoneError for expired ones, ConflictError for accepted ones, or else NotFoundError.
        """
        if not principal.email or not principal.email_verified:
            raise PermissionDeniedError(
                "Your e-mail address is not verified. Verify it, sign in again, and accept then."
            )
        if not principal.email.isascii():
            raise PermissionDeniedError(
                f"No invite can name your e-mail address {principal.email}, because it has letters that are not ASCII. "
                "Sign in with another address."
            )
        self._provision(principal)
        invites = self._invites.of(principal.email)
        pending = [each for each in invites if each[1].state is InviteState.PENDING]
        joined = [
            space_id
            for space_id, invite in pending[:ACCEPTED_AT_ONCE]
            if self._invites.accept(space_id, invite, principal.user_id)
        ]
        if not joined:
            raise _nothing_to_accept({invite.state for _, invite in invites}, principal.email)
        return AcceptedInvites(spaces=joined)

    def _provision(self, principal: Principal) -> User:
        now = self._clock()
        user = User(
            id=principal.user_id,
            created_at=now,
            updated_at=now,
            email=principal.email,
            external_id=principal.external_id,
            first_name=principal.first_name,
            last_name=principal.last_name,
        )
        found = self._table.get(self._users.key(user.id, user.id))
        if found is None:
            try:
                self._table.write(self._users.put_write(user.id, user))
                return user
            except ConditionFailedError as failed:  # the user's first two calls came at the same time
                found = failed.item or {}
        known = self._users.load(found)
        if principal.email and known.email != principal.email:
            return self._users.update(user.id, user.id, {"email": principal.email})
        return known


def _effective(is_owner: bool, rights: Container[Right]) -> list[str]:
    return [permission.value for permission in UserPermission if is_owner or permission in rights]


def _in_effect(is_owner: bool, rights: Container[Right]) -> list[Privilege]:
    return [privilege for privilege in Privilege if is_owner or privilege in rights]


def _nothing_to_accept(states: set[InviteState], email: str) -> ApiError:
    if InviteState.EXPIRED in states:
        return GoneError(f"The invite to {email} has expired. Ask for a new one.")
    if states & {InviteState.ACCEPTED, InviteState.PENDING}:  # pending: another call accepts them just now
        return ConflictError(f"The invites to {email} are accepted already. GET /me lists your spaces.")
    return NotFoundError(f"There is no invite to {email}. Ask the owner of the space to invite this very address.")
