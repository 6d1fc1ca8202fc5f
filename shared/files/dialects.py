"""Finds out how a file of delimited text is written: its delimiter, its quotes, its header and what comes before it."""

import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from shared.files.column_names import clean_name
from shared.files.errors import UnreadableFileError
from shared.files.limits import DEFAULT_LIMITS, ReadLimits
from shared.files.notes import ReadNotes
from shared.files.records import Lines, Marks
from shared.files.text import DELIMITERS
from shared.models.missing_values import MISSING, MISSING_WORDS
from shared.models.reading import FileDialect, ReadOptions, WarningCode

SAMPLE_RECORDS = 300
# Wide files are known by fewer records.
SAMPLE_CELLS = 60_000
LEAST_RECORDS = 20
SAMPLE_CHARACTERS = 1 << 16
# Lines of titles and comments that may be above a table.
TITLE_LINES = 50
# Only tried where the header has them, too.
RARE_DELIMITERS = (" ", ":", "^", "~", "\x1f", "\x01")
# Blanks and colons are in texts, too: another delimiter that fits nearly as well is likelier.
RARE_WEIGHT = 0.75
# Row numbers have fewer digits.
ROW_NUMBER_DIGITS = 16
# Numbers in a column below words, from which on the words may be its unit.
LEAST_NUMBERS = 3
# Share of the first records that must have one width.
LEAST_CERTAINTY = 0.5
MOST = 0.9
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?', re.IGNORECASE)
_NUMBER = re.compile(
    r"[(]?[-+]?\s?(?:[A-Z]{3}|[$€£¥₹])?\s?[-+]?(?:[0-9][0-9.,'\u2019 \u00a0\u2009\u202f]*|[.,][0-9]+)"
    r"(?:[eE][-+]?[0-9]+)?\s?(?:%|[A-Z]{3}|[$€£¥₹])?-?[)]?"
)
_DATE = re.compile(r"[0-9]{1,4}[-/.][0-9A-Za-z]{1,3}[-/.][0-9]{1,4}(?:[T ][0-9:.,]+ ?(?:Z|[+-][0-9:]+|[AP]M)?)?")
_TRUTH = re.compile(r"true|false|yes|no|t|f|y|n", re.IGNORECASE)
_WORDS = re.compile(r"[^\W_][\w '\u2019.@/&()+#%:!?-]*")
_YEAR = re.compile(r"(?:19|20)[0-9]{2}")


@dataclass(frozen=True)
class Dialect:
    """How one file is written, and the unique names of its columns."""

    marks: Marks
    columns: tuple[str, ...]
    # Lines are counted from 1.
    header_line: int | None
    data_line: int
    certainty: float
    # Columns that only number the rows.
    row_numbers: tuple[str, ...] = ()
    # Unnamed columns, which trailing delimiters make. They are left out if they have no value.
    unnamed: tuple[str, ...] = ()
    # The header's line as it is in the file; a line that repeats it is no row.
    header_text: str | None = None

    @property
    def description(self) -> FileDialect:
        return FileDialect(
            delimiter=self.marks.delimiter,
            quote=self.marks.quote,
            escape=self.marks.escape,
            header_line=self.header_line,
            certainty=round(self.certainty, 3),
        )


@dataclass(frozen=True)
class _Record:
    line: int
    fields: list[str]
    is_whole: bool = True

    @property
    def filled(self) -> int:
        return sum(1 for cell in self.fields if cell.strip())


@dataclass(frozen=True)
class _DialectCandidate:
    marks: Marks
    records: list[_Record]
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
    best = _best(lines, first_line, name, stated, limits)
    if not best.records:
        raise UnreadableFileError("The file has no rows; upload a file with a header and rows.")
    limits.check_columns(best.width)
    return _with_header(best, lines, first_line, notes, options, limits)


def unique_names(names: Sequence[str], limits: ReadLimits = DEFAULT_LIMITS) -> tuple[str, ...]:
    """Returns printable, bounded and distinct column names in the same order."""
    taken: set[str] = set()
    unique = []
    reserved = Counter(names)
    # The first suffix of each name that may be free, so that many equal names take no time each.
    suffixes: dict[str, int] = {}
    for position, raw in enumerate(names, start=1):
        base = clean_name(raw)[: limits.column_name_characters] or f"column_{position}"
        name, suffix = base, suffixes.get(raw, 2) if base == raw else 2
        while name in taken or (name != raw and name in reserved):
            name, suffix = f"{base}_{suffix}", suffix + 1
        suffixes[base] = suffix
        taken.add(name)
        unique.append(name)
    return tuple(unique)


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
    single = _candidate(lines, first_line, next(_marks(options.delimiter or ",", text, options)), limits)
    several = [each for each in candidates if _is_table(each, is_stated=options.delimiter is not None)]
    if not several:
        return single
    return max(several, key=lambda each: (round(each.score, 6), -delimiters.index(each.marks.delimiter)))


def _is_table(candidate: _DialectCandidate, *, is_stated: bool) -> bool:
    """Returns whether the marks split the records into several columns, and not the words of a single one."""
    if is_stated:
        return True
    records, width = candidate.records, candidate.width
    if width < 2 or candidate.certainty < LEAST_CERTAINTY:
        return False
    first = records[0]
    if candidate.marks.delimiter in RARE_DELIMITERS:
        return len(first.fields) in (width, width - 1) and candidate.certainty >= MOST
    # A column of text with a comma in each line: its header has none, and nothing but words is split.
    is_prose = (
        width == 2 and len(first.fields) == 1 and all(_is_text(cell) for row in records[1:] for cell in row.fields)
    )
    return not is_prose


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


def _candidate(lines: list[str], first_line: int, marks: Marks, limits: ReadLimits) -> _DialectCandidate:
    reader = Lines(io.BytesIO("\n".join(lines[: 4 * SAMPLE_RECORDS]).encode()), first_line - 1)
    records: list[_Record] = []
    flawed = width = 0
    for number, found in reader.records(marks, limits.line_bytes):
        if not any(cell.strip() for cell in found.fields) and len(found.fields) < 2:
            continue
        flawed += found.flaw is not None or not (found.is_plain or marks.escape or marks.skips_spaces)
        records.append(_Record(number, found.fields, is_whole=found.flaw is None))
        width = max(width, len(found.fields))
        if len(records) > max(LEAST_RECORDS, min(SAMPLE_RECORDS, SAMPLE_CELLS // width)):
            break
    data = [record for record in records if not record.fields[:1] or not record.fields[0].startswith("#")] or records
    if not data:
        return _DialectCandidate(marks, [], 0, 0.0)
    # A line that cannot be split speaks against the marks, but for no width.
    widths = Counter(len(record.fields) for record in data if record.is_whole) or Counter([1])
    # Of two equally frequent widths the greater, because a title is narrower than a table. One line is no table.
    width = max(widths, key=lambda each: (widths[each], each if widths[each] > 1 else -each))
    certainty = widths[width] / len(data)
    pattern = sum(count * max(1e-3, each - 1) / max(each, 1) for each, count in widths.items()) / len(widths)
    cells = [cell for record in data for cell in record.fields]
    known = sum(1 for cell in cells if _is_known(cell)) / max(len(cells), 1)
    weight = RARE_WEIGHT if marks.delimiter in RARE_DELIMITERS else 1
    score = weight * certainty * pattern / len(data) * max(known, 1e-10) * (1 - flawed / len(data) / 2)
    return _DialectCandidate(marks, records, width, certainty, score)


def _is_known(cell: str) -> bool:
    text = cell.strip()
    return (
        _is_missing(text)
        or _NUMBER.fullmatch(text) is not None
        or _DATE.fullmatch(text) is not None
        or _WORDS.fullmatch(text) is not None
    )


def _is_missing(cell: str) -> bool:
    return (text := cell.strip()) in MISSING or text in MISSING_WORDS


def _is_text(cell: str) -> bool:
    return not _is_missing(cell) and _kind(cell) == "text"


def _kind(cell: str) -> str:
    text = cell.strip()
    if _NUMBER.fullmatch(text):
        return "number"
    if _DATE.fullmatch(text):
        return "date"
    return "truth" if _TRUTH.fullmatch(text) else "text"


def _with_header(
    best: _DialectCandidate,
    lines: list[str],
    first_line: int,
    notes: ReadNotes,
    options: ReadOptions,
    limits: ReadLimits,
) -> Dialect:
    records, width = best.records, best.width
    start = _first_of_table(records, width) if options.skip_lines is None and options.header is None else 0
    commented = _commented_header(records, start, width)
    start = start if commented is None else commented
    if start and records[start].line > first_line:
        notes.warn(
            WarningCode.LINES_SKIPPED,
            f"{_lines(first_line, records[start].line - 1)} left out, because the table begins below.",
            line=first_line,
        )
    first, rest = records[start], records[start + 1 :]
    has_header = options.header if options.header is not None else _has_header(first.fields, rest, width, notes, first)
    data = rest if has_header else records[start:]
    names, shifted = _names(first.fields if has_header else [""] * width, data, width)
    if commented is not None and has_header:
        names[0] = names[0].lstrip("# ")
    if has_header and len(rest) > 3 and options.header is None and _is_second_header(rest[0], rest[1:], width):
        notes.warn(
            WarningCode.LINES_SKIPPED,
            f"Line {rest[0].line} has words where the column has numbers, like a second header; it was left out.",
            line=rest[0].line,
        )
        data = rest[1:]
    columns = unique_names(names, limits)
    unnamed = tuple(column for column, name in zip(columns, names, strict=True) if has_header and not name.strip())
    header_line = first.line if has_header else None
    data_line = data[0].line if data else first.line + 1
    row_numbers = _row_numbers(columns, names, data, is_shifted=shifted) if has_header else ()
    _note_doubts(best, notes)
    return Dialect(
        marks=best.marks,
        columns=columns,
        header_line=header_line,
        data_line=data_line,
        certainty=best.certainty,
        row_numbers=row_numbers,
        unnamed=tuple(column for column in unnamed if column not in row_numbers),
        header_text=lines[first.line - first_line] if has_header and width > 1 else None,
    )


def _note_doubts(best: _DialectCandidate, notes: ReadNotes) -> None:
    if best.width == 1:
        marks = {mark for record in best.records for cell in record.fields for mark in DELIMITERS if mark in cell}
        if marks:
            notes.warn(
                WarningCode.DIALECT,
                f"The file was read as one column, although lines have {' and '.join(map(repr, sorted(marks)))}. "
                "State the delimiter if the file has more columns.",
            )


def _lines(first: int, last: int) -> str:
    return f"Line {first} was" if first == last else f"Lines {first} to {last} were"


def _first_of_table(records: list[_Record], width: int) -> int:
    """Returns the position of the first record that belongs to the table, after titles and comments."""
    for position, record in enumerate(records[:TITLE_LINES]):
        if record.fields[0].lstrip().startswith("#"):
            continue
        next_record = records[position + 1] if position + 1 < len(records) else None
        is_title = (
            width > 2 and record.filled < 2 and next_record is not None and next_record.filled > max(2, width // 2)
        )
        if len(record.fields) == width and not is_title:
            return position
        # The header of R's tables lacks a name for the rows' names; trailing delimiters may be on rows only.
        is_shorter = len(record.fields) == width - 1 == record.filled and width > 2
        if is_shorter and next_record is not None and len(next_record.fields) == width:
            return position
        # A header may have delimiters at its end that the rows lack.
        if len(record.fields) > width and record.filled == width and all(record.fields[:width]):
            return position
    return 0


def _commented_header(records: list[_Record], start: int, width: int) -> int | None:
    """Returns the position of a header that begins with ``#`` directly above the first row."""
    if start and len(records[start - 1].fields) == width > 1 and records[start - 1].fields[0].startswith("#"):
        names = records[start - 1].fields
        if all(_kind(cell) == "text" for cell in names) and any(
            _kind(cell) != "text" for cell in records[start].fields
        ):
            return start - 1
    return None


def _has_header(first: list[str], rest: list[_Record], width: int, notes: ReadNotes, record: _Record) -> bool:
    """Returns whether the first record names the columns. Each column votes."""
    if not rest:
        return not all(_kind(cell) == "number" for cell in first)
    if len(first) == width - 1:
        return True
    cells = [row.fields for row in rest if row.fields != first]
    votes = Counter(_vote(first, cells, position) for position in range(min(width, len(first))))
    if votes["data"] and _numbers_that_name(first, rest):
        if votes["data"] == len(first):
            notes.warn(
                WarningCode.HEADER,
                f"The numbers in line {record.line} were read as names. State `header: false` if they are a row.",
                line=record.line,
            )
        return True
    if votes["data"] > votes["header"]:
        notes.warn(
            WarningCode.HEADER,
            f"Line {record.line} looks like a row, so the columns were named column_1 to column_{width}. "
            "State `header: true` if it names the columns.",
            line=record.line,
        )
        return False
    if votes["data"]:
        notes.warn(
            WarningCode.HEADER,
            f"Line {record.line} was read as the header, although some of its cells look like values. "
            "State `header: false` if it is a row.",
            line=record.line,
        )
    return True


def _vote(first: list[str], rest: list[list[str]], position: int) -> str | None:
    if _is_missing(first[position]):
        return None
    cells = [row[position].strip() for row in rest if position < len(row) and not _is_missing(row[position])]
    if not cells:
        return None
    kinds = Counter(map(_kind, cells))
    usual, count = kinds.most_common(1)[0]
    kind = _kind(first[position])
    if usual != "text" and count >= MOST * len(cells):
        return "data" if kind == usual else "header"
    if usual != "text":
        return None
    value, distinct = first[position].strip(), set(cells)
    if value in distinct:
        return "data"
    if kind != "text":
        return None
    if len(distinct) * 3 <= len(cells) or (
        len({_shape(cell) for cell in cells}) == 1 and _shape(value) != _shape(cells[0])
    ):
        return "header"
    return None


def _shape(cell: str) -> str:
    return re.sub(r"[0-9]", "0", re.sub(r"[^\W\d_]", "a", cell)) if len(cell) < 30 else "long"


def _numbers_that_name(first: list[str], rest: list[_Record]) -> bool:
    """Returns whether the numbers of the first record are names: 0, 1, 2 …, or years above other numbers."""
    numbers = {place: cell.strip() for place, cell in enumerate(first) if _kind(cell) == "number"}
    texts = list(numbers.values())
    if (
        len(numbers) > 2
        and len(numbers) == len(first)
        and texts
        in (
            [str(number) for number in range(len(texts))],
            [str(number) for number in range(1, len(texts) + 1)],
        )
    ):
        return True
    if len(texts) < 2 or not all(_YEAR.fullmatch(text) for text in texts):
        return False
    is_sorted = all(int(early) < int(late) for early, late in pairwise(texts))
    below = [record.fields[place].strip() for record in rest for place in numbers if place < len(record.fields)]
    return is_sorted and not all(_YEAR.fullmatch(cell) for cell in below)


def _names(header: list[str], data: list[_Record], width: int) -> tuple[list[str], bool]:
    """Returns a name for each column, and whether the header lacks a name for the rows' names."""
    names = list(header[:width])
    if len(names) == width - 1:
        has_trailing = data and all(len(row.fields) < width or not row.fields[-1].strip() for row in data)
        return ([*names, ""], False) if has_trailing else (["", *names], True)
    return names + [""] * (width - len(names)), False


def _is_second_header(record: _Record, rest: list[_Record], width: int) -> bool:
    """Returns whether a record has words in each column that has numbers below it, such as their units."""
    if len(record.fields) != width:
        return False
    numeric = [
        place
        for place in range(width)
        if (cells := [row.fields[place] for row in rest if len(row.fields) == width and row.fields[place].strip()])
        and len(cells) >= LEAST_NUMBERS
        and sum(_kind(cell) == "number" for cell in cells) >= MOST * len(cells)
    ]
    cells = [record.fields[place] for place in numeric]
    return len(numeric) > 1 and all(_is_text(cell) for cell in cells)


def _row_numbers(
    columns: tuple[str, ...], names: list[str], data: list[_Record], *, is_shifted: bool
) -> tuple[str, ...]:
    """Returns the columns that only number the rows, as pandas and R write them."""
    found = []
    for place, (column, name) in enumerate(zip(columns, names, strict=True)):
        named = name.strip().lower() in ("unnamed: 0", "__index_level_0__") or (place == 0 and not name.strip())
        cells = [row.fields[place].strip() for row in data if place < len(row.fields)]
        if (is_shifted and place == 0) or (named and _counts_up(cells)):
            found.append(column)
    return tuple(found)


def _counts_up(cells: list[str]) -> bool:
    are_numbers = bool(cells) and all(
        cell.isascii() and cell.isdigit() and len(cell) < ROW_NUMBER_DIGITS for cell in cells
    )
    # Numbers of customers often count up, too, but do not begin with the first row.
    return (
        are_numbers and int(cells[0]) <= len(cells) and all(int(early) < int(late) for early, late in pairwise(cells))
    )
