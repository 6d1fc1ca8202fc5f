"""Reads JSON Lines as typed columns: one object on each line."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, pairwise
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import polars as pl

from shared.files.column_names import unique_names
from shared.files.column_types import (
    DATES,
    LARGEST_NUMBER,
    STRING,
    Choice,
    ColumnFacts,
    ColumnType,
    TypeReading,
    cleaned,
    col,
    examine,
    first_values,
    narrow,
    without_nulls,
)
from shared.files.errors import UnreadableFileError
from shared.files.formats import CHUNK_BYTES, PlainFile
from shared.files.limits import ReadLimits
from shared.files.notes import notes_of
from shared.files.sources import (
    POLARS_ERRORS,
    Expressions,
    TextSource,
    sample_rows,
)
from shared.files.stated_types import StatedTypes
from shared.files.structure import check_lengths
from shared.files.value_notes import EARLIEST_YEAR, ValueNotes
from shared.models.reading import ReadOptions, WarningCode

# Lines that Python's parser looks at.
EXAMINED_LINES = 10_000
_RAW = "\nraw "
_NAME_END = r'"\s*:'
_NAME = rf'"(?:[^"\\]|\\.)*{_NAME_END}'
_SURROGATE_BYTES = 4
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
JSON_TYPES: dict[frozenset[type], pl.DataType] = {
    frozenset({int}): pl.Int64(),
    frozenset({float}): pl.Float64(),
    frozenset({int, float}): pl.Float64(),
    frozenset({bool}): pl.Boolean(),
}

_NATIVE = {ColumnType.INTEGER: pl.Int64, ColumnType.FLOAT: pl.Float64, ColumnType.BOOLEAN: pl.Boolean}


class JsonLinesSource(TextSource):
    """One JSON object on each line. Columns are the union of all keys; nested values are kept as JSON text."""

    def __init__(self, plain: PlainFile, scratch: Path, limits: ReadLimits, options: ReadOptions) -> None:
        """Raises UnreadableFileError."""
        self.notes = notes_of(plain)
        self.plain = plain
        self._scratch = scratch
        self._limits = limits
        self._options = options
        self._stated = StatedTypes(options)
        self._path = plain.path
        self._is_verified = False
        # Names whose values are lists or objects.
        self._nested: set[str] = set()
        # Types of the values in the first lines.
        self._sample_kinds: dict[str, set[type]] = {}
        check_lengths(plain.path, limits)
        self._start(self._schema_of_file())

    def _start(self, schema: dict[str, pl.DataType]) -> None:
        if not schema:
            raise UnreadableFileError("The file has no rows with fields; upload one JSON object on each line.")
        self._limits.check_columns(len(schema))
        self._schema = schema
        names = unique_names(list(schema), self._limits)
        self._keys = dict(zip(names, schema, strict=True))
        self.notes.nested = {name for name, key in self._keys.items() if key in self._nested}
        self._readings: dict[str, TypeReading] = {}
        self._choices: dict[str, Choice] = {}
        self._guessed: set[str] = set()
        self._state_types()
        # Whole numbers that are too long for JSON's numbers: identifiers.
        self._identifiers = {name for name, key in self._keys.items() if schema[key] == pl.Int128}
        self._guess_types()

    def aggregate(
        self, expressions: Expressions, columns: Sequence[str] | None = None
    ) -> tuple[dict[str, Any], pl.Schema]:
        """See Source."""
        if columns is not None:
            self._verify()
        while True:
            names = list(self._keys) if columns is None else list(columns)
            checks = [] if self._is_verified else self._checks(names)
            schema = self._typed(names).collect_schema()
            typed = self._typed(names, with_raw=bool(checks))
            try:
                facts = typed.select(*expressions(schema), *checks).collect(engine="streaming").row(0, named=True)
            except POLARS_ERRORS as error:
                self._remedy(error)
                continue
            if not self._is_verified:
                early = [name for name in names if facts.get(f"{name}\nyear")]
                if not self._passes(facts, early):
                    continue
                self._is_verified = True
                self._note_values(early)
                self._note_mixtures()
            return facts, schema

    def _all_typed(self) -> pl.LazyFrame:
        return self._typed(list(self._keys))

    # Structure

    def _schema_of_file(self) -> dict[str, pl.DataType]:
        if self._has_odd_lines():
            return self._rewrite()
        try:
            found = pl.scan_ndjson(self._path, infer_schema_length=None).collect_schema()
        except POLARS_ERRORS:
            return self._rewrite()
        self._nested = {key for key, dtype in found.items() if dtype.is_nested()}
        return {key: _kept_type(dtype) for key, dtype in found.items()}

    def _has_odd_lines(self) -> bool:
        """Returns whether a line is beyond polars: no object, a name twice, NaN, half a letter.

        Only escapes are looked for in the whole file.
        """
        with self._path.open("rb") as file:
            for line in islice(file, EXAMINED_LINES):
                try:
                    row = json.loads(line if line.strip() else b"{}", object_pairs_hook=_unique, parse_constant=_refuse)
                    for key, value in row.items():
                        self._sample_kinds.setdefault(key, set()).add(_kind(value))
                except (ValueError, AttributeError, RecursionError):
                    return True
                # Before polars infers types, which takes much memory for many columns.
                self._limits.check_columns(len(self._sample_kinds))
            file.seek(0)
            end = b""
            while chunk := file.read(CHUNK_BYTES):
                if _SURROGATE.search(end + chunk):
                    return True
                end = chunk[-_SURROGATE_BYTES:]
        return False

    def _rewrite(self) -> dict[str, pl.DataType]:
        """Copies the file by Python's parser, for values that polars cannot read. Returns the types of the columns.

        A name that is repeated in an object gets a number. Raises UnreadableFileError naming the first line that is
        not a JSON object.
        """
        kinds: dict[str, dict[type, int]] = {}
        with (
            self._path.open("rb") as source,
            NamedTemporaryFile("w", dir=self._scratch, prefix="objects-", delete=False, encoding="utf-8") as target,
        ):
            copy = Path(target.name)
            try:
                for number, row in self._objects(source):
                    for key, value in row.items():
                        kinds.setdefault(key, {}).setdefault(type(value), number)
                    self._limits.check_columns(len(kinds))
                    target.write(json.dumps({key: _kept(value) for key, value in row.items()}) + "\n")
            except BaseException:
                copy.unlink()
                raise
        self._path = copy
        self._nested = {key for key, found in kinds.items() if found.keys() & {dict, list}}
        types = {
            key: JSON_TYPES.get(frozenset(found.keys() - {type(None)}), pl.String()) for key, found in kinds.items()
        }
        self._write_texts(copy, {key for key, dtype in types.items() if dtype == pl.String})
        return types

    def _note_mixtures(self) -> None:
        """Notes columns that are text only because their values have several types."""
        texts = [
            key
            for name, key in self._keys.items()
            if self._schema[key] == pl.String
            and name not in self._stated.names
            and self._sample_kinds.get(key, set()) - {type(None)} not in ({str}, {dict}, {list})
        ]
        if not texts:
            return
        kinds: dict[str, dict[type, int]] = {}
        counts: Counter[tuple[str, type]] = Counter()
        with self.plain.path.open("rb") as source:
            for number, line in enumerate(source, start=1):
                row = _read_again(line)
                for key in texts:
                    value = row.get(key)
                    if value is not None:
                        kinds.setdefault(key, {}).setdefault(_kind(value), number)
                        counts[key, _kind(value)] += 1
        for key, found in kinds.items():
            if len(found) > 1:
                rarest = min(found, key=lambda kind: counts[key, kind])
                self.notes.warn(
                    WarningCode.MIXED_TYPES,
                    f"The column '{key}' was read as text, because {counts[key, rarest]:,} of its values are of "
                    f"another type than the others, first in line {found[rarest]:,}.",
                    line=found[rarest],
                    column=key,
                )

    def _write_texts(self, copy: Path, texts: set[str]) -> None:
        """Writes all values of columns without a common type as text."""
        if not texts:
            return
        with (
            copy.open(encoding="utf-8") as source,
            NamedTemporaryFile("w", dir=self._scratch, prefix="texts-", delete=False, encoding="utf-8") as target,
        ):
            for line in source:
                row = json.loads(line)
                for key in texts & row.keys():
                    if row[key] is not None and not isinstance(row[key], str):
                        row[key] = json.dumps(row[key])
                target.write(json.dumps(row) + "\n")
        copy.unlink()
        self._path = Path(target.name)

    def _objects(self, source: Iterator[bytes]) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, line in enumerate(source, start=1):
            if not line.strip():
                continue
            constants: list[str] = []
            repeated: list[str] = []

            def keep(found: list[tuple[str, Any]], repeated: list[str] = repeated) -> dict[str, Any]:
                row = dict(found)
                if len(row) == len(found):
                    return row
                # Making many names distinct takes long.
                self._limits.check_columns(len(found))
                names = [name for name, _ in found]
                repeated.append(next(name for name, count in Counter(names).items() if count > 1))
                return dict(zip(unique_names(names), (value for _, value in found), strict=True))

            try:
                row = json.loads(line, parse_constant=constants.append, object_pairs_hook=keep)
            except (ValueError, RecursionError):
                row = None
            if not isinstance(row, dict):
                shown = line.decode("utf-8", "replace").strip()[:60]
                raise UnreadableFileError(
                    f"Line {number:,} is not a JSON object: '{shown}'. "
                    "Write one object on each line and upload it again."
                )
            if repeated:
                self.notes.warn(
                    WarningCode.COLUMN_NAME,
                    f"Line {number:,} has the name '{repeated[0][:60]}' more than once; its further values got another "
                    "name, such as the name with _2.",
                    line=number,
                )
            if infinite := [name for name in constants if name != "NaN"]:
                self.notes.warn(
                    WarningCode.VALUE,
                    f"Line {number:,} has {infinite[0]}, which was read as missing.",
                    line=number,
                )
            if b"\\u" in line:
                row = self._without_halves(number, row)
            yield number, row

    def _without_halves(self, number: int, row: dict[str, Any]) -> dict[str, Any]:
        """Replaces escapes of half a letter, which no encoding has, by U+FFFD."""
        text = json.dumps(row, ensure_ascii=False)
        whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        if whole == text:
            return row
        self.notes.warn(
            WarningCode.VALUE,
            f"Line {number:,} has half a letter (an escape such as \\ud83d alone), which was read as U+FFFD.",
            line=number,
        )
        replaced: dict[str, Any] = json.loads(whole)
        return replaced

    # Types

    def _state_types(self) -> None:
        """Reads columns as text whose type the owner states otherwise than JSON does."""
        for name, key in self._keys.items():
            kind = self._stated.of(name)
            if kind is ColumnType.FLOAT and self._schema[key] == pl.Int64:
                self._schema[key] = pl.Float64()
            elif kind is not None and _NATIVE.get(kind) != self._schema[key]:
                self._schema[key] = pl.String()

    def _guess_types(self) -> None:
        """Guesses the types of texts: dates, and what the owner states."""
        texts = [name for name, key in self._keys.items() if self._schema[key] == pl.String]
        count = sample_rows(len(self._schema))
        try:
            sample = self._raw(texts, count + 1).collect()
        except POLARS_ERRORS as error:
            self._report(error)
        self._guessed = set(texts) if sample.height > count else set()
        facts = self._examine(sample.lazy(), texts, is_sample=True)
        self._decide(facts)
        self._guessed -= {name for name in texts if facts[name].has_values and self._choices[name] == Choice(STRING)}
        if unclear := [name for name in self._guessed if self._is_unclear(name, facts[name])]:
            self._fix_types(unclear)

    def _examine(self, text: pl.LazyFrame, names: Sequence[str], *, is_sample: bool = False) -> dict[str, ColumnFacts]:
        guessed = [name for name in names if name not in self._stated.names]
        possible = self._stated.possible(names, narrow(first_values(text, guessed, self._options.nulls), DATES))
        return examine(text, possible, self._options.nulls, is_sample=is_sample, stated=self._stated.names)

    def _is_unclear(self, name: str, facts: ColumnFacts) -> bool:
        reading = self._readings[name]
        is_lenient = reading.type is ColumnType.BOOLEAN or reading.is_written
        return not facts.has_values or not facts.readings or bool(self._choices[name].open) or is_lenient

    def _decide(self, facts: dict[str, ColumnFacts]) -> None:
        self._choices |= {name: self._stated.choose(name, found) for name, found in facts.items()}
        self._readings |= {name: self._choices[name].reading for name in facts}

    def _fix_types(self, names: list[str]) -> None:
        try:
            self._decide(self._examine(self._raw(names), names))
        except POLARS_ERRORS as error:
            self._report(error)
        self._guessed -= set(names)

    def _passes(self, facts: dict[str, Any], early: Iterable[str]) -> bool:
        """Returns whether the guesses hold, and corrects those that do not."""
        if self._path == self.plain.path and _repeats_names(self._path, facts["\nvalues"]):
            self._start(self._rewrite())
            return False
        long = {name for name in self._keys if facts.get(f"{name}\nlong")}
        self._identifiers |= long
        # A guessed year may lack digits.
        guessed = self._guessed.intersection(early)
        if guessed:
            self._fix_types(list(guessed))
        return not long and not guessed

    def _checks(self, names: Sequence[str]) -> list[pl.Expr]:
        known = self._identifiers | self._stated.names
        whole = [name for name in names if self._schema[self._keys[name]].is_integer() and name not in known]
        dates = [name for name in names if name in self._readings and self._readings[name].is_date]
        values = [pl.col(_RAW + name) if name in self._readings else col(name) for name in names]
        return [
            pl.sum_horizontal(value.count() for value in values).alias("\nvalues"),
            *((col(name).abs() >= LARGEST_NUMBER).any().alias(f"{name}\nlong") for name in whole),
            *((col(name).dt.year() < EARLIEST_YEAR).any().alias(f"{name}\nyear") for name in dates),
        ]

    def _remedy(self, error: BaseException) -> None:
        if self._guessed:
            self._fix_types(list(self._guessed))
        else:
            self._report(error)

    def _report(self, error: BaseException) -> None:
        """Raises the error that names the first bad line, or the one that polars gave."""
        with self._path.open("rb") as source:
            for _ in self._objects(source):
                pass
        raise UnreadableFileError(
            "The file cannot be read as JSON Lines; write one flat object on each line and upload it again."
        ) from error

    # Frames

    def _raw(self, names: Sequence[str], rows: int | None = None) -> pl.LazyFrame:
        frame = pl.scan_ndjson(self._path, schema=self._schema, n_rows=rows)
        return frame.select(col(self._keys[name]).alias(name) for name in names)

    def _typed(self, names: Sequence[str], *, with_raw: bool = False) -> pl.LazyFrame:
        raw = [col(name).alias(_RAW + name) for name in names if with_raw and name in self._readings]
        return self._raw(names).select(*(self._value(name).alias(name) for name in names), *raw)

    def _value(self, name: str) -> pl.Expr:
        if name in self._identifiers:
            return col(name).cast(pl.String)
        if name not in self._readings:
            return col(name)
        reading = self._readings[name]
        if reading is STRING:
            return without_nulls(col(name), self._options.nulls)
        return reading.parse(cleaned(col(name), self._options.nulls), strict=name in self._guessed)

    # Notes

    def _note_values(self, early: Sequence[str]) -> None:
        values = ValueNotes(self.notes, self._raw, self._options.nulls, self._line_of)
        values.note_formats(self._choices)
        for name, choice in self._choices.items():
            if name in self._stated.names:
                values.note_misfits(name, choice.reading)
        for name in early:
            values.note_early(name, self._readings[name])
        self._stated.note_unknown(self._keys, self.notes)

    def _line_of(self, row: int) -> int:
        return self.lines_of([row])[0]

    def lines_of(self, records: Sequence[int]) -> list[int]:
        """See Source."""
        found: list[int] = []
        with self.plain.path.open("rb") as source:
            lines = (number for number, line in enumerate(source, start=1) if line.strip())
            for before, record in pairwise([-1, *records]):
                found.append(next(islice(lines, record - before - 1, None)))
        return found


def _repeats_names(path: Path, values: int) -> bool:
    """Returns whether an object has a name twice. ``values`` is the number of all values that are not null.

    polars would keep one of the two without a word. It counts names at a high speed. Only where there are more than
    values, because objects are nested, texts look like names, or a name is repeated, the names of a line are compared.
    """
    line = pl.col("line")
    lines = pl.scan_lines(path, name="line", glob=False)
    missing = lines.select(line.str.count_matches(_NAME_END).sum()).collect(engine="streaming").item() - values
    if missing <= 0:
        return False
    nulls = lines.select(line.str.count_matches(rf"{_NAME_END}\s*null").sum()).collect(engine="streaming").item()
    if missing <= nulls:
        return False
    names = line.str.extract_all(_NAME)
    repeating = lines.filter(names.list.n_unique() < names.list.len())
    # Names of nested objects may be repeated. One line shows it for all lines with the same names and braces.
    shape = line.str.extract_all(rf"{_NAME}|[{{}}]").list.join("").hash().alias("shape")
    examples = repeating.group_by(shape).agg(line.first()).collect(engine="streaming")
    return any(not _has_unique_names(text) for text in examples["line"])


def _has_unique_names(line: str) -> bool:
    try:
        json.loads(line, object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        return False
    return True


def _kept_type(dtype: pl.DataType) -> pl.DataType:
    """Returns the type in which values are read: nested and other values as text."""
    if dtype in (pl.Int64, pl.Int128, pl.Float64, pl.Boolean):
        return dtype
    return pl.Int128() if dtype == pl.UInt64 else pl.String()


def _kind(value: Any) -> type:
    return float if type(value) is int else type(value)


def _kept(value: Any) -> Any:
    is_long = isinstance(value, int) and not isinstance(value, bool) and abs(value) >= LARGEST_NUMBER
    if isinstance(value, dict | list):
        return json.dumps(value)
    return str(value) if is_long else value


def _read_again(line: bytes) -> dict[str, Any]:
    """Returns the object of a line; none for a line that only polars can parse, such as a deeply nested one."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return row if isinstance(row, dict) else {}


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("a name is repeated")
    return dict(pairs)


def _refuse(constant: str) -> Any:
    raise ValueError(constant)
