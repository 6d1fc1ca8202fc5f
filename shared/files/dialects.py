"""Finds out how a file of delimited text is written: its delimiter, its quotes, its header and what comes before it."""

import io
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shared.files.cells import is_known, is_text
from shared.files.errors import UnreadableFileError
from shared.files.headers import MOST, TITLE_LINES, Layout, Record, find_layout
from shared.files.limits import DEFAULT_LIMITS, ReadLimits
from shared.files.notes import ReadNotes
from shared.files.records import Lines, Marks
from shared.files.text import DELIMITERS
from shared.models.reading import FileDialect, ReadOptions, WarningCode

SAMPLE_RECORDS = 300
# Wide files are known by fewer records.
SAMPLE_CELLS = 60_000
LEAST_RECORDS = 20
SAMPLE_CHARACTERS = 1 << 16
# Only tried where the header has them, too.
RARE_DELIMITERS = (" ", ":", "^", "~", "\x1f", "\x01")
# Of a file with one column.
NO_DELIMITER = "\x1f"
# Blanks and colons are in texts, too: another delimiter that fits nearly as well is likelier.
RARE_WEIGHT = 0.75
# Share of the first records that must have one width.
LEAST_CERTAINTY = 0.5
# Logs of web servers name their columns so.
_FIELDS_LINE = re.compile("^#Fields: ")
# Characters that words have, too.
_OF_WORDS = frozenset(" .,'\"-_/@&()+")
_GAPS = re.compile("  +")
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?', re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Dialect(Layout):
    """How one file is written."""

    marks: Marks
    certainty: float
    # The header's line as it is in the file; a line that repeats it is no row.
    header_text: str | None = None
    rule_text: str | None = None

    @property
    def description(self) -> FileDialect:
        """Returns it for the owner of the file."""
        return FileDialect(
            delimiter=self.marks.delimiter,
            quote=self.marks.quote,
            escape=self.marks.escape,
            header_line=self.header_line,
            certainty=round(self.certainty, 3),
        )


@dataclass(frozen=True)
class _DialectCandidate:
    marks: Marks
    records: list[Record]
    width: int
    certainty: float
    score: float = 0.0


def detect_dialect(
    path: Path, name: str, notes: ReadNotes, options: ReadOptions, limits: ReadLimits = DEFAULT_LIMITS
) -> Dialect:
    """Reads the dialect from the file's beginning, and notes what is doubtful.

    Raises UnreadableFileError when there is no record, or lines or columns are beyond the limits.
    """
    lines, first_line = _sample_lines(path, options, limits)
    stated = options
    if lines and (separator := _SEPARATOR_LINE.fullmatch(lines[0].strip())):
        lines, first_line = lines[1:], first_line + 1
        stated = options if options.delimiter else options.model_copy(update={"delimiter": separator[1]})
    named = [_FIELDS_LINE.sub("#", line) for line in lines[:TITLE_LINES]]
    best = _best([*named, *lines[TITLE_LINES:]], first_line, name, stated, limits)
    if not best.records:
        raise UnreadableFileError("The file has no rows; upload a file with a header and rows.")
    limits.check_columns(best.width)
    layout = find_layout(best.records, best.width, first_line, notes, options, limits)
    _note_doubts(best, notes)
    header_text, rule_text = (
        lines[line - first_line] if line is not None and best.width > 1 else None
        for line in (layout.header_line, layout.rule_line)
    )
    return Dialect(
        **vars(layout), marks=best.marks, certainty=best.certainty, header_text=header_text, rule_text=rule_text
    )


def _sample_lines(path: Path, options: ReadOptions, limits: ReadLimits) -> tuple[list[str], int]:
    """Returns the first lines and the number of the first. A line that the sample cuts is left out."""
    with path.open("rb") as file:
        sample = file.read(limits.sample_bytes + 1)
    is_whole = len(sample) <= limits.sample_bytes
    text = sample.decode("utf-8", "replace")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if not is_whole:
        if len(lines) == 1:
            raise UnreadableFileError(
                f"The first line is longer than {limits.sample_bytes >> 20} MiB; is the file really CSV?"
            )
        lines.pop()
    skipped = options.skip_lines or 0
    return lines[skipped:], skipped + 1


def _best(lines: list[str], first_line: int, name: str, options: ReadOptions, limits: ReadLimits) -> _DialectCandidate:
    """Returns the marks under which the first records are most alike and their cells make most sense.

    The score is van den Burg, Nazabal and Sutton's (2019, https://doi.org/10.1007/s10618-019-00646-y): the consistency
    of the records' widths times the share of cells of a known type.
    """
    shown = [line for line in lines[: 4 * SAMPLE_RECORDS] if line.strip()][:SAMPLE_RECORDS]
    text = "\n".join(shown)[:SAMPLE_CHARACTERS]
    if options.delimiter is not None:
        delimiters: tuple[str, ...] = (options.delimiter,)
    else:
        header = next((line for line in shown if not line.startswith("#")), "")
        rare = tuple(mark for mark in RARE_DELIMITERS if mark in header.strip())
        delimiters = tuple(mark for mark in DELIMITERS if mark in text) + rare
        if name.lower().removesuffix(".gz").endswith((".tsv", ".tab")):
            delimiters = ("\t", *(mark for mark in delimiters if mark != "\t"))
    candidates = [
        _candidate(lines, first_line, marks, limits)
        for delimiter in delimiters
        for marks in _marks(delimiter, text, options)
    ]
    one_column = NO_DELIMITER if any(map(_is_prose, candidates)) else ","
    single = _candidate(lines, first_line, next(_marks(options.delimiter or one_column, text, options)), limits)
    several = [each for each in candidates if _is_table(each, is_stated=options.delimiter is not None)]
    if not several:
        return single
    # An escape is only tried where a quote follows it.
    return max(
        several,
        key=lambda each: (round(each.score, 6), -delimiters.index(each.marks.delimiter), each.marks.escape is not None),
    )


def _is_table(candidate: _DialectCandidate, *, is_stated: bool) -> bool:
    """Returns whether the marks split the records into several columns, and not the words of a single one."""
    if is_stated:
        return True
    records, width = candidate.records, candidate.width
    if width < 2 or candidate.certainty < LEAST_CERTAINTY:
        return False
    first, *rest = _without_comments(records)
    if candidate.marks.delimiter in RARE_DELIMITERS:
        has_width = sum(len(record.fields) == width for record in rest)
        return len(first.fields) in (width, width - 1) and has_width >= MOST * len(rest)
    return not _is_prose(candidate)


def _is_prose(candidate: _DialectCandidate) -> bool:
    """Returns whether it splits a column of text with a comma in each line: the header has none, and all are words."""
    if candidate.width != 2:
        return False
    first, *rest = _without_comments(candidate.records)
    return len(first.fields) == 1 and all(is_text(cell) for row in rest for cell in row.fields)


def _without_comments(records: list[Record]) -> list[Record]:
    return [record for record in records if not record.is_comment] or records


def _marks(delimiter: str, text: str, options: ReadOptions) -> Iterator[Marks]:
    quotes: list[str | None]
    if options.quote is not None:
        quotes = [options.quote or None]
    else:
        quotes = ['"']
        edge = re.escape(delimiter)
        if re.search(rf"(?:^|{edge} ?)'(?:[^'\n]|'')*'(?= ?{edge}|$)", text, re.MULTILINE):
            quotes.append("'")
    for quote in quotes:
        escapes: list[str | None] = [options.escape]
        if options.escape is None and quote is not None and f"\\{quote}" in text:
            escapes.append("\\")
        for escape in escapes:
            pieces = text.count(delimiter)
            skips = delimiter not in " \t" and pieces > 0 and text.count(f"{delimiter} ") >= MOST * pieces
            yield Marks(delimiter, quote, escape, skips_spaces=skips)
            if delimiter == " " and "  " in text:
                yield Marks(delimiter, quote, escape, skips_spaces=True)


def _candidate(lines: list[str], first_line: int, marks: Marks, limits: ReadLimits) -> _DialectCandidate:
    reader = Lines(io.BytesIO("\n".join(lines[: 4 * SAMPLE_RECORDS]).encode()), first_line - 1)
    records: list[Record] = []
    flawed = width = 0
    for number, found in reader.records(marks, limits.line_bytes):
        if not any(cell.strip() for cell in found.fields) and len(found.fields) < 2:
            continue
        flawed += found.flaw is not None or not (found.is_plain or marks.escape or marks.skips_spaces)
        records.append(Record(number, found.fields, is_whole=found.flaw is None))
        width = max(width, len(found.fields))
        if len(records) > max(LEAST_RECORDS, min(SAMPLE_RECORDS, SAMPLE_CELLS // width)):
            break
    data = [record for record in records if record.filled and not record.fields[0].startswith("#")] or records
    if not data:
        return _DialectCandidate(marks, [], 0, 0.0)
    # A line that cannot be split speaks against the marks, but for no width.
    widths = Counter(len(record.fields) for record in data if record.is_whole) or Counter([1])
    # Of two equally frequent widths the greater, because a title is narrower than a table. One line is no table.
    width = max(widths, key=lambda each: (widths[each], each if widths[each] > 1 else -each))
    certainty = widths[width] / len(data)
    pattern = sum(count * max(1e-3, each - 1) / max(each, 1) for each, count in widths.items()) / len(widths)
    cells = [cell for record in data for cell in record.fields]
    known = sum(1 for cell in cells if is_known(cell)) / max(len(cells), 1)
    weight = RARE_WEIGHT if marks.delimiter in RARE_DELIMITERS else 1
    score = weight * certainty * pattern / len(data) * max(known, 1e-10) * (1 - flawed / len(data) / 2)
    return _DialectCandidate(marks, records, width, certainty, score)


def _note_doubts(best: _DialectCandidate, notes: ReadNotes) -> None:
    if best.width != 1:
        if best.marks.joins_blanks:
            message = "Columns are aligned by blanks, so one or more of them were read as a delimiter."
            notes.warn(WarningCode.DIALECT, message)
        return
    lines = [record.fields[0] for record in best.records]
    marks = {mark for line in lines for mark in DELIMITERS if mark in line}
    counts = [Counter(mark for mark in line if not mark.isalnum() and mark not in _OF_WORDS) for line in lines]
    marks |= {mark for mark, count in counts[0].items() if all(each[mark] == count for each in counts)}
    found = " and ".join(map(repr, sorted(marks)))
    aligned = sum(1 for line in lines if _GAPS.search(line.strip()))
    if not found and aligned > 1 and aligned >= MOST * len(lines):
        found = "several blanks in a row, like columns of fixed width"
    if found:
        notes.warn(
            WarningCode.DIALECT,
            f"The file was read as one column, although lines have {found}. State the delimiter if the file has more "
            "columns, or write it with a delimiter of one character.",
        )
