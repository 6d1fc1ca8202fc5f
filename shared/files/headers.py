"""Finds out which lines of delimited text are its header and its rows, and how its columns are named."""

import re
from collections import Counter
from dataclasses import dataclass, replace
from itertools import pairwise

from shared.files.cells import is_missing, is_text, kind_of
from shared.files.column_names import NAMES_OF_ROW_NUMBERS, unique_names
from shared.files.limits import ReadLimits
from shared.files.notes import ReadNotes
from shared.models.reading import ReadOptions, WarningCode

# Lines of titles and comments that may be above a table.
TITLE_LINES = 50
# Numbers in a column below words, from which on the words may be its unit.
LEAST_NUMBERS = 3
# Filled cells of a line with a name and its value, above a table.
PAIR = 2
# Row numbers have fewer digits.
ROW_NUMBER_DIGITS = 16
# Lines below a header that may explain it: units, questions, ids.
MORE_HEADERS = 3
# Share of the cells of a column that decides about it.
MOST = 0.9
_RULE = re.compile("-{2,}|={2,}|_{2,}")
_YEAR = re.compile(r"(?:19|20)[0-9]{2}")
_WORD = re.compile(r"[^\W\d_]+")
# Such as a, b and c; or Q1 and Q2.
_LETTER = re.compile(r"[A-Za-z][0-9]{0,3}")
_JOINED_WORDS = re.compile(r"[^\W\d_]+[0-9]*(?:_[^\W_]+)+|[a-z]+(?:[A-Z][a-z]+)+")
# In files of texts only, these words show that a line is a header.
_USUAL_NAME = re.compile(
    r"account|address|adresse|apellido|art|bemerkung|beschreibung|betreff|categoria|category|categoría|"
    r"catégorie|cidade|citta|città|city|ciudad|class|client|code|cognome|comment|commentaire|comments|"
    r"company|country|currency|customer|data|date|datum|day|department|description|direccion|dirección|"
    r"email|end|endereco|endereço|estado|fecha|firma|first|gender|geschlecht|group|groupe|grupo|gruppe|id|"
    r"imię|indirizzo|item|kategorie|key|kind|kunde|label|land|language|last|libelle|libellé|link|mail|"
    r"message|miasto|mobile|month|naam|nachname|name|names|nazwisko|no|nom|nombre|nome|note|notes|nr|"
    r"number|nummer|objet|ort|paese|pais|pays|país|phone|plaats|plz|postcode|prenom|product|produkt|"
    r"prénom|region|rue|sex|source|sprache|stadt|start|state|status|statut|strasse|straße|street|subject|"
    r"surname|target|text|texte|texto|time|tipo|title|town|typ|type|url|user|value|ville|vorname|year|zip"
)


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
    if options.header is None and options.skip_lines is None:
        header, rows = _without_worse_header(header, rows, width, notes)
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
    if not names[0].strip() and columns[0] not in row_numbers and _are_whole([row.fields[0].strip() for row in rows]):
        notes.warn(
            WarningCode.COLUMN_NAME,
            f"The first column has no name, so it was named {columns[0]}. Name it, or delete it if it numbers rows.",
            column=columns[0],
        )
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
    table = [position for position, record in enumerate(records) if record.filled and not record.is_comment]
    for position in table[:TITLE_LINES]:
        record = records[position]
        next_record = records[position + 1] if position + 1 < len(records) else None
        # Below a title may be further ones.
        below = next((each for each in records[position + 1 :] if each.filled > 1), None)
        is_title = width > 2 and record.filled < 2 and below is not None and below.filled > max(2, width // 2)
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

    The header is the first record without gaps. A blank line, or records of which all have many gaps, are above it.
    """
    for place in range(position, min(len(records) - 1, TITLE_LINES)):
        record = records[place]
        if len(record.fields) == width and record.filled == width:
            is_header = place > position and all(map(is_text, record.fields)) and len(set(record.fields)) == width
            return place if is_header and _is_below(records, position, place, width) else position
    return position


def _is_below(records: list[Record], position: int, place: int, width: int) -> bool:
    """Returns whether a blank line, or nothing but titles and pairs, is above a record."""
    above, record = records[position:place], records[place]
    if not above[-1].filled or record.line > above[-1].line + 1:
        return True
    are_pairs = width > 2 * PAIR and all(each.filled <= PAIR for each in above)
    return are_pairs and len(_words(record, _numeric_places(records[place + 1 :], width))) > 1


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
    first, rest = record.fields, [row for row in rest if row.filled]
    if not rest:
        if all(kind_of(cell) == "number" for cell in first):
            return False
        notes.warn(
            WarningCode.HEADER,
            f"Line {record.line} was read as the header, so there are no rows. State `header: false` if it is a row.",
            line=record.line,
        )
        return True
    if len(first) == width - 1:
        return True
    cells = [row.fields for row in rest if row.fields != first]
    votes = Counter(_vote(first, cells, position) for position in range(min(width, len(first))))
    del votes[None]
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
    doubt = "although some of its cells look like values" if votes["data"] else None
    if not votes and not any(map(looks_like_name, first)) and not all(map(_LETTER.fullmatch, first)):
        doubt = "but the rows do not show whether it is one"
    if doubt:
        notes.warn(
            WarningCode.HEADER,
            f"Line {record.line} was read as the header, {doubt}. State `header: false` if it is a row.",
            line=record.line,
        )
    return True


def looks_like_name(cell: str) -> bool:
    """Returns whether a cell is hardly a value: a usual name of a column, or words that are joined as programs do."""
    text = cell.strip()
    return bool(_JOINED_WORDS.fullmatch(text)) or any(map(_USUAL_NAME.fullmatch, _WORD.findall(text.lower())))


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
        # The first name is missing above names of the rows.
        and (len(numbers) == len(first) or (len(numbers) == len(first) - 1 and not first[0].strip()))
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


def _without_worse_header(
    first: Record, rows: list[Record], width: int, notes: ReadNotes
) -> tuple[Record, list[Record]]:
    """Returns the header and the rows, without a line of values or of fewer names above the line with the names."""
    if not rows or all(map(is_text, first.fields)) or _numbers_that_name(first.fields, rows):
        return first, rows
    second, rest = rows[0], rows[1:]
    numeric = _numeric_places(rest, width)
    names = [cell.strip() for cell in second.fields if cell.strip()]
    is_worse = len(_words(first, numeric)) < len(_words(second, numeric))
    if not is_worse or 2 * len(set(names)) <= len(names) or not _is_second_header(second, numeric):
        return first, rows
    notes.warn(
        WarningCode.LINES_SKIPPED,
        f"Line {first.line} was left out, because line {second.line} names the columns. State `skip_lines` and "
        "`header` if that is wrong.",
        line=first.line,
    )
    return second, rest


def _without_more_headers(rows: list[Record], width: int, notes: ReadNotes) -> list[Record]:
    """Returns the rows without first ones that have words in columns of numbers: units, questions or ids."""
    for count in range(MORE_HEADERS, 0, -1):
        first, rest = rows[:count], rows[count:]
        numeric = _numeric_places(rest, width)
        if not numeric or not all(len(row.fields) == width and _is_second_header(row, numeric) for row in first):
            continue
        for row in first:
            notes.warn(
                WarningCode.LINES_SKIPPED,
                f"Line {row.line} has words where the column has numbers, like a second header; it was left out.",
                line=row.line,
            )
        return rest
    return rows


def _numeric_places(rows: list[Record], width: int) -> list[int]:
    """Returns the positions of the columns with enough cells, of which most are numbers."""
    return [
        place
        for place in range(width)
        if (cells := [row.fields[place] for row in rows if len(row.fields) == width and row.fields[place].strip()])
        and len(cells) >= LEAST_NUMBERS
        and sum(kind_of(cell) == "number" for cell in cells) >= MOST * len(cells)
    ]


def _words(record: Record, numeric: list[int]) -> list[str]:
    """Returns the texts of a record in columns of numbers."""
    return [cell for cell in _at(record, numeric) if is_text(cell)]


def _at(record: Record, places: list[int]) -> list[str]:
    return [record.fields[place] for place in places if place < len(record.fields)]


def _is_second_header(record: Record, numeric: list[int]) -> bool:
    """Returns whether a record has words in columns of numbers, such as their units: in all of them, or no value."""
    words = _words(record, numeric)
    has_value = any(cell.strip() and not is_text(cell) for cell in record.fields)
    return len(words) > 1 and (len(words) == len(numeric) or not has_value)


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
        cells = [row.fields[place].strip() for row in data if place < len(row.fields)]
        are_numbers = name.strip().lower() in NAMES_OF_ROW_NUMBERS and _are_whole(cells)
        if (is_shifted and place == 0) or are_numbers or (place == 0 and not name.strip() and _number_rows(cells)):
            found.append(column)
    return tuple(found)


def _number_rows(cells: list[str]) -> bool:
    """Returns whether cells are row numbers: from the first row on, or of rows that were shuffled."""
    if not _are_whole(cells) or len(set(cells)) < len(cells):
        return False
    if all(int(early) < int(late) for early, late in pairwise(cells)):
        # Numbers of customers often count up, too, but do not begin with the first row.
        return int(cells[0]) <= len(cells)
    return len(cells) >= LEAST_NUMBERS


def _are_whole(cells: list[str]) -> bool:
    return bool(cells) and all(cell.isascii() and cell.isdigit() and len(cell) < ROW_NUMBER_DIGITS for cell in cells)
