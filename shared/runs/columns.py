"""Which columns of files models can read, and how errors list those that do not fit."""

from collections.abc import Collection, Iterator, Sequence

from shared.errors import Detail
from shared.runs.inputs import InputFile

LISTED = 10
REPORTED = 100
# The types of the catalog in which a model finds values of its kinds of features. Text may hold any of them.
TYPES = {
    "numeric": {"int", "float", "boolean", "string"},
    "boolean": {"int", "float", "boolean", "string"},
    "datetime": {"date", "datetime", "string"},
}


def missing_columns(files: Sequence[InputFile], names: Collection[str], reader: str = "") -> Iterator[Detail]:
    """Yields the columns that files lack. ``reader`` says of what they are."""
    for each in files:
        found = {column.name for column in each.entry.columns}
        for name in names:
            if name not in found:
                yield Detail("body.files", f"the file '{each.file.label}' lacks the column '{name}'{reader}")


def listed(details: Sequence[Detail]) -> str:
    """Returns the first messages, and the number of the others."""
    more = f"; and {len(details) - LISTED} more" if len(details) > LISTED else ""
    return "; ".join(detail.message for detail in details[:LISTED]) + more
