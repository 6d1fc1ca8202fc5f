"""Claims of a text, and the facts that support them."""

from enum import StrEnum

from shared.models.base import Model


class Support(StrEnum):
    SUPPORTED = "supported"
    UNSUPPORTED = "unsupported"


class Claim(Model):
    """A sentence. ``fields`` are the paths of the facts that support it; ``missing`` lists what no fact supports."""

    text: str
    support: Support
    fields: list[str]
    missing: list[str]
