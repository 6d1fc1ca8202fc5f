"""Notes of a reader about one file: how the file is written, and every doubt and change."""

from dataclasses import dataclass, field

from shared.files.formats import PlainFile
from shared.models.reading import SHOWN_WARNINGS, FileDialect, ReadWarning, WarningCode


@dataclass
class ReadNotes:
    """What a reader found out about a file. It is complete once the file has been read."""

    encoding: str | None = None
    dialect: FileDialect | None = None
    # The first warnings; `warning_count` counts all.
    warnings: list[ReadWarning] = field(default_factory=list)
    warning_count: int = 0
    # Rows that were left out or repaired.
    affected_rows: int = 0
    left_out_rows: int = 0
    # Formats of dates and numbers under which all values of a column can be read. Several: the file leaves it open.
    formats: dict[str, list[str]] = field(default_factory=dict)
    # Columns with lists or objects, which are read as JSON text.
    nested: set[str] = field(default_factory=set)

    def warn(
        self, code: WarningCode, message: str, *, line: int | None = None, column: str | None = None, rows: int = 0
    ) -> None:
        """Records a warning, and how many rows it affects."""
        self.warning_count += 1
        self.affected_rows += rows
        self.left_out_rows += rows if code is WarningCode.ROW_LEFT_OUT else 0
        if len(self.warnings) < SHOWN_WARNINGS:
            self.warnings.append(ReadWarning(code=code, line=line, column=column, message=message))


def notes_of(plain: PlainFile) -> ReadNotes:
    """Returns the first notes about a text: its encoding, and the doubt about it."""
    notes = ReadNotes(encoding=plain.encoding)
    if plain.encoding_doubt:
        notes.warn(WarningCode.ENCODING, plain.encoding_doubt)
    return notes
