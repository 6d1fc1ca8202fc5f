"""Stores arguments, their places in lists, their changes and their comments.

Each argument has places in lists: of its review's status, of its action, of both, and in the queue of
those who wait for a reviewer. A list is a partition ``argument_index#<space>#<list>`` with page counters of its own;
an argument changes in one transaction with its places, so that pages and counts are exact for every filter. The order
of a queue is the order in which arguments joined it: one that comes back joins at the end.
"""

from collections.abc import Callable, Sequence
from typing import Any

from boto3.dynamodb.conditions import Attr

from shared.clock import Clock, new_id, utc_now
from shared.dynamodb.cleanup_list import CleanupList
from shared.dynamodb.repository import ConditionNotMetError, Idempotency, Repository, is_identifier
from shared.dynamodb.table import Table, TransactionFailedError, Write, check, delete, put, repeat_on_conflict
from shared.errors import PreconditionFailedError
from shared.models.argument import Argument, ArgumentChange, ArgumentComment, FieldChange, ReviewStatus
from shared.models.base import Deleted, Entity, Page

# The queue of those that are kept for nobody.
ANYONE = "anyone"

# What is to become of an argument, by field.
ReviewDecision = Callable[[Argument], dict[str, Any]]


class Place(Entity):
    """An argument's place in a list."""


class Arguments:
    def __init__(self, table: Table, clock: Clock = utc_now) -> None:
        self._table = table
        self._clock = clock
        self._arguments = Repository(table, Argument, kind="argument", paged=True, clock=clock)
        self._places = Repository(table, Place, kind="argument_index", paged=True, clock=clock)
        self._changes = Repository(table, ArgumentChange, kind="argument_change", clock=clock)
        self._comments = Repository(table, ArgumentComment, kind="argument_comment", clock=clock)
        self.purges = CleanupList(table, "argument", clock)

    def create(
        self, space_id: str, argument: Argument, idempotency: Idempotency | None, also: Sequence[Write] = ()
    ) -> Argument:
        writes = [*self._moves(space_id, None, argument), *also]
        return self._arguments.create(space_id, argument, idempotency=idempotency, also=writes)

    def answered(self, space_id: str, idempotency: Idempotency) -> Argument | None:
        """Returns what the first request with this key made. Raises ConflictError for another request."""
        return self._arguments.answered(space_id, idempotency)

    def get(self, space_id: str, argument_id: str) -> Argument:
        """Raises NotFoundError."""
        return self._arguments.get(space_id, argument_id)

    def list_page(
        self, space_id: str, page: int, page_size: int, status: ReviewStatus | None, action_id: str | None
    ) -> Page[Argument]:
        """Returns the arguments with a status and an action, newest first."""
        if action_id is not None and not is_identifier(action_id):
            return Page(count=0, data=[], has_more=False)
        if status is None and action_id is None:
            return self._arguments.list_page(space_id, page, page_size)
        places = self._places.list_page(f"{space_id}#{_list_name(status, action_id)}", page, page_size)
        found = self._arguments.get_many(space_id, [place.id for place in places.data])
        data = [found[place.id] for place in places.data if place.id in found]
        return Page(count=places.count, data=data, has_more=places.has_more)

    def waiting(self, space_id: str, assignee: str, limit: int) -> list[str]:
        """Returns the ids of those that wait for this member, or for ANYONE, oldest first."""
        queue = self._places.key(f"{space_id}#{_queue_name(assignee)}", "").pk
        return [item["id"] for item in self._table.query(queue, newest_first=False, attributes=("id",), limit=limit)]

    def change(
        self,
        space_id: str,
        argument_id: str,
        decide: ReviewDecision,
        changed_by: str,
        expected_version: int | None = None,
        also: Sequence[Write] = (),
    ) -> Argument:
        """Writes what ``decide`` makes of the argument as it is, with the note of who changed what.

        Raises NotFoundError, PreconditionFailedError, what ``decide`` raises, and the errors of ``also``.
        """

        def step() -> Argument:
            current = self._current(space_id, argument_id, expected_version)
            values = {"updated_at": self._clock(), **decide(current)}
            changed = Argument.model_validate({**_fields(current), **values, "version": current.version + 1})
            differences = _differences(current, changed)
            if not differences:
                return current
            if _queue(changed) not in (None, _queue(current)):
                values["queued_id"] = new_id()
                changed = changed.model_copy(update={"queued_id": values["queued_id"]})
            note = ArgumentChange(
                id=new_id(),
                created_at=changed.updated_at,
                updated_at=changed.updated_at,
                changed_by=changed_by,
                changes=differences,
            )
            write = self._arguments.update_write(space_id, argument_id, values, expected_version=current.version)
            notes = f"{space_id}#{argument_id}"
            self._table.transact(
                [
                    write,
                    put(self._changes.key(notes, note.id), _fields(note)),
                    *self._changes.count_writes(notes, note.id, +1),
                    *self._moves(space_id, current, changed),
                    *also,
                ]
            )
            return changed

        return repeat_on_conflict(step, "The argument changes too often just now.", (TransactionFailedError,))

    def delete(self, space_id: str, argument_id: str, expected_version: int | None) -> Deleted:
        """With its comments and the notes of its changes. Raises NotFoundError and PreconditionFailedError."""

        def step() -> Deleted:
            current = self._current(space_id, argument_id, expected_version)
            also = [*self._moves(space_id, current, None), self.purges.note(space_id, argument_id)]
            unchanged = Attr("version").eq(current.version)
            deleted = self._arguments.delete(space_id, argument_id, condition=unchanged, also=also)
            self.clean(space_id, argument_id)
            return deleted

        return repeat_on_conflict(step, "The argument changes too often just now.", (ConditionNotMetError,))

    def clean(self, space_id: str, argument_id: str) -> None:
        """Removes what a deleted argument has left behind. Safe to repeat."""
        with self.purges.settling(argument_id):
            for kept in (self._changes, self._comments):
                kept.remove_all(f"{space_id}#{argument_id}")

    def changes(self, space_id: str, argument_id: str, after: str, limit: int) -> Page[ArgumentChange]:
        """Returns newest first. Raises NotFoundError and InvalidCursorError."""
        self.get(space_id, argument_id)
        return self._changes.list_after(f"{space_id}#{argument_id}", after, limit)

    def comment(
        self, space_id: str, argument_id: str, comment: ArgumentComment, idempotency: Idempotency | None
    ) -> ArgumentComment:
        """Raises NotFoundError when there is no such argument."""
        self.get(space_id, argument_id)
        exists = check(self._arguments.key(space_id, argument_id), Attr("PK").exists(), self._arguments.not_found())
        return self._comments.create(f"{space_id}#{argument_id}", comment, idempotency=idempotency, also=[exists])

    def comments(self, space_id: str, argument_id: str, after: str, limit: int) -> Page[ArgumentComment]:
        """Returns newest first. Raises NotFoundError and InvalidCursorError."""
        self.get(space_id, argument_id)
        return self._comments.list_after(f"{space_id}#{argument_id}", after, limit)

    def _current(self, space_id: str, argument_id: str, expected_version: int | None) -> Argument:
        current = self._arguments.get(space_id, argument_id)
        if expected_version not in (None, current.version):
            raise PreconditionFailedError(
                "The argument was changed since you read it. Get it again and use its new ETag."
            )
        return current

    def _moves(self, space_id: str, before: Argument | None, after: Argument | None) -> list[Write]:
        """Returns the writes that put an argument where it belongs and take it from where it does no longer."""
        argument = after or before
        assert argument is not None  # noqa: S101 - for the type checker
        old, new = _lists(before), _lists(after)
        actions = []
        for name, place_id in sorted(old ^ new):
            is_new = (name, place_id) in new
            place = Place(id=argument.id, created_at=argument.created_at, updated_at=argument.updated_at)
            key = self._places.key(f"{space_id}#{name}", place_id)
            actions.append(put(key, _fields(place)) if is_new else delete(key))
            actions += self._places.count_writes(f"{space_id}#{name}", place_id, +1 if is_new else -1)
        return actions


def _lists(argument: Argument | None) -> set[tuple[str, str]]:
    """Returns the names of the lists that an argument belongs to, with the ids of its places in them."""
    if argument is None:
        return set()
    review = argument.review
    names = {_list_name(review.status, None)}
    if argument.action_id is not None:
        names |= {_list_name(None, argument.action_id), _list_name(review.status, argument.action_id)}
    places = {(name, argument.id) for name in names}
    queue = _queue(argument)
    return places if queue is None else places | {(queue, argument.queued_id or argument.id)}


def _queue(argument: Argument) -> str | None:
    """Returns the queue that an argument waits in."""
    is_waiting = argument.review.status is ReviewStatus.WAITING_REVIEW
    return _queue_name(argument.review.assignee or ANYONE) if is_waiting else None


def _list_name(status: ReviewStatus | None, action_id: str | None) -> str:
    return f"{status or 'any'}#{action_id or 'any'}"


def _queue_name(assignee: str) -> str:
    return f"queue#{assignee}"


def _fields(entity: Entity) -> dict[str, Any]:
    return {name: getattr(entity, name) for name in type(entity).model_fields}


# What follows from other fields.
_DERIVED = {"claims", "edited_by", "lineage", "queued_id", "unsupported_claims", "updated_at", "version"}


def _differences(before: Argument, after: Argument) -> dict[str, FieldChange]:
    old, new = before.model_dump(mode="json"), after.model_dump(mode="json")
    return {
        name: FieldChange(before=old[name], after=new[name])
        for name in Argument.model_fields
        if name not in _DERIVED and old[name] != new[name]
    }
