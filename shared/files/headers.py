"""Finds out which lines of delimited text are its header and its rows, and how its columns are named."""

import re
from collections import Counter
from dataclasses import dataclass, replace
from itertools import pairwise

from shared.files.cells import is_missing, is_text, kind_of
from shared.files.column_names import unique_names
from shared.files.limits import ReadLimits
from shared.files.notes import ReadNotes
from shared.models.reading import ReadOptions, WarningCode

# Lines of titles and comments that may be above a table.
TITLE_LINES = 50
# Numbers in a column below words, from which on the words may be its unit.
LEAST_NUMBERS = 3
# Row numbers have fewer digits.
ROW_NUMBER_DIGITS = 16
# Lines below a header that may explain it: units, questions, ids.
MORE_HEADERS = 3
# Share of the cells of a column that decides about it.
MOST = 0.9
_RULE = re.compile("-{2,}|={2,}|_{2,}")
_YEAR = re.compile(r"(?:19|20)[0-9]{2}")


@dataclass(frozen=True)
class Record:
    """Fields of a record, and the line on which it begins. ``is_whole``: it could be split."""

    line: int
    fields: list[str]
    is_whole: bool = True

    @property
    def filled(self) -> int:
        """Returns how many fields are not blank."""
        return sum(1 for cell in self.fields if cell.strip())

    @property
    def is_rule(self) -> bool:
        """Returns whether it only draws a line."""
        return all(_RULE.fullmatch(cell.strip()) for cell in self.fields)

    @property
    def is_comment(self) -> bool:
        """Returns whether it begins with ``#``."""
        return self.fields[0].lstrip().startswith("#")


@dataclass(frozen=True)
class Layout:
    """Unique names of the columns, and where the rows begin. Lines are counted from 1."""

    columns: tuple[str, ...]
    header_line: int | None
    data_line: int
    # Columns that only number the rows.
    row_numbers: tuple[str, ...] = ()
    # Unnamed columns, which trailing delimiters make. They are left out if they have no value.
    unnamed: tuple[str, ...] = ()
    # The first column has no name in the header, as R writes the rows' names.
    is_shifted: bool = False
    # A line of dashes that is drawn below the header.
    rule_line: int | None = None


def find_layout(
    records: list[Record], width: int, first_line: int, notes: ReadNotes, options: ReadOptions, limits: ReadLimits
) -> Layout:
    """Returns the layout of a file that begins with these records, and notes what is left out or doubtful.

    ``width`` is that of most records.
    """
    header, *rows = _table(records, width, first_line, notes, options)
    has_header = _has_header(header, rows, width, notes) if options.header is None else options.header
    if not has_header:
        columns = unique_names([""] * width, limits)
        return Layout(columns, None, header.line)
    rule_line = rows[0].line if rows and rows[0].is_rule else None
    if rule_line is not None:
        message = f"Line {rule_line} is a line drawn below the header; it was left out."
        notes.warn(WarningCode.LINES_SKIPPED, message, line=rule_line)
        rows = rows[1:]
    if options.header is None:
        rows = _without_more_headers(rows, width, notes)
    names, is_shifted = _names(header.fields, rows, width)
    columns = unique_names(names, limits)
    row_numbers = _row_numbers(columns, names, rows, is_shifted=is_shifted)
    unnamed = (column for column, name in zip(columns, names, strict=True) if not name.strip())
    return Layout(
        columns,
        header.line,
        data_line=rows[0].line if rows else (rule_line or header.line) + 1,
        row_numbers=row_numbers,
        unnamed=tuple(column for column in unnamed if column not in row_numbers),
        is_shifted=is_shifted,
        rule_line=rule_line,
    )


def _table(records: list[Record], width: int, first_line: int, notes: ReadNotes, options: ReadOptions) -> list[Record]:
    """Returns the records without titles and comments above the table."""
    if options.skip_lines is not None or options.header is not None:
        return records
    start = _first_of_table(records, width)
    table = records[start:]
    if _is_commented_header(records, start, width):
        first = records[start - 1]
        table = [replace(first, fields=[first.fields[0].lstrip("# "), *first.fields[1:]]), *table]
    if start and table[0].line > first_line:
        notes.warn(
            WarningCode.LINES_SKIPPED,
            f"{_lines(first_line, table[0].line - 1)} left out, because the table begins below.",
            line=first_line,
        )
    return table


def _first_of_table(records: list[Record], width: int) -> int:
    """Returns the position of the first record that belongs to the table, after titles and comments."""
    for position, record in enumerate(records[:TITLE_LINES]):
        if record.is_comment:
            continue
        next_record = records[position + 1] if position + 1 < len(records) else None
        is_title = (
            width > 2 and record.filled < 2 and next_record is not None and next_record.filled > max(2, width // 2)
        )
        if len(record.fields) == width and not is_title:
            return _below_pairs(records, position, width)
        # The header of R's tables lacks a name for the rows' names; trailing delimiters may be on rows only.
        is_shorter = len(record.fields) == width - 1 == record.filled and width > 2
        if is_shorter and next_record is not None and len(next_record.fields) == width:
            return position
        # A header may have delimiters at its end that the rows lack.
        if len(record.fields) > width and record.filled == width and all(record.fields[:width]):
            return position
    return 0


def _below_pairs(records: list[Record], position: int, width: int) -> int:
    """Returns the position of a header below titles and pairs of a name and a value, as banks write them.

    The header is the first record without gaps. A blank line or several records with gaps are above it.
    """
    for place in range(position, min(len(records) - 1, TITLE_LINES)):
        record = records[place]
        if len(record.fields) == width and record.filled == width:
            has_gap = place > 0 and record.line > records[place - 1].line + 1
            is_header = place > position and all(map(is_text, record.fields)) and len(set(record.fields)) == width
            return place if is_header and has_gap else position
    return position


def _is_commented_header(records: list[Record], start: int, width: int) -> bool:
    """Returns whether a header that begins with ``#`` is directly above the first row."""
    if not start or width < 2:
        return False
    names, first = records[start - 1].fields, records[start].fields
    return (
        len(names) == width
        and names[0].startswith("#")
        and all(kind_of(cell) == "text" for cell in names)
        and any(kind_of(cell) != "text" for cell in first)
    )


def _lines(first: int, last: int) -> str:
    return f"Line {first} was" if first == last else f"Lines {first} to {last} were"


def _has_header(record: Record, rest: list[Record], width: int, notes: ReadNotes) -> bool:
    """Returns whether the first record names the columns. Each column votes."""
    first = record.fields
    if not rest:
        return not all(kind_of(cell) == "number" for cell in first)
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
    if is_missing(first[position]):
        return None
    cells = [row[position].strip() for row in rest if position < len(row) and not is_missing(row[position])]
    if not cells:
        return None
    kinds = Counter(map(kind_of, cells))
    usual, count = kinds.most_common(1)[0]
    kind = kind_of(first[position])
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


def _numbers_that_name(first: list[str], rest: list[Record]) -> bool:
    """Returns whether the numbers of the first record are names: 0, 1, 2 …, or years above other numbers."""
    numbers = {place: cell.strip() for place, cell in enumerate(first) if kind_of(cell) == "number"}
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


def _without_more_headers(rows: list[Record], width: int, notes: ReadNotes) -> list[Record]:
    """Returns the rows without first ones that have words in each column of numbers: units, questions or ids."""
    for count in range(MORE_HEADERS, 0, -1):
        first, rest = rows[:count], rows[count:]
        if len(rest) < LEAST_NUMBERS or not all(_is_second_header(row, rest, width) for row in first):
            continue
        for row in first:
            notes.warn(
                WarningCode.LINES_SKIPPED,
                f"Line {row.line} has words where the column has numbers, like a second header; it was left out.",
                line=row.line,
            )
        return rest
    return rows


def _is_second_header(record: Record, rest: list[Record], width: int) -> bool:
    """Returns whether a record has words in each column that has numbers below it, such as their units."""
    if len(record.fields) != width:
        return False
    numeric = [
        place
        for place in range(width)
        if (cells := [row.fields[place] for row in rest if len(row.fields) == width and row.fields[place].strip()])
        and len(cells) >= LEAST_NUMBERS
        and sum(kind_of(cell) == "number" for cell in cells) >= MOST * len(cells)
    ]
    cells = [record.fields[place] for place in numeric]
    return len(numeric) > 1 and all(is_text(cell) for cell in cells)


def _names(header: list[str], data: list[Record], width: int) -> tuple[list[str], bool]:
    """Returns a name for each column, and whether the header lacks a name for the rows' names."""
    names = list(header[:width])
    if len(names) == width - 1:
        has_trailing = data and all(len(row.fields) < width or not row.fields[-1].strip() for row in data)
        return ([*names, ""], False) if has_trailing else (["", *names], True)
    return names + [""] * (width - len(names)), False


def _row_numbers(
    columns: tuple[str, ...], names: list[str], data: list[Record], *, is_shifted: bool
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
