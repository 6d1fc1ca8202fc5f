"""Personas: example customers that arguments are tried on."""

import re
from datetime import date
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, Field, StringConstraints, WithJsonSchema

from shared.models.base import KEEP, Entity, Model, NotBlank, PartialUpdate
from shared.models.free_objects import check_object

SAME_PERSON_LIMIT = 100
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f]")


def check_birthdate(text: str) -> str:
    """Returns the date. Raises ValueError if the calendar does not have it; the service checks that it is past."""
    try:
        return date.fromisoformat(text if _DATE.fullmatch(text) else "").isoformat()
    except ValueError:
        raise ValueError("must be a date such as 1990-12-31") from None


def check_person_name(name: str) -> str:
    if _CONTROL_CHARACTER.search(name):
        raise ValueError("holds a control character")
    return name


Birthdate = Annotated[
    str,
    StringConstraints(strip_whitespace=True),
    AfterValidator(check_birthdate),
    WithJsonSchema({"type": "string", "format": "date"}),
]
PersonName = Annotated[
    NotBlank,
    StringConstraints(max_length=200),
    AfterValidator(check_person_name),
]
Notes = Annotated[str, StringConstraints(max_length=10_000)]
PersonaData = Annotated[dict[str, Any], AfterValidator(check_object)]


class PersonaCreate(Model):
    birthdate: Birthdate
    data: PersonaData | None = Field(default=None, description="any other data, up to 100 KB")
    name: PersonName
    notes: Notes


class PersonaUpdate(PartialUpdate):
    birthdate: Birthdate = KEEP
    data: PersonaData | None = None
    name: PersonName = KEEP
    notes: Notes = KEEP


class Persona(Entity):
    birthdate: str
    created_by: str
    data: dict[str, Any] | None = None
    name: str
    notes: str
    updated_by: str


class ConflictResolution(StrEnum):
    """What happens to an uploaded row of a person who is known already.

    ``overwrite`` changes the known persona and keeps its id, ``create`` adds another one, ``skip`` leaves the row out.
    """

    OVERWRITE = "overwrite"
    CREATE = "create"
    SKIP = "skip"
