"""Manages arguments, their review and the review queue."""

from collections.abc import Sequence
from typing import Any

from functions.arguments.references import References
from shared.arguments.store import ANYONE, Arguments
from shared.checkpoints.lineages import Lineages
from shared.clock import Clock, new_id
from shared.dynamodb.repository import Idempotency
from shared.dynamodb.table import Table, Write
from shared.errors import (
    ApiError,
    ConflictError,
    ContendedError,
    NotFoundError,
    PermissionDeniedError,
    ValidationFailedError,
)
from shared.grounding.claims import count_unsupported, ground
from shared.models.argument import (
    Argument,
    ArgumentAssignment,
    ArgumentChange,
    ArgumentComment,
    ArgumentReview,
    ArgumentUpdate,
    CommentCreate,
    ReviewStatus,
)
from shared.models.base import Deleted, Page
from shared.models.lineage import Lineage, LineageReview
from shared.models.space import OtherEyes, Privilege
from shared.spaces.members import Members, SpaceContext

# Tries this number of waiting arguments before it reads the queue again, because other reviewers may be faster.
QUEUE_LOOKAHEAD = 10
QUEUE_ATTEMPTS = 5
_OURS = ("reviewer", "reviewed_at", "assignee")


class QueueEmptyError(NotFoundError):
    """Error raised when no argument waits for this reviewer."""

    code = "queue_empty"


class UnsupportedClaimsError(ConflictError):
    """Error raised for the approval of an argument with more unsupported claims than the space allows."""

    code = "unsupported_claims"


class ArgumentService:
    def __init__(self, table: Table, lineages: Lineages, clock: Clock) -> None:
        self._arguments = Arguments(table, clock)
        self._members = Members(table, clock)
        self._references = References(table, lineages)
        self._lineages = lineages
        self._clock = clock

    def list_page(
        self, context: SpaceContext, page: int, page_size: int, status: ReviewStatus | None, action_id: str
    ) -> Page[Argument]:
        return self._arguments.list_page(context.space_id, page, page_size, status, action_id or None)

    def get(self, context: SpaceContext, argument_id: str) -> Argument:
        return self._arguments.get(context.space_id, argument_id)

    def lineage(self, context: SpaceContext, argument_id: str) -> Lineage:
        argument = self._arguments.get(context.space_id, argument_id)
        review = LineageReview(status=argument.review.status, reviewer=argument.review.reviewer)
        return self._lineages.trace(
            context.space_id,
            argument.lineage,
            argument_id=argument.id,
            insight_id=argument.insight_id,
            review=review,
        )

    def delete(self, context: SpaceContext, argument_id: str, expected_version: int | None) -> Deleted:
        return self._arguments.delete(context.space_id, argument_id, expected_version)

    def update(
        self, context: SpaceContext, argument_id: str, request: ArgumentUpdate, expected_version: int | None
    ) -> Argument:
        """Updates an argument or its review.

        Raises ConflictError if the new review status may not follow the current one, or the rules of the space prevent
        an approval, and PermissionDeniedError if another member reviews the argument or the caller may not approve it.
        """
        sent = request.changes()

        def decide(current: Argument) -> dict[str, Any]:
            stored = current.model_dump(mode="json")
            changes = {name: value for name, value in sent.items() if name != "review" and value != stored[name]}
            if "action_id" in changes:
                changes["lineage"] = self._references.lineage(context, changes["action_id"], current.insight_id)
            review = self._reviewed(context, current.review, sent.get("review", {}))
            if review.status is current.review.status:
                _require_open(context, current.review, changed=bool(changes) or review != current.review)
            following = {**changes, "review": review, **_claims(context, current, changes)}
            if review.status is ReviewStatus.SUCCESS and current.review.status is not ReviewStatus.SUCCESS:
                self._require_approvable(context, current.model_copy(update=following))
            return following

        return self._arguments.change(context.space_id, argument_id, decide, context.user_id, expected_version)

    def take_next(self, context: SpaceContext) -> Argument:
        """Begins the review of the longest waiting argument, first of the arguments that are assigned to the caller.

        Raises QueueEmptyError if no argument waits.
        """
        for _ in range(QUEUE_ATTEMPTS):
            waiting = [
                argument_id
                for assignee in (context.user_id, ANYONE)
                for argument_id in self._arguments.waiting(context.space_id, assignee, QUEUE_LOOKAHEAD)
            ]
            if not waiting:
                raise QueueEmptyError("No argument waits for your review. Try again later.")
            for argument_id in waiting:
                try:
                    return self.update(context, argument_id, _TAKE, None)
                except (ConflictError, NotFoundError, PermissionDeniedError):
                    continue  # another reviewer was faster
        raise ContendedError(
            "Other reviewers take the waiting arguments now. Try again in a moment.", headers={"Retry-After": "1"}
        )

    def release(self, context: SpaceContext, argument_id: str, expected_version: int | None) -> Argument:
        """Puts an argument under review at the end of the queue for all. Raises the same errors as ``assign``."""
        return self._requeue(context, argument_id, None, (ReviewStatus.REVIEWING,), expected_version)

    def assign(
        self, context: SpaceContext, argument_id: str, request: ArgumentAssignment, expected_version: int | None
    ) -> Argument:
        """Assigns an argument that waits for a review, or is under review, to one member.

        Raises ValidationFailedError if the user is not a member, ConflictError for another review status, and
        PermissionDeniedError if the argument is assigned to another member.
        """
        also = []
        if request.user_id is not None:
            # Checked again in the transaction, because the member may leave at the same time.
            stranger = ValidationFailedError.of("body.user_id", "is not a member of the space")
            self._require_member(context, request.user_id, stranger)
            also = [self._members.is_member(context.space_id, request.user_id, stranger)]
        allowed = (ReviewStatus.WAITING_REVIEW, ReviewStatus.REVIEWING)
        return self._requeue(context, argument_id, request.user_id, allowed, expected_version, also)

    def comment(
        self, context: SpaceContext, argument_id: str, request: CommentCreate, idempotency: Idempotency | None
    ) -> ArgumentComment:
        now = self._clock()
        comment = ArgumentComment(
            id=new_id(), created_at=now, updated_at=now, created_by=context.user_id, text=request.text
        )
        return self._arguments.comment(context.space_id, argument_id, comment, idempotency)

    def comments(self, context: SpaceContext, argument_id: str, after: str, limit: int) -> Page[ArgumentComment]:
        return self._arguments.comments(context.space_id, argument_id, after, limit)

    def history(self, context: SpaceContext, argument_id: str, after: str, limit: int) -> Page[ArgumentChange]:
        return self._arguments.changes(context.space_id, argument_id, after, limit)

    def _reviewed(self, context: SpaceContext, current: ArgumentReview, sent: dict[str, Any]) -> ArgumentReview:
        """Returns the review with the changes of the request. Raises ConflictError and PermissionDeniedError."""
        if sent == current.model_dump(mode="json"):  # a client may send the whole review back
            return current
        values = {**current.model_dump(), **{name: value for name, value in sent.items() if name not in _OURS}}
        if "status" not in sent:
            return ArgumentReview.model_validate(values)
        status = ReviewStatus(sent["status"])
        if not current.status.may_become(status):
            raise _cannot_become(current, status)
        if status is ReviewStatus.REVIEWING:
            if current.status is ReviewStatus.WAITING_REVIEW:
                _require_holder(context, current)
            values |= {"reviewer": context.user_id, "reviewed_at": None, "assignee": None}
        elif current.status is ReviewStatus.REVIEWING:
            _require_holder(context, current)
            values |= {"reviewer": context.user_id, "reviewed_at": self._clock()}
        return ArgumentReview.model_validate(values)

    def _require_approvable(self, context: SpaceContext, argument: Argument) -> None:
        """Raises PermissionDeniedError for a caller who may not approve this argument, and UnsupportedClaimsError."""
        context.require(Privilege.ARGUMENTS_APPROVE, "The approval of an argument")
        rules, authors = context.review_rules, {argument.created_by, argument.edited_by}
        if context.user_id in authors and rules.other_eyes is not OtherEyes.NEVER:
            is_exempt = rules.other_eyes is OtherEyes.WHEN_POSSIBLE and not self._members.has_other_with(
                context.space_id, Privilege.ARGUMENTS_APPROVE, authors
            )
            if not is_exempt:
                raise PermissionDeniedError(
                    "You made this argument or changed it last, so another member has to approve it. An owner sets "
                    f"this rule with PUT /spaces/{context.space_id}/review-rules."
                )
        limit = rules.max_unsupported_claims
        if limit is not None and argument.unsupported_claims > limit:
            raise UnsupportedClaimsError(
                f"The argument has {argument.unsupported_claims} unsupported claims, and the space allows {limit}. "
                "Change the text, or decline it."
            )

    def _requeue(
        self,
        context: SpaceContext,
        argument_id: str,
        assignee: str | None,
        allowed: tuple[ReviewStatus, ...],
        expected_version: int | None,
        also: Sequence[Write] = (),
    ) -> Argument:
        def decide(current: Argument) -> dict[str, Any]:
            review = current.review
            if review.status not in allowed:
                raise _cannot_become(review, ReviewStatus.WAITING_REVIEW)
            _require_holder(context, review)
            queued = {"status": ReviewStatus.WAITING_REVIEW, "reviewer": None, "assignee": assignee}
            return {"review": review.model_copy(update=queued)}

        return self._arguments.change(context.space_id, argument_id, decide, context.user_id, expected_version, also)

    def _require_member(self, context: SpaceContext, user_id: str, error: ApiError) -> None:
        try:
            self._members.context(user_id, context.space_id)
        except NotFoundError:
            raise error from None


_TAKE = ArgumentUpdate.model_validate({"review": {"status": ReviewStatus.REVIEWING}})


def _claims(context: SpaceContext, current: Argument, changes: dict[str, Any]) -> dict[str, Any]:
    """Returns the new claims, their count and the editor, or nothing if neither the text nor a fact changes."""
    facts = {name: changes.get(name, fact) for name, fact in current.facts().items()}
    text = changes.get("argument", current.argument)
    if text == current.argument and facts == current.facts():
        return {}
    claims = ground(text, facts)
    return {"claims": claims, "unsupported_claims": count_unsupported(claims), "edited_by": context.user_id}


def _require_open(context: SpaceContext, review: ArgumentReview, *, changed: bool) -> None:
    """Raises ConflictError for a change of an approved argument, or PermissionDeniedError if another member has it."""
    if changed and review.status is ReviewStatus.SUCCESS:
        raise ConflictError(
            f"The argument is approved, because its review has the status '{review.status}'. To change it, set "
            f"review.status to '{ReviewStatus.REVIEWING}' in the same request or in an earlier request."
        )
    if changed and review.status in (ReviewStatus.REVIEWING, ReviewStatus.FAILED):
        _require_holder(context, review)


def _require_holder(context: SpaceContext, review: ArgumentReview) -> None:
    """Raises PermissionDeniedError if another member has the argument, except for the owner of the space."""
    holder = review.assignee if review.status is ReviewStatus.WAITING_REVIEW else review.reviewer
    if holder not in (None, context.user_id) and not context.is_owner:
        raise PermissionDeniedError(
            f"The argument is with the member {holder}. Only this member and the owner of the space may do this."
        )


def _cannot_become(review: ArgumentReview, status: ReviewStatus) -> ConflictError:
    following = " or ".join(f"'{each}'" for each in ReviewStatus if review.status.may_become(each))
    holder = f" by {review.reviewer}" if review.status is ReviewStatus.REVIEWING and review.reviewer else ""
    return ConflictError(
        f"A review with the status '{review.status}'{holder} cannot become '{status}'; it may become {following}."
    )
