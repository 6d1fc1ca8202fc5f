"""Checks that each line of delimited text is one record of the right width, and repairs or leaves out the others.

polars reads a file that breaks the rules of RFC 4180 without a word: it fills short rows up, and one stray quote can
join two rows. So the lines are checked first. Only irregular lines are looked at one by one.
"""

import mmap
import os
import re
import shutil
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice, takewhile
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, BinaryIO

import polars as pl

from shared.files.cells import is_missing, is_text, kind_of
from shared.files.dialects import Dialect
from shared.files.errors import UnreadableFileError
from shared.files.formats import CHUNK_BYTES, PlainFile, has_byte
from shared.files.headers import looks_like_name
from shared.files.limits import ReadLimits
from shared.files.notes import ReadNotes
from shared.files.records import Fields, Flaw, Lines, Marks, join, split
from shared.models.reading import AFFECTED_SHARE, WarningCode

# So many rows of a small file may be left out, but not above the other share.
AFFECTED_ROWS = 3
AFFECTED_SHARE_OF_FEW = 0.25
# Lines that were read as part of a record that never ended, and are read again: this bounds the time.
REREAD_LINES = 100_000_000
SHOWN_TEXT = 80
COPY_BYTES = 1 << 18
TAIL_BYTES = 1 << 16
LINES_OF_NOTES = 20
WORDS_OF_A_NOTE = 3
# Of more blank lines, those above a usual row are not worth a warning each.
FEW_GAPS = 3
# How many lines are below it, the line, and its cells.
_LastLine = tuple[int, str, list[str]]
_FIELD = "\x02"
# Otherwise polars would run slow tests on all lines.
_IN_ORDER = pl.QueryOptFlags(predicate_pushdown=False)
_TOTAL = re.compile(
    r"(?:grand |sub ?)?totals?|sum(?:me)?|gesamt(?:summe)?|totale|total g[eé]n[eé]ral|somme|suma|totaal|итого|合計|总计"
    r"|average|mean|count",
    re.IGNORECASE,
)

_TOTAL_OF = re.compile(rf"(?:{_TOTAL.pattern}) ?[:(-]", re.IGNORECASE)


@dataclass
class LineMap:
    """Tells the line of a row. ``breaks``: rows from which on the distance of row and line differs."""

    rows: list[int] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)

    def line_of(self, row: int) -> int:
        """Returns the line, from 1, on which a row, from 0, begins."""
        place = bisect_right(self.rows, row) - 1
        return self.lines[place] + row - self.rows[place]

    def start(self, row: int, line: int) -> None:
        """Records that a row begins on a line, and that the next rows follow line by line."""
        if self.rows and self.rows[-1] == row:
            self.lines[-1] = line
        elif not self.rows or self.line_of(row) != line:
            self.rows.append(row)
            self.lines.append(line)


@dataclass(frozen=True)
class Structure:
    """``path`` is a copy if a line had to be changed. Its rows begin after ``skip_lines`` lines."""

    path: Path
    skip_lines: int
    lines: LineMap


def has_stray_marks(path: Path, dialect: Dialect) -> bool:
    """Returns whether the file may break rules that polars does not check: it has quotes, or a line of totals.

    It searches the bytes only, at several GB a second.
    """
    marks = dialect.marks
    if marks.escape or marks.skips_spaces or marks.delimiter == " ":
        return True
    if marks.quote and has_byte(path, marks.quote.encode()):
        return True
    return last_total(path, marks) is not None


def last_total(path: Path, marks: Marks) -> str | None:
    """Returns the last line above notes if it has totals of the columns and not the values of a row."""
    _, line, cells = _last_row(path, marks)
    return line if _names_total(cells) and any(is_missing(cell) for cell in cells) else None


def note_end(path: Path, marks: Marks, width: int, notes: ReadNotes) -> None:
    """Warns of the last lines if they may be no rows: totals with a value in each column, or sentences."""
    below, line, cells = _last_row(path, marks)
    if _names_total(cells) and all(kind_of(cell) == "number" for cell in cells[1:]):
        number = _count_lines(path) - below
        notes.warn(
            WarningCode.VALUE,
            f"Line {number:,} looks like totals, but has as many values as a row and was read as one. Delete it if it "
            f"is not a row: {_shown(line)}",
            line=number,
        )
    last = takewhile(lambda each: len(each[2]) == width and _is_note(each[2]), _last_lines(path, marks))
    if sentences := [each for each in last if len(each[2][0].split()) >= WORDS_OF_A_NOTE]:
        count = _count_lines(path)
        for below, line, _ in sentences:
            number = count - below
            notes.warn(
                WarningCode.VALUE,
                f"Line {number:,} looks like a note below the table, and was read as a row. Delete it if it is a note: "
                f"{_shown(line)}",
                line=number,
            )


def _last_row(path: Path, marks: Marks) -> _LastLine:
    """Returns the last line that is neither blank nor a note."""
    return next((each for each in _last_lines(path, marks) if not _is_note(each[2])), (0, "", []))


def _last_lines(path: Path, marks: Marks) -> Iterator[_LastLine]:
    """Yields the last lines that are not blank, from the last up."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        text = file.read().decode("utf-8", "replace")
    lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
    cells = ((below, line, _cells(line, marks)) for below, line in enumerate(reversed(lines)))
    return islice((each for each in cells if any(each[2])), LINES_OF_NOTES)


def _cells(line: str, marks: Marks) -> list[str]:
    return [cell.strip() for cell in split(line, marks, is_lenient=True).fields]


def _is_note(cells: list[str]) -> bool:
    """Returns whether a text in the first column is all that a line has."""
    return len(cells) > 2 and is_text(cells[0]) and not any(cells[1:])


def _count_lines(path: Path) -> int:
    count, chunk = 0, b"\n"
    with path.open("rb") as file:
        while more := file.read(CHUNK_BYTES):
            chunk = more
            count += chunk.count(b"\n")
    return count + (not chunk.endswith(b"\n"))


def _names_total(cells: list[str]) -> bool:
    first = next((cell for cell in cells if cell), "")
    return len(cells) > 1 and bool(_TOTAL.fullmatch(first.rstrip(": ")) or _TOTAL_OF.match(first))


def check_lengths(path: Path, limits: ReadLimits) -> None:
    """Raises UnreadableFileError for a line longer than the limit. It looks at few bytes only."""
    size = path.stat().st_size
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = 0
        while start + limits.line_bytes < size:
            end = content.rfind(b"\n", start, start + limits.line_bytes)
            if end < 0:
                raise UnreadableFileError(
                    f"The file has a line of more than {limits.line_bytes >> 20} MiB; is it really CSV or JSON Lines?"
                )
            start = end + 1


def with_line_feeds(plain: PlainFile, scratch: Path) -> PlainFile:
    """Returns a file in which no line ends with a carriage return alone. It is a copy if one did."""
    if not _has_old_line_ends(plain.path):
        return plain
    with (
        plain.path.open("rb") as source,
        NamedTemporaryFile(dir=scratch, prefix="lines-", delete=False) as target,
    ):
        while chunk := source.read(CHUNK_BYTES):
            if chunk.endswith(b"\r"):
                chunk += source.read(1)
            target.write(chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n"))
    if plain.is_copy:
        plain.path.unlink()
    return replace(plain, path=Path(target.name), is_copy=True)


def _has_old_line_ends(path: Path) -> bool:
    returns, pairs, _ = _line_ends(path)
    return returns > pairs


def _line_ends(path: Path) -> tuple[int, int, int]:
    """Returns how many carriage returns, pairs of one and a line feed, and line feeds there are, if any return."""
    returns = pairs = feeds = 0
    if not has_byte(path, b"\r"):
        return 0, 0, 1
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            if chunk.endswith(b"\r"):
                chunk += file.read(1)
            returns += chunk.count(b"\r")
            pairs += chunk.count(b"\r\n")
            feeds += chunk.count(b"\n")
    return returns, pairs, feeds


def check_structure(
    path: Path, dialect: Dialect, notes: ReadNotes, scratch: Path, limits: ReadLimits, share: float | None = None
) -> Structure:
    """Returns a file of regular records, with notes of what was changed.

    ``share`` is that of the rows that may be left out or repaired, if the file's owner states one.
    Raises UnreadableFileError when too many rows would be left out or repaired.
    """
    irregular, rows = _irregular_lines(path, dialect)
    if irregular.is_empty():
        return Structure(path, dialect.data_line - 1, _plain_map(dialect))
    with (
        path.open("rb") as source,
        NamedTemporaryFile(dir=scratch, prefix="records-", delete=False) as target,
    ):
        copy = Path(target.name)
        repair = _Repair(dialect, notes, limits, _allowed(rows, share), source, target.file)
        try:
            repair.run(irregular)
        except BaseException:
            copy.unlink()
            raise
    if not repair.has_changed:
        copy.unlink()
        return Structure(path, dialect.data_line - 1, repair.lines)
    return Structure(copy, 0, repair.lines)


def _allowed(rows: int, share: float | None) -> float:
    """Returns how many rows may be left out or repaired."""
    if share is not None:
        return share * rows
    return max(AFFECTED_SHARE * rows, min(AFFECTED_ROWS, AFFECTED_SHARE_OF_FEW * rows))


def _plain_map(dialect: Dialect) -> LineMap:
    lines = LineMap()
    lines.start(0, dialect.data_line)
    return lines


def _irregular_lines(path: Path, dialect: Dialect) -> tuple[pl.DataFrame, int]:
    """Returns the positions, from 0, of the lines that need a look, with their first bytes, and the number of rows."""
    marks, width = dialect.marks, len(dialect.columns)
    line = pl.col("line")
    has_width = line.str.count_matches(marks.delimiter, literal=True) == width - 1
    is_odd = ~has_width
    if marks.quote is not None:
        is_odd |= line.str.contains(marks.quote, literal=True)
    empty = marks.delimiter * (width - 1)
    special = [text for text in (dialect.header_text, dialect.rule_text, last_total(path, marks), empty) if text]
    is_special = pl.any_horizontal(pl.lit(value=False), *(line == text for text in special))
    is_odd |= is_special
    if marks.skips_spaces or marks.delimiter == " ":
        is_odd |= line.str.contains("  ", literal=True)
    if marks.joins_blanks:
        is_odd |= line.str.starts_with(" ") | line.str.ends_with(" ")
    lines = pl.scan_lines(path, name="line", row_index_name="position", glob=False)
    size = line.str.len_bytes().cast(pl.UInt64) + _bytes_of_line_ends(path)
    numbered = lines.with_columns(start=size.cum_sum() - size)
    found = numbered.filter((pl.col("position") >= dialect.data_line - 1) & is_odd)
    if marks.quote is not None and marks.escape is None and not marks.skips_spaces:
        # From quick to slow. Each test sees the lines that the one before it left.
        found = found.filter(is_special | ~(has_width & _has_simple_quotes(marks)))
        found = found.filter(is_special | ~_has_regular_quotes(marks, width))
    odd, total = pl.collect_all([found.select("position", "start"), lines.select(pl.len())], optimizations=_IN_ORDER)
    return odd, total.item() - dialect.data_line + 1


def _bytes_of_line_ends(path: Path) -> pl.Expr:
    """Returns how many bytes the end of each line has; null if line feeds and pairs are mixed."""
    returns, pairs, feeds = _line_ends(path)
    return pl.lit({0: 1, feeds: 2}.get(returns if returns == pairs else -1), dtype=pl.UInt64)


def _has_simple_quotes(marks: Marks) -> pl.Expr:
    """Returns whether quotes are around whole fields only, without a quote or delimiter in them."""
    quote, delimiter = re.escape(marks.quote or ""), re.escape(marks.delimiter)
    each = f"(?:{quote}[^{quote}{delimiter}]*{quote}|[^{quote}{delimiter}]*)"
    line = pl.col("line")
    return line.str.contains(f"^{each}(?:{delimiter}{each})*$") & line.str.contains(marks.quote or "", literal=True)


def _has_regular_quotes(marks: Marks, width: int) -> pl.Expr:
    """Returns whether a line is regular: each quoted field is between delimiters, and the width is right."""
    quote, delimiter = re.escape(marks.quote or ""), re.escape(marks.delimiter)
    bare = pl.col("line").str.replace_all(f"{quote}(?:[^{quote}]|{quote}{quote})*{quote}", _FIELD)
    return (
        ~bare.str.contains(marks.quote or "", literal=True)
        & ~bare.str.contains(f"[^{delimiter}]{_FIELD}|{_FIELD}[^{delimiter}]")
        & (bare.str.count_matches(marks.delimiter, literal=True) == width - 1)
        & pl.col("line").str.contains(marks.quote or "", literal=True)
    )


class _Repair:
    """Copies a file. Lines that are no record are repaired where that needs no guess, or else left out."""

    def __init__(
        self,
        dialect: Dialect,
        notes: ReadNotes,
        limits: ReadLimits,
        allowed: float,
        source: BinaryIO,
        target: IO[bytes],
    ) -> None:
        self._dialect = dialect
        self._marks = dialect.marks
        self._width = len(dialect.columns)
        self._notes = notes
        self._limits = limits
        self._raw = source
        self._source = Lines(source)
        self._target = target
        self._total = last_total(Path(source.name), dialect.marks)
        # A line without a value.
        self._empty = dialect.marks.delimiter * (self._width - 1)
        # Lines below a blank one that may be the header of a further table, with their cells.
        self._headers: list[tuple[int, str, list[str]]] = []
        self.lines = LineMap()
        self.has_changed = False
        self._row = 0
        self._affected = 0
        self._allowed = allowed
        self._first_affected: str | None = None

    def run(self, irregular: pl.DataFrame) -> None:
        """Goes over the irregular lines, and copies all others.

        Raises UnreadableFileError when too many rows would be left out.
        """
        for _ in range(self._dialect.data_line - 1):
            self._raw.readline()
        self._source.number = self._dialect.data_line - 1
        for position, start in irregular.iter_rows():
            if position + 1 > self._source.number:
                self._copy(position - self._source.number, start)
                self._examine()
        self._copy(None, None)
        for number, line, cells in self._headers:
            is_rare = len(self._headers) <= FEW_GAPS and not any(map(str.isdigit, line))
            if is_rare or any(map(looks_like_name, cells)):
                self._notes.warn(
                    WarningCode.HEADER,
                    f"Line {number:,} is below a blank line and may be the header of a second table. It was read as a "
                    f"row. Upload the second table as a file of its own if it is one: {_shown(line)}",
                    line=number,
                )

    def _copy(self, count: int | None, end: int | None) -> None:
        """Copies lines that need no look, all if ``count`` is ``None``. ``end`` is the byte behind them if known."""
        self.lines.start(self._row, self._source.number + 1)
        if count is None:
            shutil.copyfileobj(self._raw, self._target, CHUNK_BYTES)
        elif count:
            if end is None:
                copy_lines(self._raw, self._target, count)
            else:
                copy_bytes(self._raw, self._target, end - self._raw.tell())
            self._source.number += count
            self._row += count

    def _write(self, line: str) -> None:
        self._target.write(line.encode() + b"\n")
        self._row += 1

    def _examine(self) -> None:
        """Decides about the next line."""
        line = self._source.next()
        if line is None:
            return
        number = self._source.number
        if not line.strip():
            self.has_changed = True
            self._look_below()
        elif line == self._empty:
            self._keep(number, line, Fields([]))
            self._look_below()
        elif line == self._dialect.header_text:
            self._leave_out(number, line, "repeats the header", is_row=False)
        elif line == self._dialect.rule_text:
            self._leave_out(number, line, "is a drawn line", is_row=False)
        elif line == self._total and number > self._dialect.data_line:
            self._leave_out(number, line, "has totals and not the values of a row", is_row=False)
        else:
            self._examine_record(number, line)

    def _look_below(self) -> None:
        """Keeps the line below a blank one if it has a text of its own in each column, as a header has."""
        place = self._source.place()
        line = self._source.next()
        number = self._source.number
        self._source.go_back(place)
        if line is None or line == self._dialect.header_text:
            return
        cells = _cells(line, self._marks)
        if 1 < len(cells) == self._width == len(set(cells)) and all(map(is_text, cells)):
            self._headers.append((number, line, cells))

    def _examine_record(self, number: int, line: str) -> None:
        below = self._source.place()
        found, text = self._source.record(line, self._marks, self._limits.line_bytes)
        if self._source.reread > REREAD_LINES:
            raise UnreadableFileError(
                f"Too many quotes are never closed, the last one in line {number:,}: {_shown(line)}. Close them, or "
                "state in the read options that the file has no quotes."
            )
        is_whole = found.flaw is None and len(found.fields) == self._width
        if len(text) > len(line) and not is_whole:
            self._source.go_back(below)
            found = Fields([], flaw=Flaw.OPEN_QUOTE)
        if is_whole:
            self._keep(number, text, found)
            return
        if found.flaw is not None:
            for marks, is_lenient, done in (
                (replace(self._marks, escape="\\"), False, "a backslash was read as the escape of a quote"),
                (self._marks, True, "a quote inside a field was read as text"),
            ):
                other = split(line, marks, is_lenient=is_lenient)
                if other.flaw is None and len(other.fields) == self._width:
                    self._warn_repaired(number, line, done)
                    self._write_fields(number, other.fields)
                    return
            self._leave_out(number, line, found.flaw.value)
            return
        self._examine_width(number, line, found.fields)

    def _keep(self, number: int, text: str, found: Fields) -> None:
        if found.is_plain:
            self.lines.start(self._row, number)
            self._write(text)
        else:
            self._write_fields(number, found.fields)

    def _write_fields(self, number: int, fields: list[str]) -> None:
        self.has_changed = True
        self.lines.start(self._row, number)
        self._write(join(fields, self._marks.delimiter, self._marks.quote or '"'))

    def _examine_width(self, number: int, line: str, fields: list[str]) -> None:
        count, width = len(fields), self._width
        if not any(field.strip() for field in fields):
            self.has_changed = True
        elif count > width and not any(field.strip() for field in fields[width:]):
            self._write_fields(number, fields[:width])
        elif fields[0].lstrip().startswith("#") and count != width:
            self._leave_out(number, line, "is a comment", is_row=False)
        else:
            self._leave_out(number, line, f"has {count:,} field{'s' * (count != 1)} where the header has {width:,}")

    def _leave_out(self, number: int, line: str, reason: str, *, is_row: bool = True) -> None:
        self.has_changed = True
        verb = reason if reason.split(" ", 1)[0] in ("has", "is", "repeats") else f"is no record: {reason}"
        message = f"Line {number:,} {verb}, so it was left out: {_shown(line)}"
        self._notes.warn(WarningCode.ROW_LEFT_OUT, message, line=number, rows=int(is_row))
        if is_row:
            self._count_affected(f"Line {number:,} {verb}: {_shown(line)}.")

    def _warn_repaired(self, number: int, line: str, done: str) -> None:
        message = f"In line {number:,} {done}: {_shown(line)}"
        self._notes.warn(WarningCode.ROW_REPAIRED, message, line=number, rows=1)
        self._count_affected(f"{message}.")

    def _count_affected(self, message: str) -> None:
        self._affected += 1
        self._first_affected = self._first_affected or message
        if self._affected > self._allowed:
            raise UnreadableFileError(
                f"{self._first_affected} Too many rows (at least {self._affected:,}) do not fit the columns; "
                "correct them, or state in the read options how the file is written (delimiter, quote, header), or "
                "that more rows may be affected (max_affected_share)."
            )


def copy_bytes(source: BinaryIO, target: IO[bytes], count: int) -> None:
    """Copies a number of bytes."""
    while count and (chunk := source.read(min(count, COPY_BYTES))):
        target.write(chunk)
        count -= len(chunk)


def copy_lines(source: BinaryIO, target: IO[bytes], count: int) -> None:
    """Copies lines whose size is not known."""
    while count and (chunk := source.read(COPY_BYTES)):
        found = chunk.count(b"\n")
        if found < count:
            target.write(chunk)
            count -= found
            continue
        end = _end_of_lines(chunk, count)
        target.write(chunk[:end])
        source.seek(end - len(chunk), os.SEEK_CUR)
        return


def _end_of_lines(chunk: bytes, count: int) -> int:
    """Returns where a number of lines end."""
    start, end = 0, len(chunk)
    while end - start > 1:
        middle = (start + end) // 2
        if (found := chunk.count(b"\n", start, middle)) < count:
            start, count = middle, count - found
        else:
            end = middle
    return end


def _shown(line: str) -> str:
    printable = re.sub(r"[\x00-\x1f\x7f]", " ", line)
    return f"'{printable[:SHOWN_TEXT]}{'…' * (len(printable) > SHOWN_TEXT)}'"
