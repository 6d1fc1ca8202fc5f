"""Invites: at most one for each address in a space, found again by the address under ``invite_email#<address>``."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta

from boto3.dynamodb.conditions import Attr

from shared.clock import Clock, new_id, utc_now
from shared.dynamodb.repository import ConditionNotMetError, Repository
from shared.dynamodb.table import (
    ConditionFailedError,
    Key,
    Table,
    TransactionFailedError,
    Write,
    check,
    put,
    repeat_on_conflict,
    update,
)
from shared.errors import ConflictError, NotFoundError, UnavailableError
from shared.models.base import Deleted, Page
from shared.models.invite import Invite, InviteMail, InviteState
from shared.models.space import UserPermission
from shared.spaces.members import Members, unknown_space

LIFETIME = timedelta(days=7)
# How many invites to one address are read, the newest first.
SPACES_LIMIT = 1000


class InviteChangedError(UnavailableError):
    """Error raised when another request has changed an invite since it was read."""


class Invites:
    def __init__(self, table: Table, clock: Clock = utc_now) -> None:
        self._table = table
        self._clock = clock
        self._members = Members(table, clock)
        self._invites = Repository(table, Invite, kind="invite", clock=clock)

    def invite(self, space_id: str, emails: Sequence[str], roles: list[UserPermission], user_id: str) -> list[Invite]:
        """Invites these addresses, all or none; an invite that there is already gets these roles and a new week.

        Raises NotFoundError when the space is deleted.
        """

        def step() -> list[Invite]:
            known = self._known(space_id, emails)
            now = self._clock()
            fresh = {
                "invited_by": user_id,
                "mail": InviteMail.NOT_SENT,
                "mail_error": None,
                "roles": roles,
                "state": InviteState.PENDING,
                "updated_at": now,
                "valid_until": now + LIFETIME,
            }
            invites: list[Invite] = []
            actions: list[Write] = [self._members.is_in_use(space_id, unknown_space())]
            for email in emails:
                current = known.get(email)
                if current is None:
                    invite = Invite.model_validate({**fresh, "id": new_id(), "created_at": now, "email": email})
                    pointer = put(_email_key(email, space_id), {"invite_id": invite.id}, Attr("PK").not_exists())
                    actions += [self._invites.put_write(space_id, invite), pointer]
                else:
                    invite = current.model_copy(update={**fresh, "version": current.version + 1})
                    actions.append(
                        self._invites.update_write(space_id, invite.id, fresh, expected_version=current.version)
                    )
                invites.append(invite)
            actions += self._invites.count_writes(space_id, invites[0].id, len(emails) - len(known))
            self._table.transact(actions)
            return invites

        return repeat_on_conflict(step, "The invites are being changed by others just now.", (TransactionFailedError,))

    def record_mail(self, space_id: str, invite: Invite, mail: InviteMail, mail_error: str | None) -> Invite:
        """Records the outcome of the mail, unless the invite has changed since."""
        outcome = {"mail": mail, "mail_error": mail_error}
        unchanged = Attr("version").eq(invite.version)
        try:
            self._table.write(update(self._invites.key(space_id, invite.id), outcome, condition=unchanged))
        except ConditionFailedError:
            return invite
        return invite.model_copy(update=outcome)

    def list_after(self, space_id: str, after: str, limit: int) -> Page[Invite]:
        page = self._invites.list_after(space_id, after, limit)
        return page.model_copy(update={"data": [self._as_of_now(invite) for invite in page.data]})

    def revoke(self, space_id: str, invite_id: str) -> Deleted:
        """Raises NotFoundError, also for one that is revoked already, and ConflictError for an accepted one."""
        open_ = Attr("state").eq(InviteState.PENDING.value)
        try:
            self._invites.update(space_id, invite_id, {"state": InviteState.REVOKED}, condition=open_)
        except ConditionNotMetError as failed:
            if isinstance(failed.current, Invite) and failed.current.state is InviteState.ACCEPTED:
                raise ConflictError("The invite was accepted. Remove the member from the space instead.") from None
            raise self._invites.not_found() from None
        return Deleted(id=invite_id)

    def withdrawal_writes(self, space_id: str, emails: Iterable[str]) -> list[Write]:
        """Returns the writes that revoke the open invites to these addresses.

        They fail with InviteChangedError if an invite was made or changed during that time.
        """
        emails = list(emails)
        known, changed = self._known(space_id, emails), InviteChangedError("An invite was changed just now. Try again.")
        absent = Attr("PK").not_exists()
        writes = [check(_email_key(email, space_id), absent, changed) for email in emails if email not in known]
        for invite in known.values():
            unchanged = Attr("version").eq(invite.version)
            if invite.state is InviteState.PENDING:
                revoked = {"state": InviteState.REVOKED}
                write = self._invites.update_write(space_id, invite.id, revoked, condition=unchanged)
                writes.append(replace(write, error=changed))
            else:
                writes.append(check(self._invites.key(space_id, invite.id), unchanged, changed))
        return writes

    def of(self, email: str) -> list[tuple[str, Invite]]:
        """Returns the invites to an address with their spaces, in spaces that are in use; the newest spaces first."""
        pointers = list(self._table.query(f"invite_email#{email}", limit=SPACES_LIMIT))
        spaces = {space.id for space in self._members.get_spaces(each["SK"] for each in pointers)}
        keys = {
            self._invites.key(each["SK"], each["invite_id"]): each["SK"] for each in pointers if each["SK"] in spaces
        }
        found = self._table.get_many(list(keys))
        return [(keys[key], self._as_of_now(self._invites.load(found[key]))) for key in keys if key in found]

    def accept(self, space_id: str, invite: Invite, user_id: str) -> bool:
        """Makes the user a member with the invite's roles, once. Returns whether this call did.

        A member gets the roles in addition to what they may do.
        """

        def step() -> bool:
            used = self._invites.update_write(
                space_id,
                invite.id,
                {"state": InviteState.ACCEPTED},
                expected_version=invite.version,
                condition=Attr("state").eq(InviteState.PENDING.value),
            )
            joins = self._members.join_writes(user_id, invite.email, space_id, invite.roles)
            try:
                self._table.transact([used, self._members.is_in_use(space_id, unknown_space()), *joins])
            except NotFoundError:
                return False
            except TransactionFailedError as failed:
                if failed.index == 0:
                    return False
                raise
            return True

        return repeat_on_conflict(step, "The invites are being changed by others just now.", (TransactionFailedError,))

    def _known(self, space_id: str, emails: Sequence[str]) -> dict[str, Invite]:
        pointers = self._table.get_many([_email_key(email, space_id) for email in emails])
        ids = {key.pk.partition("#")[2]: item["invite_id"] for key, item in pointers.items()}
        found = self._invites.get_many(space_id, ids.values())
        return {email: found[invite_id] for email, invite_id in ids.items() if invite_id in found}

    def _as_of_now(self, invite: Invite) -> Invite:
        if invite.state is InviteState.PENDING and invite.valid_until <= self._clock():
            return invite.model_copy(update={"state": InviteState.EXPIRED})
        return invite


def _email_key(email: str, space_id: str) -> Key:
    return Key(f"invite_email#{email}", space_id)
