"""Rules of users: the first call makes the user from the token; the token stays the truth about e-mail and identity."""

from boto3.dynamodb.conditions import Attr

from shared.aws.clock import Clock, utc_now
from shared.http.tokens import Principal
from shared.models.space import UserPermission
from shared.models.user import Me, SpaceMembership, User, UserUpdate
from shared.store.members import Members
from shared.store.repository import Repository
from shared.store.table import ConditionFailedError, Table, put

SPACES_LIMIT = 1000


class UserService:
    def __init__(self, table: Table, clock: Clock = utc_now) -> None:
        self._table = table
        self._users = Repository(table, User, kind="user", clock=clock)
        self._members = Members(table, clock)
        self._clock = clock

    def me(self, principal: Principal, space_id: str | None) -> Me:
        """The caller, with the spaces they belong to and what they may do in the selected one.

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
            )
            for membership in memberships
            if membership.id in names
        ]
        if space_id:
            scope = self._members.scope(principal.user_id, space_id)
            permissions = _effective(scope.is_owner, list(scope.permissions))
        else:
            permissions = spaces[0].permissions if len(spaces) == 1 else []
        return Me(**dict(user), permissions=permissions, spaces=spaces)

    def update(self, principal: Principal, request: UserUpdate, expected_version: int | None) -> User:
        self._provision(principal)
        return self._users.update(
            principal.user_id, principal.user_id, request.changes(), expected_version=expected_version
        )

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
        key = self._users.key(user.id, user.id)
        values = {name: getattr(user, name) for name in User.model_fields}
        found = self._table.get(key)
        if found is None:
            try:
                self._table.write(put(key, values, Attr("PK").not_exists()))
                return user
            except ConditionFailedError as failed:  # the user's first two calls came at once
                found = failed.item or values
        known = self._users.load(found)
        if principal.email and known.email != principal.email:
            return self._users.update(user.id, user.id, {"email": principal.email})
        return known


def _effective(is_owner: bool, permissions: list[UserPermission]) -> list[str]:
    return [permission.value for permission in UserPermission if is_owner or permission in permissions]
