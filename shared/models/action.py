"""Actions: offers to clients, with their dates, channel and priority."""

import unicodedata
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from shared.models.base import (
    KEEP,
    Description,
    EndTimestamp,
    Entity,
    Identifier,
    Model,
    Name,
    NotBlank,
    PartialUpdate,
    Timestamp,
)
from shared.models.channel_template import ChannelTemplate

Channel = Annotated[NotBlank, StringConstraints(max_length=64)]
ActionType = Annotated[NotBlank, StringConstraints(max_length=64)]
ModelReference = Annotated[
    Identifier,
    Field(description="id or alias of a checkpoint that predicts the probability that a client accepts the offer"),
]

Conditions = Annotated[list[Annotated[NotBlank, StringConstraints(max_length=1000)]], Field(max_length=20)]
CONDITIONS = (
    "conditions in the Common Expression Language that a client must meet, such as "
    '`client.age >= 18 && client.country in ["DE", "AT"]`. They read `client`, the fields of the client, and `now`. '
    "A condition on a field that the client lacks does not hold"
)


ValueAmount = Annotated[Decimal, Field(ge=0, max_digits=15, decimal_places=4, description="a decimal number, as text")]
Currency = Annotated[str, StringConstraints(pattern="^[A-Z]{3}$"), Field(description="a code of ISO 4217, such as EUR")]


# Names of channels that people use for one another.
_SAME_CHANNELS = {
    "electronicmail": "email",
    "mobilepush": "push",
    "phonecall": "phone",
    "pushnotification": "push",
    "shortmessage": "sms",
    "telephone": "phone",
    "textmessage": "sms",
}


def channel_key(channel: str) -> str:
    """Returns a channel in the form in which channels are compared: ``E-Mail`` and ``email`` are one channel."""
    text = unicodedata.normalize("NFKC", channel).casefold()
    plain = "".join(letter for letter in text if letter.isalnum()) or text
    return _SAME_CHANNELS.get(plain, plain)


class ActionPriority(StrEnum):
    """Weight that the team gives to the offer, besides its model's probability."""

    VERY_LOW = "very_low"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    VERY_HIGH = "very_high"


class ActionStatus(StrEnum):
    """Only ``active`` actions are offered. Any status may follow any other."""

    ARCHIVED = "archived"
    DRAFT = "draft"
    ACTIVE = "active"
    INACTIVE = "inactive"


class ActionValue(Model):
    """What an accepted offer is worth."""

    amount: ValueAmount
    currency: Currency


def require_order(start: datetime | None, end: datetime | None) -> None:
    """Raises ValueError for an end before its start."""
    if start and end and end < start:
        raise ValueError("end_date lies before start_date")


class ActionCreate(Model):
    channel: Channel | None = Field(default=None, description="where the offer is made; else the insight chooses")
    channel_template: ChannelTemplate | None = None
    conditions: Conditions = Field(default_factory=list, description=CONDITIONS)
    custom_insights: Description | None = Field(default=None, description="facts that the argument may use")
    description: Description
    end_date: EndTimestamp | None = Field(default=None, description="inclusive; a bare date includes all of that day")
    group: Identifier | None = Field(default=None, description="id of an action group")
    model_id: ModelReference | None = None
    name: Name
    priority: ActionPriority
    start_date: Timestamp | None = None
    status: ActionStatus = ActionStatus.DRAFT
    type: ActionType
    value: ActionValue | None = Field(
        default=None, description="what an accepted offer is worth, in the currency of the space's policy"
    )

    @model_validator(mode="after")
    def _dates(self) -> "ActionCreate":
        require_order(self.start_date, self.end_date)
        return self


class ActionUpdate(PartialUpdate):
    channel: Channel | None = None
    channel_template: ChannelTemplate | None = None
    conditions: Conditions = KEEP
    custom_insights: Description | None = None
    description: Description = KEEP
    end_date: EndTimestamp | None = None
    group: str | None = Field(default=None, max_length=200, description="id of an action group; empty for none")
    model_id: ModelReference | None = None
    name: Name = KEEP
    priority: ActionPriority = KEEP
    start_date: Timestamp | None = None
    status: ActionStatus = KEEP
    type: ActionType = KEEP
    value: ActionValue | None = None

    @model_validator(mode="after")
    def _dates(self) -> "ActionUpdate":
        require_order(self.start_date, self.end_date)
        return self


class Action(Entity):
    """An action. ``group`` is empty if it has no group, or if its group was deleted."""

    channel: str | None = None
    channel_template: str | None = None
    conditions: list[str] = Field(default_factory=list)
    custom_insights: str | None = None
    description: str
    end_date: Timestamp | None = None
    group: str = ""
    model_id: str | None = None
    name: str
    priority: ActionPriority
    start_date: Timestamp | None = None
    status: ActionStatus
    type: str
    value: ActionValue | None = None
