"""Which types of columns models can read, and how errors list what does not fit."""

from collections.abc import Sequence

from shared.errors import Detail

LISTED = 10
REPORTED = 100
# The types of the catalog in which a model finds values of its kinds of features. Text may hold any of them.
TYPES = {
    "numeric": {"int", "float", "boolean", "string"},
    "boolean": {"int", "float", "boolean", "string"},
    "datetime": {"date", "datetime", "string"},
}


def listed(details: Sequence[Detail]) -> str:
    """Returns the first messages, and the number of the others."""
    more = f"; and {len(details) - LISTED} more" if len(details) > LISTED else ""
    return "; ".join(detail.message for detail in details[:LISTED]) + more
