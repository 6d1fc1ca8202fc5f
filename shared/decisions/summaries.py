"""Keeps the summary of a run with the run. Packed, because that of a thousand actions would not fit into an item."""

import zlib
from base64 import b64decode, b64encode

from shared.models.decision_run import DecisionSummary


def packed(summary: DecisionSummary) -> str:
    """Returns a summary as a short text."""
    return b64encode(zlib.compress(summary.model_dump_json().encode(), 9)).decode()


def unpacked(text: str) -> DecisionSummary:
    """Returns the summary of a text that ``packed`` has made."""
    return DecisionSummary.model_validate_json(zlib.decompress(b64decode(text)))
