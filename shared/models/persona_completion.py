"""Drafting a persona in words: what is asked, and the draft that comes back; nothing is saved."""

from typing import Annotated, Any

from pydantic import Field, StringConstraints

from shared.models.base import Model, NotBlank
from shared.models.chat import Message

PROMPT_CHARACTERS = 20_000
HISTORY_LIMIT = 100

Prompt = Annotated[NotBlank, StringConstraints(max_length=PROMPT_CHARACTERS)]


class PersonaCompletionCreate(Model):
    current_persona: dict[str, Any] = Field(default_factory=dict, description="the draft so far; empty for a new one")
    history: list[Message] = Field(default_factory=list, max_length=HISTORY_LIMIT, description="what was said before")
    # Documented as optional, and useless without: a missing one is refused as an empty one is.
    prompt: Prompt = Field(default="", validate_default=True)


class PersonaCompletion(Model):
    """``persona`` is the draft with the fields named in ``changed``; those that no persona can have are ``refused``."""

    persona: dict[str, Any]
    changed: list[str]
    refused: list[str]
    message: str
    model: str
    usage: dict[str, int]
