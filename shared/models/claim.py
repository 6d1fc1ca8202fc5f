"""What a text claims, and the facts that support it."""

from enum import StrEnum

from shared.models.base import Model


class Support(StrEnum):
    SUPPORTED = "supported"
    UNSUPPORTED = "unsupported"


class Claim(Model):
    """A sentence; ``fields`` are the paths of the facts that support it, ``missing`` is what no fact holds."""

    text: str
    support: Support
    fields: list[str]
    missing: list[str]
