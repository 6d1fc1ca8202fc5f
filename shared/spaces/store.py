"""Deletes and restores spaces. The space's own item decides, and the memberships follow.

``deleted_at`` on the space hides it and all its data from everybody immediately. Then each membership moves to
``membership#<user>#hidden`` and, when the space is restored, back again unchanged. Every move is a transaction that
checks the space's state as well, so that a late worker can't undo a newer decision. A space with memberships that may
not have moved yet is noted under
``space#unsettled``, in the transaction that deletes or restores it; the next one who finds the note continues.

Deleted spaces are listed by the time of their deletion under ``space#deleted``, until they are purged.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from boto3.dynamodb.conditions import Attr, ConditionBase
from boto3.dynamodb.conditions import Key as KeyCondition

from shared.clock import Clock, new_id, utc_now
from shared.dynamodb.repository import ConditionNotMetError, cursor_id, is_identifier
from shared.dynamodb.table import (
    ConditionFailedError,
    Item,
    Key,
    Table,
    TransactionFailedError,
    Write,
    check,
    delete,
    put,
    repeat_on_conflict,
    update,
)
from shared.errors import ConflictError, PermissionDeniedError
from shared.models.base import Page, format_timestamp
from shared.models.space import ListedSpace, Space
from shared.spaces.members import Members, unknown_space
from shared.spaces.owned_spaces import OwnedSpaces

RESTORABLE = timedelta(days=30)
PENDING_MOVES = "space#unsettled"
DELETED = "space#deleted"

_IS_DELETED: ConditionBase = Attr("deleted_at").exists()
_IS_IN_USE: ConditionBase = Attr("PK").exists() & Attr("deleted_at").not_exists()


class _DecidedOtherwiseError(ConflictError):
    """Error raised when the space was deleted or restored since; that request moves the memberships."""


@dataclass(frozen=True)
class DeletedSpace:
    """A space whose time to be restored is over; ``entry`` is its place in the list of deleted spaces."""

    id: str
    entry: Key


class Spaces:
    def __init__(self, table: Table, clock: Clock = utc_now) -> None:
        self.members = Members(table, clock)
        self._spaces = self.members.spaces
        self._table = table
        self._clock = clock

    def is_deleted(self, space_id: str) -> bool:
        """Returns whether the space is deleted, and not purged yet."""
        return "deleted_at" in (self._table.get(self._key(space_id)) or {})

    def delete(self, space_id: str, user_id: str, expected_version: int | None) -> None:
        """Hides the space from everybody. The caller then calls ``move_memberships``.

        Raises NotFoundError when it is deleted already, and PreconditionFailedError.
        """
        now = self._clock()
        mark = self._spaces.update_write(
            space_id,
            space_id,
            {"deleted_at": now, "updated_by": user_id},
            expected_version=expected_version,
            condition=Attr("deleted_at").not_exists(),
        )
        try:
            self._table.transact([mark, self._note(space_id), put(_deleted_key(format_timestamp(now), space_id), {})])
        except TransactionFailedError as failed:
            error = self._spaces.explain(failed.item, expected_version)
            raise unknown_space() if isinstance(error, ConditionNotMetError) else error from None

    def restore(self, space_id: str, user_id: str) -> None:
        """Restores a deleted space for its owner. The caller then calls ``move_memberships``.

        One that is not deleted stays as it is. Raises NotFoundError for users who do not belong to it and when its
        time is over, PermissionDeniedError for members who do not own it.
        """

        def step() -> None:
            space = self._owned(space_id, user_id)
            if space.deleted_at is None:
                return
            if space.deleted_at + RESTORABLE <= self._clock():
                raise unknown_space()
            deleted_at = format_timestamp(space.deleted_at)
            mark = self._spaces.update_write(
                space_id,
                space_id,
                {"deleted_at": None, "updated_by": user_id},
                condition=Attr("deleted_at").eq(deleted_at) & Attr("purged_at").not_exists(),
            )
            self._table.transact([mark, self._note(space_id), delete(_deleted_key(deleted_at, space_id))])
            return

        repeat_on_conflict(step, "The space is deleted and restored by others just now.", (TransactionFailedError,))

    def list_deleted(self, user_id: str, after: str, limit: int) -> Page[ListedSpace]:
        """Returns the deleted spaces that the user may restore, newest first. Raises InvalidCursorError."""
        last = cursor_id(after)
        # Memberships that have not moved yet are where they were.
        own = {
            item["SK"]
            for partition in (f"membership#{user_id}#hidden", f"membership#{user_id}")
            for item in self._table.query(partition, filter=Attr("is_owner").eq(True))
        }
        found = self._table.get_many([self._key(space_id) for space_id in own])
        spaces = [self._spaces.load(item) for item in found.values() if "purged_at" not in item]
        deleted = [
            ListedSpace(**dict(space), restorable_until=space.deleted_at + RESTORABLE)
            for space in sorted(spaces, key=lambda each: each.id, reverse=True)
            if space.deleted_at is not None and space.deleted_at + RESTORABLE > self._clock()
        ]
        rest = [space for space in deleted if last is None or space.id < last]
        return Page(count=len(deleted), data=rest[:limit], has_more=len(rest) > limit)

    def move_memberships(self, space_id: str, at_most: int | None = None) -> None:
        """Lets all memberships follow the space's state, as far as they have not: safe to repeat, to break off, late.

        Beyond ``at_most`` members the rest is left to the next one who calls.
        """
        note = self._table.get(Key(PENDING_MOVES, space_id))
        space = self._table.get(self._key(space_id)) if note else None
        if note is None or space is None:
            return
        # Spaces made before their members were listed have only their owner.
        for number, user_id in enumerate(dict.fromkeys([space["created_by"], *self.members.user_ids(space_id)])):
            if at_most is not None and number >= at_most:
                return
            try:
                self._move(space_id, user_id, hides="deleted_at" in space)
            except _DecidedOtherwiseError:
                return
        with suppress(ConditionFailedError):
            self._table.write(delete(Key(PENDING_MOVES, space_id), Attr("change").eq(note["change"])))

    def with_pending_moves(self) -> Iterator[str]:
        """Yields the spaces that someone has to go on with."""
        for item in self._table.query(PENDING_MOVES, newest_first=False, attributes=["SK"]):
            yield item["SK"]

    def due(self) -> Iterator[DeletedSpace]:
        """Yields the spaces that can't be restored any more, in the order of their deletion."""
        latest = format_timestamp(self._clock() - RESTORABLE)
        for item in self._table.query(DELETED, condition=KeyCondition("SK").lte(latest), newest_first=False):
            yield DeletedSpace(item["SK"].partition("#")[2], Key(DELETED, item["SK"]))

    def close(self, space: DeletedSpace) -> bool:
        """Ends the time for a restore, and returns whether the space's data may be removed."""
        deleted_at = space.entry.sk.partition("#")[0]
        unchanged = Attr("deleted_at").eq(deleted_at)
        try:
            self._table.write(update(self._key(space.id), {"purged_at": self._clock()}, condition=unchanged))
        except ConditionFailedError:
            return False
        return True

    def forget(self, space: DeletedSpace) -> None:
        """The last step of a purge: all that belonged to the space is gone, and now the space itself."""
        item = self._table.get(self._key(space.id))
        owned = [OwnedSpaces.remove(item["created_by"], space.id)] if item else []
        rest = [delete(self._key(space.id)), delete(space.entry), delete(Key(PENDING_MOVES, space.id))]
        self._table.transact([*owned, *rest])

    def _owned(self, space_id: str, user_id: str) -> Space:
        memberships = self._membership_keys(space_id, user_id)
        found = self._table.get_many([self._key(space_id), *memberships]) if is_identifier(space_id) else {}
        own = [found[key] for key in memberships if key in found]
        if self._key(space_id) not in found or not own:
            raise unknown_space()
        if not own[0]["is_owner"]:
            raise PermissionDeniedError("Only the owners of the space may restore it. Ask one of them.")
        return self._spaces.load(found[self._key(space_id)])

    def _move(self, space_id: str, user_id: str, *, hides: bool) -> None:
        """Moves a membership to its place, unless it is there. Raises _DecidedOtherwiseError."""
        listed, hidden = self._membership_keys(space_id, user_id)
        source, target = (listed, hidden) if hides else (hidden, listed)
        state = check(
            self._key(space_id), _IS_DELETED if hides else _IS_IN_USE, _DecidedOtherwiseError("decided otherwise")
        )
        count = self.members.memberships.count_writes(user_id, space_id, -1 if hides else +1)

        def step() -> None:
            membership = self._table.get(source)
            if membership is None:
                return
            unchanged = Attr("version").eq(membership["version"])
            self._table.transact([state, delete(source, unchanged), put(target, _values(membership)), *count])
            return

        repeat_on_conflict(step, "A membership changes too often just now.", (TransactionFailedError,))

    @staticmethod
    def _note(space_id: str) -> Write:
        return put(Key(PENDING_MOVES, space_id), {"change": new_id()})

    def _key(self, space_id: str) -> Key:
        return self._spaces.key(space_id, space_id)

    def _membership_keys(self, space_id: str, user_id: str) -> tuple[Key, Key]:
        """Returns the keys of the membership while the space is in use, and while it is deleted."""
        return self.members.memberships.key(user_id, space_id), Key(f"membership#{user_id}#hidden", space_id)


def _values(item: Item) -> Item:
    return {name: value for name, value in item.items() if name not in ("PK", "SK")}


def _deleted_key(deleted_at: str, space_id: str) -> Key:
    return Key(DELETED, f"{deleted_at}#{space_id}")
