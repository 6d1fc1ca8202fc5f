"""What the readers of a job's files doubted, for its owner to see."""

from collections.abc import Sequence
from dataclasses import dataclass

from shared.files.notes import ReadNotes
from shared.models.job import MAX_WARNING_CHARACTERS

WARNINGS_OF_FILE = 20


@dataclass(frozen=True)
class FileNotes:
    """What a reader noted about a file."""

    label: str
    notes: ReadNotes


def warnings_of(files: Sequence[FileNotes]) -> list[str]:
    """Returns the first warnings of each file, and the number of the others."""
    texts: list[str] = []
    for file in files:
        shown = file.notes.warnings[:WARNINGS_OF_FILE]
        texts.extend(f"{file.label}: {warning.message}"[:MAX_WARNING_CHARACTERS] for warning in shown)
        if more := file.notes.warning_count - len(shown):
            texts.append(f"{file.label}: {more:,} more warnings")
    return texts
