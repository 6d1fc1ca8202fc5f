"""What the owner of a file states about the types of its columns, as readings of their text."""

import re
from collections.abc import Iterable, Mapping

from shared.files.column_types import (
    ALL_READINGS,
    BOOLEAN,
    DATES,
    FLOAT,
    INTEGER,
    NUMBER_FORMATS,
    STRING,
    TRUTH_NUMBERS,
    WRITTEN_NUMBERS,
    Choice,
    ColumnFacts,
    ColumnType,
    TypeReading,
    choose,
)
from shared.files.formats import FileFormat
from shared.files.notes import ReadNotes
from shared.models.reading import ReadOptions, WarningCode

Readings = tuple[TypeReading, ...]
SHOWN_NAMES = 5
_TIME = re.compile("%[HIT]")


class StatedTypes:
    """The types, formats and marks in a file's read options."""

    def __init__(self, options: ReadOptions) -> None:
        self._options = options
        self._types = {name: ColumnType(kind) for name, kind in (options.types or {}).items()}
        self._formats = options.date_formats or {}
        self._format = options.date_format
        # None: not stated.
        self.decimal = options.decimal or {",": ".", ".": ","}.get(options.thousands or "")

    @property
    def names(self) -> set[str]:
        """Returns the names of the columns about which something is stated."""
        return {*self._types, *self._formats}

    def of(self, name: str) -> ColumnType | None:
        """Returns the stated type of a column."""
        if name in self._types:
            return self._types[name]
        return _dated(self._formats[name]).type if name in self._formats else None

    def readings(self, name: str) -> Readings | None:
        """Returns the ways to read a column of a stated type; ``None`` if nothing is stated about it."""
        kind = self.of(name)
        match kind:
            case None:
                return None
            case ColumnType.STRING:
                return (STRING,)
            case ColumnType.BOOLEAN:
                return (BOOLEAN, TRUTH_NUMBERS)
            case ColumnType.DATE | ColumnType.DATETIME:
                form = self._formats.get(name)
                dates = DATES if form is None else (_dated(form),)
                return tuple(TypeReading(kind, date.format) for date in (*self._general, *dates))
        written = [reading for reading in WRITTEN_NUMBERS if self._has_decimal(reading)]
        if kind is ColumnType.FLOAT:
            return (FLOAT, *written)
        return (INTEGER, *(TypeReading(kind, reading.format) for reading in written))

    def possible(self, names: Iterable[str], guessed: Mapping[str, Readings]) -> dict[str, Readings]:
        """Returns the readings to try: those of the stated type, or the guessed ones."""
        return {name: self.readings(name) or (*self._general, *guessed[name]) for name in names}

    def choose(self, name: str, facts: ColumnFacts, decimal: str | None = None) -> Choice:
        """Returns the reading of a column. Of a stated type it is the one that most values satisfy."""
        decimal = self.decimal or decimal
        found = choose(facts, decimal, self._formats.get(name, self._format))
        readings = self.readings(name)
        if readings is None or found.reading in readings:
            return Choice(found.reading) if readings else found
        if found.open and found.open[0] in readings:
            return Choice(found.open[0])
        return Choice((facts.readings or ((facts.closest,) if facts.closest else readings))[0])

    def unused_by(self, format: FileFormat) -> list[str]:
        """Returns the options about values that have no effect, because the format states its types itself."""
        if format is FileFormat.CSV:
            return []
        kinds = {self.of(name) for name in self.names}
        unused = [] if kinds & {ColumnType.INTEGER, ColumnType.FLOAT} else ["decimal", "thousands"]
        if format is FileFormat.PARQUET and not kinds & {ColumnType.DATE, ColumnType.DATETIME}:
            unused.append("date_format")
        return [name for name in unused if getattr(self._options, name) is not None]

    def note_unknown(self, names: Iterable[str], notes: ReadNotes) -> None:
        """Notes columns that the file does not have."""
        if unknown := sorted(self.names - set(names)):
            shown = ", ".join(f"'{name}'" for name in unknown[:SHOWN_NAMES])
            more = f" and {len(unknown) - SHOWN_NAMES:,} more" if len(unknown) > SHOWN_NAMES else ""
            message = f"The read options name columns that the file does not have: {shown}{more}."
            notes.warn(WarningCode.COLUMN_NAME, message)

    @property
    def _general(self) -> Readings:
        """Returns the reading of the format that is stated for all dates, unless it is a usual one."""
        found = _dated(self._format) if self._format else None
        return (found,) if found and found not in ALL_READINGS else ()

    def _has_decimal(self, reading: TypeReading) -> bool:
        return self.decimal is None or NUMBER_FORMATS[reading.format or ""].decimal == self.decimal


def _dated(form: str) -> TypeReading:
    # Python writes fractions of a second as .%f.
    form = form.replace(".%f", "%.f")
    return TypeReading(ColumnType.DATETIME if _TIME.search(form) else ColumnType.DATE, form)
