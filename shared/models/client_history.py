"""The history of a customer, and its erasure."""

from enum import StrEnum

from pydantic import Field

from shared.models.base import Entity, Model, Timestamp
from shared.models.contact import ContactStatus
from shared.models.insight import Reaction

# Folders that the answer to an erasure names.
NAMED_OUTPUTS = 200


class ClientEventKind(StrEnum):
    CONTACT = "contact"
    REACTION = "reaction"
    INSIGHT = "insight"
    ARGUMENT = "argument"


class ClientEvent(Model):
    """A contact, a reaction, or an insight or argument that was made for the customer."""

    kind: ClientEventKind
    id: str = Field(description="of the contact, insight or argument; a reaction has the id of its contact")
    occurred_at: Timestamp
    action_id: str | None = None
    channel: str | None = None
    reaction: Reaction | None = None
    released_at: Timestamp | None = Field(
        default=None, description="when a reservation ended, because its run was cancelled, failed or was stopped"
    )
    reserved_until: Timestamp | None = None
    status: ContactStatus | None = None
    hold: str | None = Field(default=None, exclude=True, repr=False)


class ClientHistory(Model):
    """What is stored about a customer, newest first. Events of the same time are never on two pages."""

    client_key: str
    data: list[ClientEvent]
    has_more: bool = Field(description="for more, send the last `occurred_at` as `before`")


class RunFolder(Model):
    """The output of a run."""

    kind: str = Field(description="`prediction` or `decision_run`")
    run_id: str
    connector_id: str
    folder: str


class ClientErasure(Entity):
    """What was erased. It names nobody."""

    arguments: int = 0
    contacts: int = 0
    created_by: str
    exports: int = Field(default=0, description="exported files of reactions from which rows were removed")
    has_more_outputs: bool = Field(default=False, description="a repeated request names those that are left then")
    insights: int = 0
    logged_texts: int = 0
    outputs: list[RunFolder] = Field(
        default_factory=list,
        description="the newest folders with published files of runs. They may have a row about the customer and are "
        "left as they are: delete them, or write them again without the customer",
    )
    personas: int = 0
    reactions: int = 0
