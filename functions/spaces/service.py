"""Rules of spaces: who creates a space owns it."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from functions.spaces.invite_mails import InviteMails
from functions.spaces.removals import MemberRemovals
from functions.spaces.space_keys import SpaceKeys
from shared.arguments.leavers import Leavers
from shared.clock import Clock, new_id
from shared.dynamodb.repository import Idempotency
from shared.dynamodb.table import Table, TransactionFailedError, repeat_on_conflict
from shared.errors import ApiError, NotFoundError
from shared.http.tokens import Principal
from shared.jobs.launcher import JobLauncher
from shared.jobs.store import Jobs
from shared.llm.limit_usage import LimitUsages, Subject
from shared.models.api_key import ApiKeyCreate, NewApiKey, SpaceApiKey
from shared.models.base import Deleted, Page
from shared.models.invite import Invite, Invited, InviteMail, InviteRequest
from shared.models.job_reference import JobReference
from shared.models.limits import SpaceLimits, SpaceLimitsAnswer
from shared.models.space import (
    ListedSpace,
    Membership,
    MemberUpdate,
    ReviewRules,
    ServiceAccountCreate,
    Space,
    SpaceCreate,
    SpaceMember,
    SpaceReviewRules,
    SpaceUpdate,
)
from shared.observability import logger
from shared.space_usage.jobs import JobUsages
from shared.space_usage.storage import StorageUsages
from shared.spaces.api_keys import ApiKeys
from shared.spaces.invites import Invites
from shared.spaces.members import SpaceContext
from shared.spaces.owned_spaces import OwnedSpaces
from shared.spaces.store import Spaces

# What a request does itself after deleting or restoring; the reconciler does the rest within five minutes.
MEMBERS_AT_ONCE = 100
JOBS_AT_ONCE = 32
CONCURRENCY = 8


class SpaceService:
    def __init__(
        self, table: Table, launcher: JobLauncher, mails: InviteMails, storage_usages: StorageUsages, clock: Clock
    ) -> None:
        self._spaces = Spaces(table, clock)
        self._members = self._spaces.members
        self._owned = OwnedSpaces(table, self._members)
        self._jobs = Jobs(table, clock)
        self._invites = Invites(table, clock)
        self._removals = MemberRemovals(table, clock)
        self._keys = SpaceKeys(table, clock)
        self._api_keys = ApiKeys(table, clock)
        self._usages = LimitUsages(table, clock)
        self._job_usages = JobUsages(table, clock)
        self._storage_usages = storage_usages
        self._leavers = Leavers(table, clock)
        self._launcher = launcher
        self._mails = mails
        self._clock = clock

    def create(self, principal: Principal, request: SpaceCreate, idempotency: Idempotency | None) -> Space:
        """Raises LimitReachedError for users who own too many spaces."""
        now, user_id = self._clock(), principal.user_id
        space = Space(
            id=new_id(),
            created_at=now,
            created_by=user_id,
            updated_at=now,
            updated_by=user_id,
            **request.model_dump(),
        )
        membership = Membership(id=space.id, created_at=now, updated_at=now, is_owner=True, generation=new_id())

        def step() -> Membership:
            if idempotency and (first := self._members.memberships.answered(user_id, idempotency)):
                return first
            return self._members.memberships.create(
                user_id,
                membership,
                idempotency=idempotency,
                also=[
                    self._members.spaces.put_write(space.id, space),
                    *self._members.index_writes(user_id, principal.email, membership),
                    self._owned.add(user_id, space.id),
                ],
            )

        stored = repeat_on_conflict(step, "You create too many spaces at the same time.", (TransactionFailedError,))
        return space if stored.id == space.id else self._members.spaces.get(stored.id, stored.id)

    def list_after(self, user_id: str, after: str, limit: int, *, deleted: bool) -> Page[ListedSpace]:
        """Returns the user's spaces, newest first; or else the deleted ones that the user may restore."""
        if deleted:
            return self._spaces.list_deleted(user_id, after, limit)
        page = self._members.memberships.list_after(user_id, after, limit)
        spaces = self._members.get_spaces(membership.id for membership in page.data)
        data = [ListedSpace(**space.model_dump(), version=space.version) for space in spaces]
        return Page(count=page.count, data=data, has_more=page.has_more)

    def get(self, context: SpaceContext) -> Space:
        return self._members.spaces.get(context.space_id, context.space_id)

    def update(self, context: SpaceContext, request: SpaceUpdate, expected_version: int | None) -> Space:
        changes = request.changes()
        if changes:
            changes["updated_by"] = context.user_id
        return self._update(context, changes, expected_version)

    def _update(self, context: SpaceContext, changes: dict[str, Any], expected_version: int | None) -> Space:
        space_id = context.space_id
        return self._members.spaces.update(space_id, space_id, changes, expected_version=expected_version)

    def delete(self, context: SpaceContext, expected_version: int | None) -> Deleted:
        """Makes the space and all that belongs to it unknown to everybody, and stops what runs in it."""
        self._spaces.delete(context.space_id, context.user_id, expected_version)
        self._spaces.move_memberships(context.space_id, MEMBERS_AT_ONCE)
        self._stop_jobs(context.space_id)
        return Deleted(id=context.space_id)

    def restore(self, user_id: str, space_id: str) -> Deleted:
        """Brings a space back that was deleted within the last 30 days; one that was not stays as it is.

        Raises as ``Spaces.restore`` does.
        """
        self._spaces.restore(space_id, user_id)
        self._spaces.move_memberships(space_id, MEMBERS_AT_ONCE)
        return Deleted(id=space_id)

    def limits(self, context: SpaceContext) -> SpaceLimitsAnswer:
        return self._with_usage(context.user_id, self.get(context), context.limits or SpaceLimits())

    def set_limits(self, context: SpaceContext, limits: SpaceLimits, expected_version: int | None) -> SpaceLimitsAnswer:
        space = self._update(context, {"limits": limits, "updated_by": context.user_id}, expected_version)
        return self._with_usage(context.user_id, space, limits)

    def _with_usage(self, user_id: str, space: Space, limits: SpaceLimits) -> SpaceLimitsAnswer:
        everybody, own = Subject.space(space.id, limits), Subject.user(space.id, user_id, limits)
        return SpaceLimitsAnswer(
            **dict(limits),
            space_usage=self._usages.usage(everybody),
            own_usage=self._usages.usage(own),
            job_usage=self._job_usages.usage(space.id, self._storage_usages.stage)
            | self._storage_usages.usage(space.id),
            version=space.version,
        )

    def review_rules(self, context: SpaceContext) -> SpaceReviewRules:
        return SpaceReviewRules(**dict(context.review_rules), version=self.get(context).version)

    def set_review_rules(
        self, context: SpaceContext, rules: ReviewRules, expected_version: int | None
    ) -> SpaceReviewRules:
        changes = {"review_rules": rules, "updated_by": context.user_id}
        return SpaceReviewRules(**dict(rules), version=self._update(context, changes, expected_version).version)

    def add_service_account(self, context: SpaceContext, request: ServiceAccountCreate) -> SpaceMember:
        return self._members.add_service_account(context.space_id, request)

    def create_service_key(self, context: SpaceContext, account_id: str, request: ApiKeyCreate) -> NewApiKey:
        """Raises NotFoundError for a member that is no service account, and as ``ApiKeys.create`` does."""
        membership = self._members.membership(context.space_id, account_id)
        if membership.service_account is None:
            raise NotFoundError("There is no service account with this id in the space. Persons make their own keys.")
        holder = SpaceContext(context.space_id, account_id, generation=membership.generation)
        return self._api_keys.create(holder, request)

    def set_rights(
        self, context: SpaceContext, member_id: str, request: MemberUpdate, expected_version: int | None
    ) -> SpaceMember:
        return self._members.set_rights(context.space_id, member_id, request.changes(), expected_version)

    def list_members(self, context: SpaceContext, after: str, limit: int) -> Page[SpaceMember]:
        return self._members.list_after(context.space_id, after, limit)

    def remove_member(self, context: SpaceContext, member_id: str) -> Deleted:
        """Removes a member. What waits for the review of this member then waits for anyone."""
        space_id = context.space_id
        left = self._removals.remove(space_id, member_id, [self._leavers.note(space_id, member_id)])
        try:
            self._leavers.clean(space_id, f"{space_id}#{member_id}")
        except (ApiError, BotoCoreError, ClientError):
            logger.exception("arguments wait for a leaver: the reconciler will free them", extra={"space_id": space_id})
        return left

    def invite(self, principal: Principal, context: SpaceContext, request: InviteRequest) -> Invited:
        """Stores the invites, all or none, and then sends the mails.

        An invite holds whether or not its mail could be sent; its ``mail`` says so, and inviting again sends it again.
        """
        space_id = context.space_id
        emails = list(dict.fromkeys(request.emails))
        invites = self._invites.invite(space_id, emails, list(dict.fromkeys(request.roles)), context.user_id)
        outcomes = self._mails.send(self.get(context).name, principal.email, invites)
        sent = [self._invites.record_mail(space_id, invite, *outcomes[invite.email]) for invite in invites]
        for invite in sent:
            if invite.mail is InviteMail.FAILED:
                logger.warning("a mail was not sent", extra={"invite_id": invite.id, "why": invite.mail_error})
        return Invited(emails=emails, invites=sent, message=_told(sent))

    def list_invites(self, context: SpaceContext, after: str, limit: int) -> Page[Invite]:
        return self._invites.list_after(context.space_id, after, limit)

    def list_api_keys(self, context: SpaceContext, after: str, limit: int) -> Page[SpaceApiKey]:
        return self._keys.list_after(context.space_id, after, limit)

    def revoke_api_key(self, context: SpaceContext, key_id: str) -> Deleted:
        """Raises as ``SpaceKeys.revoke`` does."""
        return self._keys.revoke(context.space_id, key_id)

    def revoke_invite(self, context: SpaceContext, invite_id: str) -> Deleted:
        """Raises as ``Invites.revoke`` does."""
        return self._invites.revoke(context.space_id, invite_id)

    def _stop_jobs(self, space_id: str) -> None:
        jobs = [job for job in self._jobs.open_jobs(space_id) if job.kind.runs_on_sagemaker]
        if jobs:
            with ThreadPoolExecutor(CONCURRENCY) as pool:
                list(pool.map(self._stop, jobs[:JOBS_AT_ONCE]))

    def _stop(self, job: JobReference) -> None:
        try:
            self._launcher.stop(job, "Its space was deleted.")
        except (ClientError, BotoCoreError):
            logger.exception("the job was not stopped: the reconciler will try again", extra=job.execution_input)


def _told(invites: Sequence[Invite]) -> str:
    unsent = [invite.email for invite in invites if invite.mail is InviteMail.FAILED]
    if unsent:
        return (
            f"The mail to {', '.join(unsent)} could not be sent. The invites hold: invite again to send it again, "
            "or ask them to sign in and accept."
        )
    if any(invite.mail is InviteMail.OFF for invite in invites):
        return "This deployment sends no mail. Tell them to sign in with these addresses and accept."
    return "Each of them was written to."
