"""Which spaces a user belongs to, and with which rights; and who belongs to a space.

A membership lies under its user, ``membership#<user>``, so that the spaces of a user are one query; an index of the
members of a space, ``member#<space>``, is written in the same transactions.
"""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from boto3.dynamodb.conditions import Attr

from shared.clock import Clock, new_id, utc_now
from shared.dynamodb.repository import ConditionNotMetError, Repository, is_identifier
from shared.dynamodb.table import (
    Item,
    Key,
    Table,
    TransactionFailedError,
    Write,
    check,
    delete,
    put,
    repeat_on_conflict,
)
from shared.errors import (
    ApiError,
    ConflictError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionFailedError,
    SpaceRequiredError,
    UnavailableError,
    ValidationFailedError,
)
from shared.models.api_key import ApiKey
from shared.models.base import Entity, Page
from shared.models.limits import SpaceLimits
from shared.models.space import (
    Membership,
    Privilege,
    ReviewRules,
    Right,
    ServiceAccountCreate,
    Space,
    SpaceMember,
    UserPermission,
)


@dataclass(frozen=True)
class SpaceContext:
    """The space a request works in and what its caller may do there: every service call starts with one."""

    space_id: str
    user_id: str
    is_owner: bool = False
    permissions: frozenset[Right] = field(default_factory=frozenset)
    # Which membership of the caller this is.
    generation: str | None = None
    # What calls of language models are held to, and the key that the caller uses in place of a token.
    limits: SpaceLimits | None = None
    key: ApiKey | None = None
    # What an argument needs before its approval.
    review_rules: ReviewRules = field(default_factory=ReviewRules)
    # Whether the owner made the guard compulsory for chats.
    guard_required: bool = False
    # Licenses without commercial use that the owner accepted.
    accepted_licenses: frozenset[str] = frozenset()

    def allows(self, right: Right) -> bool:
        return self.is_owner or right in self.permissions

    def require(self, right: Right, what: str) -> None:
        """Raises PermissionDeniedError for callers without the right. ``what`` says what needs it."""
        if not self.allows(right):
            scope = f" The API key needs the scope {right.value}, too." if self.key else ""
            raise PermissionDeniedError(
                f"{what} needs the right {right.value} in this space. Ask an owner of the space for it.{scope}"
            )

    def require_creator(self, created_by: str, what: str) -> None:
        """Raises PermissionDeniedError for all but the creator of an entity and the owner of the space."""
        if not self.is_owner and created_by != self.user_id:
            raise PermissionDeniedError(
                f"Only the owner of the space and the member who created it may {what}. "
                f"GET /spaces/{self.space_id}/members shows who the owner is."
            )


class _MemberEntry(Entity):
    email: str


class OwnerChangedError(UnavailableError):
    """Error raised when another request has changed the other owner of a space since it was read."""


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
        membership, space = self.memberships.load(found[membership_key]), found[space_key]
        limits, rules = space.get("limits"), space.get("review_rules")
        context = SpaceContext(
            space_id,
            user_id,
            membership.is_owner,
            frozenset([*membership.permissions, *membership.privileges]),
            membership.generation,
            SpaceLimits.model_validate(limits) if limits else None,
            review_rules=ReviewRules.model_validate(rules or {}),
            guard_required=found[space_key].get("guard_required", False),
            accepted_licenses=frozenset(found[space_key].get("accepted_licenses", ())),
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

    def add_service_account(self, space_id: str, request: ServiceAccountCreate) -> SpaceMember:
        """Adds a member that is no person.

        Raises NotFoundError for a deleted space, and ValidationFailedError for a privilege of persons.
        """
        _check_service(request.privileges)
        now, account_id = self._clock(), new_id()
        membership = Membership(
            id=space_id,
            created_at=now,
            updated_at=now,
            permissions=_united(request.permissions),
            privileges=_in_order(request.privileges),
            generation=new_id(),
            service_account=request.name,
        )
        self._table.transact(
            [
                self.is_in_use(space_id, unknown_space()),
                self.memberships.put_write(account_id, membership),
                *self.memberships.count_writes(account_id, space_id, +1),
                *self.index_writes(account_id, "", membership),
            ]
        )
        return _member(account_id, "", membership)

    def set_rights(
        self, space_id: str, user_id: str, changes: dict[str, Any], expected_version: int | None
    ) -> SpaceMember:
        """Replaces rights of a member.

        Raises NotFoundError for users who are no members, ConflictError for the last owner, ValidationFailedError for
        rights that a service account can't have, and PreconditionFailedError.
        """
        if "permissions" in changes:
            changes["permissions"] = _united(changes["permissions"])
        if "privileges" in changes:
            changes["privileges"] = _in_order(changes["privileges"])

        def step() -> Membership:
            membership = self.membership(space_id, user_id)
            if expected_version not in (None, membership.version):
                raise PreconditionFailedError("The member's rights were changed since you read them. Read them again.")
            if membership.service_account:
                _check_service(changes.get("privileges", []), is_owner=changes.get("is_owner"))
            if not changes:
                return membership
            is_lowered = membership.is_owner and changes.get("is_owner") is False
            another = [self.has_another_owner(space_id, user_id)] if is_lowered else []
            write = self.memberships.update_write(user_id, space_id, changes, expected_version=membership.version)
            self._table.transact([write, *another])
            return membership.model_copy(update={**changes, "version": membership.version + 1})

        busy = "The member's rights change too often just now."
        changed = repeat_on_conflict(step, busy, (TransactionFailedError, OwnerChangedError))
        return _member(user_id, self.email(space_id, user_id) or "", changed)

    def has_another_owner(self, space_id: str, user_id: str) -> Write:
        """Returns the check that the space has another owner, who stays one. Raises ConflictError."""
        other = self._find(space_id, lambda member_id, membership: membership.is_owner and member_id != user_id)
        if other is None:
            raise ConflictError(
                "A space can't be without an owner. Make another member an owner first, or delete the space."
            )
        changed = OwnerChangedError("The owners of the space are being changed by others. Try again.")
        return check(self.memberships.key(other, space_id), Attr("is_owner").eq(True), changed)

    def has_other_with(self, space_id: str, right: Right, users: Container[str | None]) -> bool:
        """Returns whether a member beside these users has the right."""

        def has_right(member_id: str, membership: Membership) -> bool:
            rights = (*membership.permissions, *membership.privileges)
            return member_id not in users and (membership.is_owner or right in rights)

        return self._find(space_id, has_right) is not None

    def _find(self, space_id: str, wanted: Callable[[str, Membership], bool]) -> str | None:
        """Returns a member that is wanted, if there is one."""
        user_ids = self.user_ids(space_id)
        while some := list(islice(user_ids, 100)):
            for key, item in self._table.get_many([self.memberships.key(each, space_id) for each in some]).items():
                if wanted(user_id := key.pk.partition("#")[2], self.memberships.load(item)):
                    return user_id
        return None

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
            _member(entry.id, entry.email, self.memberships.load(found[key]))
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

    def remove(self, space_id: str, user_id: str, membership: Membership, also: Sequence[Write] = ()) -> None:
        """Ends a membership, and carries out ``also`` in the same transaction.

        Raises NotFoundError for users who are no members, ConflictError for the last owner, OwnerChangedError, and
        PreconditionFailedError if the membership has changed.
        """
        index = [delete(self._index.key(space_id, user_id)), *self._index.count_writes(space_id, user_id, -1)]
        another = [self.has_another_owner(space_id, user_id)] if membership.is_owner else []
        try:
            self.memberships.delete(
                user_id, space_id, expected_version=membership.version, also=[*index, *another, *also]
            )
        except NotFoundError:  # gone just now
            raise _no_member() from None


def _united(*groups: Iterable[UserPermission]) -> list[UserPermission]:
    """Returns all permissions in their common order."""
    granted = {permission for group in groups for permission in group}
    return [permission for permission in UserPermission if permission in granted]


def _in_order(privileges: Iterable[Privilege]) -> list[Privilege]:
    given = set(privileges)
    return [privilege for privilege in Privilege if privilege in given]


def _check_service(privileges: Iterable[Privilege], *, is_owner: bool | None = False) -> None:
    """Raises ValidationFailedError for rights that only persons have."""
    if is_owner:
        raise ValidationFailedError.of("body.is_owner", "a service account can't own a space")
    if Privilege.ARGUMENTS_APPROVE in privileges:
        raise ValidationFailedError.of("body.privileges", "a service account can't approve arguments: people do")


def _member(user_id: str, email: str, membership: Membership) -> SpaceMember:
    values = {name: getattr(membership, name) for name in SpaceMember.model_fields if name != "email"}
    return SpaceMember.model_validate({**values, "id": user_id, "email": email})


def unknown_space() -> NotFoundError:
    return NotFoundError("There is no space with this id among yours.")


def _no_member() -> NotFoundError:
    return NotFoundError("There is no member with this id in the space.")
