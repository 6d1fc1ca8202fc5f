"""Claims of a text, and the facts that support them."""

from enum import StrEnum

from pydantic import Field

from shared.models.base import Model


class Support(StrEnum):
    """``unchecked`` is a sentence in a language in which nothing can be compared with the facts."""

    SUPPORTED = "supported"
    UNCHECKED = "unchecked"
    UNSUPPORTED = "unsupported"


class Claim(Model):
    """A sentence. ``fields`` are the paths of the facts that support it; ``missing`` lists what no fact supports."""

    coverage: float | None = Field(
        default=None, description="the share of its figures, dates, names and words that a fact has, from 0 to 1"
    )
    text: str
    support: Support
    fields: list[str]
    missing: list[str]
