"""Drafts of personas that a language model writes. Nothing is saved."""

from typing import Annotated, Any

from pydantic import Field, StringConstraints

from shared.models.base import Model, NotBlank
from shared.models.chat import Message

PROMPT_CHARACTERS = 20_000
HISTORY_LIMIT = 100

Prompt = Annotated[NotBlank, StringConstraints(max_length=PROMPT_CHARACTERS)]


class PersonaCompletionCreate(Model):
    current_persona: dict[str, Any] = Field(default_factory=dict, description="the draft so far; empty for a new one")
    history: list[Message] = Field(default_factory=list, max_length=HISTORY_LIMIT, description="the earlier messages")
    # The contract documents it as optional. A missing prompt is refused as an empty one is.
    prompt: Prompt = Field(default="", validate_default=True)


class PersonaCompletion(Model):
    """The new draft. ``changed`` names its changed fields, ``refused`` the fields that no persona can have."""

    persona: dict[str, Any]
    changed: list[str]
    refused: list[str]
    message: str
    model: str
    usage: dict[str, int]
