"""How a CSV file is written: delimiter, header, decimal mark; and a repair for the ones polars cannot split."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from tempfile import NamedTemporaryFile

from shared.files.column_types import NULL_SPELLINGS
from shared.files.errors import UnreadableFileError
from shared.files.formats import PlainFile
from shared.files.limits import DEFAULT_LIMITS, ReadLimits
from shared.files.text import DELIMITERS

SAMPLE_RECORDS = 200
NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?")
DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
DECIMAL_POINT = re.compile(r"[+-]?\d+\.\d+")
CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f]+")
# A quoted field may span lines; one that spans this many windows of the longest line was never closed.
OPEN_QUOTE_WINDOWS = 4


@dataclass(frozen=True)
class Dialect:
    """How one file is written, and the unique names of its columns."""

    delimiter: str
    columns: tuple[str, ...]
    has_header: bool
    decimal_comma: bool
    # Old line ends, leading blank lines: polars would misread them, Python's csv module does not.
    needs_rewrite: bool


def detect_dialect(plain: PlainFile, limits: ReadLimits = DEFAULT_LIMITS) -> Dialect:
    """Reads the dialect from the file's beginning.

    The first record is the header, unless it is data: the file has number columns and the first record has a
    number in each of them. Columns without a name are called `column_<position>`; a repeated name gets `_2`, `_3`…
    Raises UnreadableFileError when there is no record, or lines or columns are beyond the limits.
    """
    text, is_whole = _sample_text(plain.path, limits)
    delimiter = _detect_delimiter(text, is_whole, plain.name)
    records = _records(text, delimiter, is_whole)
    if not records:
        raise UnreadableFileError("The file has no rows; upload a file with a header and rows.")
    first, rest = records[0], records[1:]
    if len(first) > limits.columns:
        raise UnreadableFileError(f"The file has {len(first):,} columns; at most {limits.columns:,} can be read.")
    has_header = not _is_data(first, rest)
    names = first if has_header else [""] * len(first)
    cells = [cell.strip() for record in (rest if has_header else records) for cell in record]
    commas = sum(1 for cell in cells if DECIMAL_COMMA.fullmatch(cell))
    points = sum(1 for cell in cells if DECIMAL_POINT.fullmatch(cell))
    head = text.split("\n", 1)[0]
    return Dialect(
        delimiter=delimiter,
        columns=unique_names(names, limits),
        has_header=has_header,
        decimal_comma=delimiter != "," and commas > points,
        needs_rewrite="\r" in head.removesuffix("\r") or not head.strip("\r"),
    )


def unique_names(names: list[str], limits: ReadLimits = DEFAULT_LIMITS) -> tuple[str, ...]:
    """Returns printable, bounded and distinct column names in the same order."""
    taken: set[str] = set()
    unique = []
    reserved = Counter(names)
    for position, raw in enumerate(names, start=1):
        base = CONTROL_CHARACTERS.sub(" ", raw).strip()[: limits.column_name_characters] or f"column_{position}"
        name, suffix = base, 2
        while name in taken or (name != raw and name in reserved):
            name, suffix = f"{base}_{suffix}", suffix + 1
        taken.add(name)
        unique.append(name)
    return tuple(unique)


def rewrite(plain: PlainFile, dialect: Dialect, scratch: Path, limits: ReadLimits = DEFAULT_LIMITS) -> PlainFile:
    """Copies the records with Python's tolerant csv module: short rows filled up, line ends and quotes made regular.

    Raises UnreadableFileError that names the line when a row has more fields than the header or a field is too long.
    """
    csv.field_size_limit(limits.line_bytes)
    width = len(dialect.columns)
    with (
        plain.path.open(encoding="utf-8", newline="") as source,
        NamedTemporaryFile("w", dir=scratch, prefix="records-", delete=False, encoding="utf-8", newline="") as target,
    ):
        copy = Path(target.name)
        reader = csv.reader(source, delimiter=dialect.delimiter)
        writer = csv.writer(target, delimiter=dialect.delimiter, lineterminator="\n")
        try:
            for record in reader:
                if not record:
                    continue
                if len(record) > width:
                    raise UnreadableFileError(
                        f"Line {reader.line_num:,} has {len(record):,} fields where the header has {width:,}; "
                        "quote fields that hold the delimiter and upload the file again."
                    )
                writer.writerow(record + [""] * (width - len(record)))
        except csv.Error as error:
            copy.unlink()
            raise UnreadableFileError(
                f"Line {reader.line_num:,} cannot be read ({error}); look for a quote that is not closed."
            ) from error
        except BaseException:
            copy.unlink()
            raise
    if plain.is_copy:
        plain.path.unlink()
    return replace(plain, path=copy, is_copy=True)


def has_regular_records(path: Path, limits: ReadLimits = DEFAULT_LIMITS) -> bool:
    """Checks the bounds of lines and quoted fields on the raw bytes (about 2 GB/s).

    Without it, one quote that is never closed makes polars take the rest of the file for one field.
    Raises UnreadableFileError for a line longer than the limit.
    """
    window = bytearray(limits.line_bytes)
    size = path.stat().st_size
    start, quotes, open_windows = 0, 0, 0
    with path.open("rb", buffering=0) as file:
        while start < size:
            file.seek(start)
            length = file.readinto(window) or 0
            end = window.rfind(b"\n", 0, length) + 1
            if start + length >= size:
                return True
            if end == 0:
                end = window.rfind(b"\r", 0, length) + 1
            if end == 0:
                raise UnreadableFileError(
                    f"The file has a line of more than {limits.line_bytes >> 20} MiB; is it really CSV or JSON Lines?"
                )
            quotes += window.count(b'"', 0, end)
            open_windows = open_windows + 1 if quotes % 2 else 0
            if open_windows >= OPEN_QUOTE_WINDOWS:
                return False
            start += end
    return True


def _sample_text(path: Path, limits: ReadLimits) -> tuple[str, bool]:
    with path.open("rb") as file:
        sample = file.read(limits.sample_bytes + 1)
    is_whole = len(sample) <= limits.sample_bytes
    text = sample.decode("utf-8", "replace")
    if not is_whole and "\n" not in text and "\r" not in text:
        raise UnreadableFileError(
            f"The first line is longer than {limits.sample_bytes >> 20} MiB; is the file really CSV?"
        )
    return text, is_whole


def _records(text: str, delimiter: str, is_whole: bool) -> list[list[str]]:
    """Returns the first records, without blank lines; the last of a cut sample may be half a record and is left out."""
    csv.field_size_limit(DEFAULT_LIMITS.line_bytes)
    reader: Iterator[list[str]] = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        records = [record for record in islice(reader, SAMPLE_RECORDS + 1) if record]
    except csv.Error as error:
        raise UnreadableFileError(f"The first lines cannot be read as CSV ({error}).") from error
    if not is_whole and len(records) > 1:
        records.pop()
    return records


def _detect_delimiter(text: str, is_whole: bool, name: str) -> str:
    """Returns the delimiter that splits the first records into the most fields, alike in at least nine of ten."""
    best, best_fields = ",", 1
    is_tabbed = name.lower().removesuffix(".gz").endswith((".tsv", ".tab"))
    for delimiter in ("\t",) if is_tabbed and "\t" in text else DELIMITERS:
        records = _records(text, delimiter, is_whole)
        if not records:
            continue
        fields, alike = Counter(len(record) for record in records).most_common(1)[0]
        if fields > best_fields and alike >= 0.9 * len(records):
            best, best_fields = delimiter, fields
    return best


def _is_data(first: list[str], rest: list[list[str]]) -> bool:
    """Returns whether the first record is a row: it has a number in every column that otherwise holds numbers."""

    def is_number(cell: str) -> bool:
        return NUMBER.fullmatch(cell.strip()) is not None

    def holds_numbers(position: int) -> bool:
        cells = [row[position].strip() for row in rest if position < len(row)]
        values = [cell for cell in cells if cell not in NULL_SPELLINGS]
        return bool(values) and all(is_number(value) for value in values)

    if not rest:
        return all(is_number(cell) for cell in first)
    numbers = [position for position in range(len(first)) if holds_numbers(position)]
    return bool(numbers) and all(is_number(first[position]) for position in numbers)
