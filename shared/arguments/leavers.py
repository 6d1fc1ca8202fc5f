"""Arguments that wait for a member who has left the space: they wait for anyone then."""

from typing import Any

from shared.arguments.store import Arguments
from shared.clock import Clock, utc_now
from shared.dynamodb.cleanup_list import CleanupList
from shared.dynamodb.table import Table, Write
from shared.dynamodb.write_markers import actor
from shared.errors import ConflictError, NotFoundError
from shared.models.argument import Argument, ReviewStatus

AT_ONCE = 50


class Leavers:
    """Members who have left, and whose arguments may still wait for them."""

    def __init__(self, table: Table, clock: Clock = utc_now) -> None:
        self.purges = CleanupList(table, "member", clock)
        self._arguments = Arguments(table, clock)

    def note(self, space_id: str, user_id: str) -> Write:
        """Returns the write that notes a leaver, for the transaction in which the member leaves."""
        return self.purges.note(space_id, f"{space_id}#{user_id}", user_id=user_id)

    def clean(self, space_id: str, entity_id: str) -> None:
        """Lets the arguments of a leaver wait for anyone. Safe to repeat."""
        with self.purges.settling(entity_id) as noted:
            if noted is None or not self.purges.is_gone(space_id, noted["user_id"]):
                return
            while waiting := self._arguments.waiting(space_id, noted["user_id"], AT_ONCE):
                for argument_id in waiting:
                    self._free(space_id, argument_id, noted["user_id"])

    def _free(self, space_id: str, argument_id: str, user_id: str) -> None:
        def decide(current: Argument) -> dict[str, Any]:
            review = current.review
            if (review.status, review.assignee) != (ReviewStatus.WAITING_REVIEW, user_id):
                raise ConflictError("The argument does not wait for this member any more.")
            return {"review": review.model_copy(update={"assignee": None})}

        try:
            self._arguments.change(space_id, argument_id, decide, actor.get())
        except (ConflictError, NotFoundError):
            return  # somebody has changed or deleted it
