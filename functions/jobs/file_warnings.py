"""What the readers of a job's files doubted: for its owner to see, and when it is too much to train on."""

from collections.abc import Sequence
from dataclasses import dataclass

from shared.errors import JobFailedError
from shared.files.notes import ReadNotes
from shared.models.job import MAX_WARNING_CHARACTERS
from shared.models.reading import WarningCode

# A training on a file with a larger share of rows that were left out or repaired fails.
MAX_AFFECTED_SHARE = 0.01
WARNINGS_OF_FILE = 20
_ABOUT_ROWS = {WarningCode.ROW_LEFT_OUT, WarningCode.ROW_REPAIRED, WarningCode.LINES_SKIPPED}


@dataclass(frozen=True)
class FileNotes:
    """What a reader noted about a file, and how many rows it read."""

    label: str
    rows: int
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


def require_whole(files: Sequence[FileNotes]) -> None:
    """Raises JobFailedError if more than 1 % of a file's rows were left out or repaired."""
    for file in files:
        affected = file.notes.affected_rows
        if affected > MAX_AFFECTED_SHARE * max(file.rows, affected):
            warnings = file.notes.warnings
            first = next((each for each in warnings if each.code in _ABOUT_ROWS), warnings[0] if warnings else None)
            reason = f" The first warning: {first.message.rstrip('.')}." if first else ""
            raise JobFailedError(
                f"Of the file '{file.label}', {affected:,} rows were left out or repaired, and {file.rows:,} could be "
                f"read.{reason} Correct the file, or state in its read options how it is written, and train again."
            )
