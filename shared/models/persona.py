"""Personas: the customers that arguments are tried on, and the files they are uploaded from."""

import json
import math
import re
from datetime import date
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, Field, StringConstraints, WithJsonSchema

from shared.models.base import KEEP, Entity, Model, PartialUpdate

DATA_BYTES = 100_000
DATA_VALUES = 10_000
DATA_DEPTH = 20
DATA_DIGITS = 38
DATA_KEY_CHARACTERS = 500
SAME_PERSON_LIMIT = 100
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f]")


def check_birthdate(text: str) -> str:
    """The date as it was sent, if it is one of the calendar; whether it is in the past is for the service to say."""
    try:
        return date.fromisoformat(text if _DATE.fullmatch(text) else "").isoformat()
    except ValueError:
        raise ValueError("must be a date such as 1990-12-31") from None


def check_person_name(name: str) -> str:
    """A name of one line."""
    if _CONTROL_CHARACTER.search(name):
        raise ValueError("holds a control character")
    return name


def check_data(data: dict[str, Any]) -> dict[str, Any]:
    """A free object that can be stored: bounded in size and depth, its numbers finite, its keys named."""
    values = 0
    waiting: list[tuple[Any, int]] = [(data, 1)]
    while waiting:
        value, depth = waiting.pop()
        values += 1
        if values > DATA_VALUES:
            raise ValueError(f"holds more than {DATA_VALUES:,} values")
        if depth > DATA_DEPTH:
            raise ValueError(f"is nested more than {DATA_DEPTH} levels deep")
        if isinstance(value, dict):
            for key in value:
                _check_key(key)
            waiting += ((item, depth + 1) for item in value.values())
        elif isinstance(value, list):
            waiting += ((item, depth + 1) for item in value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            _check_number(value)
    try:
        size = len(json.dumps(data, ensure_ascii=False).encode())
    except UnicodeEncodeError:
        raise ValueError("is not valid Unicode") from None
    if size > DATA_BYTES:
        raise ValueError(f"holds more than {DATA_BYTES // 1000} KB of JSON")
    return data


def _check_key(key: str) -> None:
    if not key:
        raise ValueError("has an empty key: name it")
    if len(key) > DATA_KEY_CHARACTERS:
        raise ValueError(f"has a key of more than {DATA_KEY_CHARACTERS} characters")


def _check_number(value: float) -> None:
    """DynamoDB keeps 38 digits, from 1e-128 to 1e126."""
    if not math.isfinite(value):
        raise ValueError("holds a number that is not finite")
    if (isinstance(value, int) and abs(value) >= 10**DATA_DIGITS) or (value and not 1e-128 < abs(value) < 1e125):
        raise ValueError(f"holds a number beyond {DATA_DIGITS} digits, or 1e-128 to 1e125: send it as text")


Birthdate = Annotated[
    str,
    StringConstraints(strip_whitespace=True),
    AfterValidator(check_birthdate),
    WithJsonSchema({"type": "string", "format": "date"}),
]
PersonName = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=200),
    AfterValidator(check_person_name),
]
Notes = Annotated[str, StringConstraints(max_length=10_000)]
PersonaData = Annotated[dict[str, Any], AfterValidator(check_data)]


class PersonaCreate(Model):
    birthdate: Birthdate
    data: PersonaData | None = Field(default=None, description="anything else that is known, up to 100 KB")
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
    """What becomes of an uploaded row whose person is known already.

    ``overwrite`` changes the known persona and keeps its id, ``create`` adds another, ``skip`` leaves the row out.
    """

    OVERWRITE = "overwrite"
    CREATE = "create"
    SKIP = "skip"
