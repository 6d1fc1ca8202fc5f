"""Which spaces a user belongs to, and with which rights; and who belongs to a space.

A membership lies under its user, ``membership#<user>``, so that the spaces of a user are one query; an index of the
members of a space, ``member#<space>``, is written in the same transactions.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from boto3.dynamodb.conditions import Attr

from shared.clock import Clock, new_id, utc_now
from shared.dynamodb.repository import ConditionNotMetError, Repository, is_identifier
from shared.dynamodb.table import Item, Key, Table, Write, check, delete, put, repeat_on_conflict
from shared.errors import ApiError, ConflictError, NotFoundError, PermissionDeniedError, SpaceRequiredError
from shared.models.api_key import ApiKey
from shared.models.base import Entity, Page
from shared.models.limits import SpaceLimits
from shared.models.space import Membership, Space, SpaceMember, UserPermission


@dataclass(frozen=True)
class SpaceContext:
    """The space a request works in and what its caller may do there: every service call starts with one."""

    space_id: str
    user_id: str
    is_owner: bool = False
    permissions: frozenset[UserPermission] = field(default_factory=frozenset)
    # Which membership of the caller this is.
    generation: str | None = None
    # What calls of language models are held to, and the key that the caller uses in place of a token.
    limits: SpaceLimits | None = None
    key: ApiKey | None = None
    # Whether the owner made the guard compulsory for chats.
    guard_required: bool = False

    def allows(self, permission: UserPermission) -> bool:
        return self.is_owner or permission in self.permissions

    def require_creator(self, created_by: str, what: str) -> None:
        """Raises PermissionDeniedError for all but the creator of an entity and the owner of the space."""
        if not self.is_owner and created_by != self.user_id:
            raise PermissionDeniedError(
                f"Only the owner of the space and the member who created it may {what}. "
                f"GET /spaces/{self.space_id}/members shows who the owner is."
            )


class _MemberEntry(Entity):
    email: str


class Members:
    def __init__(self, table: Table, clock: Clock = utc_now) -> None:
        self._table = table
        self._clock = clock
        self._index = Repository(table, _MemberEntry, kind="member", clock=clock)
        self.memberships = Repository(table, Membership, kind="membership", clock=clock)
        self.spaces = Repository(table, Space, kind="space", clock=clock)

    def select(self, user_id: str, space_id: str | None) -> SpaceContext:
        """Returns the user's context in the space, or in the user's only space.

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
        return self.context(user_id, space_id)

    def context(self, user_id: str, space_id: str) -> SpaceContext:
        """Raises NotFoundError unless the space exists, is not deleted, and the user belongs to it."""
        context, _ = self.context_and(user_id, space_id)
        if context is None:
            raise unknown_space()
        return context

    def context_and(
        self, user_id: str, space_id: str, also: Sequence[Key] = ()
    ) -> tuple[SpaceContext | None, Mapping[Key, Item]]:
        """Returns the context, or ``None`` where ``context`` raises, and other items of the same read."""
        membership_key = self.memberships.key(user_id, space_id)
        space_key = self.spaces.key(space_id, space_id)
        found = self._table.get_many([membership_key, space_key, *also]) if is_identifier(space_id) else {}
        if membership_key not in found or space_key not in found or "deleted_at" in found[space_key]:
            return None, found
        membership, limits = self.memberships.load(found[membership_key]), found[space_key].get("limits")
        context = SpaceContext(
            space_id,
            user_id,
            membership.is_owner,
            frozenset(membership.permissions),
            membership.generation,
            SpaceLimits.model_validate(limits) if limits else None,
            guard_required=found[space_key].get("guard_required", False),
        )
        return context, found

    def get_spaces(self, space_ids: Iterable[str]) -> list[Space]:
        """Returns the spaces that exist and are not deleted, in the order of ``space_ids``."""
        keys = [self.spaces.key(space_id, space_id) for space_id in space_ids]
        found = self._table.get_many(keys)
        return [self.spaces.load(found[key]) for key in keys if key in found and "deleted_at" not in found[key]]

    def is_in_use(self, space_id: str, error: ApiError | None = None) -> Write:
        """Returns the check that the space exists and is not deleted."""
        return check(self.spaces.key(space_id, space_id), Attr("PK").exists() & Attr("deleted_at").not_exists(), error)

    def index_writes(self, user_id: str, email: str, membership: Membership) -> list[Write]:
        """Returns the writes beside a new membership's own that list its user among the members of the space."""
        entry = _MemberEntry(
            id=user_id, created_at=membership.created_at, updated_at=membership.created_at, email=email
        )
        key = self._index.key(membership.id, user_id)
        values = {name: getattr(entry, name) for name in _MemberEntry.model_fields}
        return [put(key, values, Attr("PK").not_exists()), *self._index.count_writes(membership.id, user_id, +1)]

    def join_writes(
        self, user_id: str, email: str, space_id: str, permissions: Iterable[UserPermission]
    ) -> list[Write]:
        """Returns the writes that give the user these permissions in the space, also if the user is no member yet.

        Their transaction fails with TransactionFailedError when another writer changes the membership first.
        """
        found = self._table.get(self.memberships.key(user_id, space_id))
        if found is not None:
            current = self.memberships.load(found)
            changes = {"permissions": _united(current.permissions, permissions)}
            return [self.memberships.update_write(user_id, space_id, changes, expected_version=current.version)]
        now = self._clock()
        membership = Membership(
            id=space_id, created_at=now, updated_at=now, permissions=_united(permissions), generation=new_id()
        )
        return [
            self.memberships.put_write(user_id, membership),
            *self.memberships.count_writes(user_id, space_id, +1),
            *self.index_writes(user_id, email, membership),
        ]

    def add_permissions(self, space_id: str, user_id: str, permissions: Iterable[UserPermission]) -> Membership:
        """Adds permissions of a member, and returns the membership.

        Raises NotFoundError for users who are no members.
        """

        def step() -> Membership:
            membership = self.membership(space_id, user_id)
            together = _united(membership.permissions, permissions)
            changes = {"permissions": together} if together != membership.permissions else {}
            unchanged = Attr("version").eq(membership.version)
            return self.memberships.update(user_id, space_id, changes, condition=unchanged)

        return repeat_on_conflict(step, "The member's rights change too often just now.", (ConditionNotMetError,))

    def list_after(self, space_id: str, after: str, limit: int) -> Page[SpaceMember]:
        """Returns the members of the space, by descending id."""
        page = self._index.list_after(space_id, after, limit)
        keys = {self.memberships.key(entry.id, space_id): entry for entry in page.data}
        found = self._table.get_many(list(keys))
        members = [
            SpaceMember.model_validate({**found[key], "id": entry.id, "email": entry.email})
            for key, entry in keys.items()
            if key in found
        ]
        return Page(count=page.count, data=members, has_more=page.has_more)

    def user_ids(self, space_id: str) -> Iterator[str]:
        """Yields all members of the space, deleted or not."""
        for item in self._table.query(f"member#{space_id}", attributes=["SK"]):
            yield item["SK"]

    def is_member(self, space_id: str, user_id: str, error: ApiError) -> Write:
        """Returns the check that a user is a member of the space."""
        return check(self.memberships.key(user_id, space_id), Attr("PK").exists(), error)

    def membership(self, space_id: str, user_id: str) -> Membership:
        """Raises NotFoundError for users who are no members."""
        found = self._table.get(self.memberships.key(user_id, space_id)) if is_identifier(user_id) else None
        if found is None:
            raise _no_member()
        return self.memberships.load(found)

    def is_current(self, context: SpaceContext) -> Write:
        """Returns the check that the caller still has this membership."""
        generation = Attr("generation")
        same = generation.eq(context.generation) if context.generation else generation.not_exists()
        key = self.memberships.key(context.user_id, context.space_id)
        return check(key, Attr("PK").exists() & same, unknown_space())

    def email(self, space_id: str, user_id: str) -> str | None:
        """Returns the address with which a member joined."""
        found = self._table.get(self._index.key(space_id, user_id)) or {}
        return found.get("email") or None

    def generations(self, space_id: str, user_ids: Iterable[str]) -> dict[str, str | None]:
        """Returns the generations of the memberships of these users, as far as they are members."""
        keys = {self.memberships.key(user_id, space_id): user_id for user_id in user_ids}
        return {keys[key]: item.get("generation") for key, item in self._table.get_many(list(keys)).items()}

    def remove(self, space_id: str, user_id: str, expected_version: int, also: Sequence[Write] = ()) -> None:
        """Ends a membership, and carries out ``also`` in the same transaction.

        Raises NotFoundError for users who are no members, ConflictError for the owner, and PreconditionFailedError.
        """
        index = [delete(self._index.key(space_id, user_id)), *self._index.count_writes(space_id, user_id, -1)]
        try:
            self.memberships.delete(
                user_id,
                space_id,
                expected_version=expected_version,
                condition=Attr("is_owner").eq(False),
                also=[*index, *also],
            )
        except ConditionNotMetError:
            raise ConflictError("A space can't be without its owner. Delete the space instead.") from None
        except NotFoundError:  # gone just now
            raise _no_member() from None


def _united(*groups: Iterable[UserPermission]) -> list[UserPermission]:
    """Returns all permissions in their common order."""
    granted = {permission for group in groups for permission in group}
    return [permission for permission in UserPermission if permission in granted]


def unknown_space() -> NotFoundError:
    return NotFoundError("There is no space with this id among yours.")


def _no_member() -> NotFoundError:
    return NotFoundError("There is no member with this id in the space.")
