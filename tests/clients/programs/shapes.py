"""What the programs have in common: the address, and an answer with objects in objects."""

import os
from enum import StrEnum

from pydantic import BaseModel, Field

URL = os.environ["API_URL"]
KEY = os.environ["API_KEY"]
CHAT, TEXT, VECTORS = "gpt-4o-mini", "gpt-3.5-turbo-instruct", "text-embedding-3-small"
HELLO = "Hello there."
QUESTION = "Who works where?"


class Kind(StrEnum):
    HOME = "home"
    WORK = "work"


class Address(BaseModel):
    city: str
    kind: Kind = Kind.WORK


class Person(BaseModel):
    name: str
    addresses: list[Address] = Field(min_length=1)


class Team(BaseModel):
    """A team of people."""

    lead: Person
    members: list[Person] = Field(min_length=1)


def check_team(team: Team) -> None:
    assert isinstance(team, Team), team
    assert team.lead.addresses[0].city
    assert team.members[0].addresses[0].kind in Kind
