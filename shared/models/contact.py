"""Contacts: what a customer was sent, on which channel and when, and what became of it."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from shared.models.action import Channel
from shared.models.base import Identifier, Model, NotBlank, Timestamp
from shared.models.client_key import CLIENT_KEY_CHARACTERS

GivenClientKey = Annotated[NotBlank, StringConstraints(max_length=CLIENT_KEY_CHARACTERS)]


class ContactStatus(StrEnum):
    """State of a contact. ``reserved`` counts until it expires, ``sent`` and ``seen`` always, ``failed`` never."""

    RESERVED = "reserved"
    SENT = "sent"
    SEEN = "seen"
    FAILED = "failed"


class ContactCreate(Model):
    action_id: Identifier | None = Field(default=None, description="the action that was offered, if it was one")
    channel: Channel | None = Field(default=None, description="the action's channel when left out")
    client_key: GivenClientKey | None = Field(
        default=None, description="the customer, in any spelling of the policy's `client_key`"
    )
    contact_id: Identifier | None = Field(
        default=None,
        description="your id of the message, so that `sent`, `seen` and `failed` are about one contact; the "
        "insight's id when left out with `insight_id`, else made of the action, the channel and the time",
    )
    insight_id: Identifier | None = Field(
        default=None, description="the insight whose offer this is, instead of `client_key`"
    )
    occurred_at: Timestamp | None = Field(default=None, description="when it happened; now when left out")
    status: ContactStatus

    @model_validator(mode="after")
    def _one_customer(self) -> "ContactCreate":
        if (self.client_key is None) == (self.insight_id is None):
            raise ValueError("names no customer or two: send client_key or insight_id")
        return self


class Contact(Model):
    """A contact after all that was reported about it, in the order of ``occurred_at``."""

    contact_id: str
    action_id: str | None = None
    channel: str | None = None
    group: str | None = Field(default=None, description="the group of the action when the contact was first reported")
    hold: str | None = Field(default=None, exclude=True, repr=False)
    occurred_at: Timestamp = Field(
        description="when the message was sent, or else reserved or seen: limits count by it"
    )
    reserved_until: Timestamp | None = Field(default=None, description="the end of a reservation")
    status: ContactStatus

    def counts(self, now: datetime) -> bool:
        """Returns whether limits count the contact."""
        if self.status is ContactStatus.RESERVED:
            return self.reserved_until is not None and now < self.reserved_until
        return self.status is not ContactStatus.FAILED
