"""Invites of e-mail addresses to a space, with permissions. They are valid for a week."""

from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from shared.models.base import Entity, Model, Timestamp
from shared.models.space import UserPermission
from shared.text.comparison import comparable_address

# An invite and its index entry for each address, and the counter, are written in one transaction of 100 writes.
EMAILS_LIMIT = 40

Email = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=254),
    AfterValidator(comparable_address),
    Field(json_schema_extra={"format": "email"}),
]


class InviteState(StrEnum):
    PENDING = "pending"
    ACCEPTED = "accepted"
    EXPIRED = "expired"
    REVOKED = "revoked"


class InviteMail(StrEnum):
    """Whether the mail was sent. ``off`` means that the deployment sends no mail."""

    NOT_SENT = "not_sent"
    SENT = "sent"
    FAILED = "failed"
    OFF = "off"


class InviteRequest(Model):
    emails: list[Email] = Field(min_length=1, max_length=EMAILS_LIMIT)
    roles: list[UserPermission] = Field(max_length=100, description="permissions of the invited users")


class Invite(Entity):
    email: str
    invited_by: str
    mail: InviteMail = InviteMail.NOT_SENT
    mail_error: str | None = Field(
        default=None, description="why the mail could not be sent; invite again to resend it"
    )
    roles: list[UserPermission]
    state: InviteState = InviteState.PENDING
    valid_until: Timestamp


class Invited(Model):
    """The stored addresses and their invites. An invite is valid at sign-in even if the mail could not be sent."""

    emails: list[str]
    invites: list[Invite]
    message: str


class AcceptedInvites(Model):
    error: str = ""
    spaces: list[str] = Field(default_factory=list, description="the spaces that you now belong to")
