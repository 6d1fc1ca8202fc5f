"""Reads JSON Lines as typed columns: one object on each line."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import polars as pl

from shared.files.column_types import (
    DATES,
    LARGEST_NUMBER,
    STRING,
    Choice,
    TypeReading,
    choose,
    cleaned,
    col,
    examine,
    first_values,
    narrow,
    without_nulls,
)
from shared.files.dialects import unique_names
from shared.files.errors import UnreadableFileError
from shared.files.formats import CHUNK_BYTES, PlainFile
from shared.files.limits import ReadLimits
from shared.files.notes import notes_of
from shared.files.sources import (
    POLARS_ERRORS,
    Expressions,
    TextSource,
    first_line,
    sample_rows,
)
from shared.files.structure import check_lengths
from shared.models.reading import ReadOptions, WarningCode

# Lines in which duplicate names are looked for; polars would keep the first of two values without a word.
EXAMINED_LINES = 10_000
_SURROGATE_BYTES = 4
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
JSON_TYPES: dict[frozenset[type], pl.DataType] = {
    frozenset({int}): pl.Int64(),
    frozenset({float}): pl.Float64(),
    frozenset({int, float}): pl.Float64(),
    frozenset({bool}): pl.Boolean(),
}


class JsonLinesSource(TextSource):
    """One JSON object on each line. Columns are the union of all keys; nested values are kept as JSON text."""

    def __init__(self, plain: PlainFile, scratch: Path, limits: ReadLimits, options: ReadOptions) -> None:
        """Raises UnreadableFileError."""
        self.notes = notes_of(plain)
        self.plain = plain
        self._scratch = scratch
        self._limits = limits
        self._options = options
        self._path = plain.path
        self._is_verified = False
        # Types of the values in the first lines.
        self._sample_kinds: dict[str, set[type]] = {}
        check_lengths(plain.path, limits)
        schema = self._schema_of_file()
        if not schema:
            raise UnreadableFileError("The file has no rows with fields; upload one JSON object on each line.")
        limits.check_columns(len(schema))
        self._schema = schema
        names = unique_names(list(schema), limits)
        self._keys = dict(zip(names, schema, strict=True))
        # Whole numbers that are too long for JSON's numbers: identifiers.
        self._identifiers = {name for name, key in self._keys.items() if schema[key] == pl.Int128}
        self._readings: dict[str, TypeReading] = {}
        self._choices: dict[str, Choice] = {}
        self._guessed: set[str] = set()
        self._guess_dates()

    def aggregate(
        self, expressions: Expressions, columns: Sequence[str] | None = None
    ) -> tuple[dict[str, Any], pl.Schema]:
        """See Source."""
        while True:
            names = list(self._keys) if columns is None else list(columns)
            typed = self._typed(names)
            try:
                schema = typed.collect_schema()
                facts = typed.select(*expressions(schema), *self._checks(names)).collect(engine="streaming")
            except POLARS_ERRORS as error:
                self._remedy(error)
                continue
            found = facts.row(0, named=True)
            long = {name for name in names if found.pop(f"{name}\nlong", False)}
            if not long:
                break
            self._identifiers |= long
        if not self._is_verified and columns is None:
            self._is_verified = True
            self._note_formats()
            self._note_mixtures()
        return found, schema

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
        types = {
            key: JSON_TYPES.get(frozenset(found.keys() - {type(None)}), pl.String()) for key, found in kinds.items()
        }
        self._write_texts(copy, {key for key, dtype in types.items() if dtype == pl.String})
        return types

    def _note_mixtures(self) -> None:
        """Notes columns that are text only because their values have several types."""
        texts = [
            key
            for key, dtype in self._schema.items()
            if dtype == pl.String and self._sample_kinds.get(key, set()) - {type(None)} not in ({str}, {dict}, {list})
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
            pairs: list[list[tuple[str, Any]]] = []

            def keep(found: list[tuple[str, Any]], pairs: list[list[tuple[str, Any]]] = pairs) -> dict[str, Any]:
                pairs.append(found)
                return dict(found)

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
            if len(pairs[-1]) > len(row):
                self._limits.check_columns(len(pairs[-1]))
                row = dict(
                    zip(unique_names([key for key, _ in pairs[-1]]), (value for _, value in pairs[-1]), strict=True)
                )
                self.notes.warn(
                    WarningCode.COLUMN_NAME,
                    f"Line {number:,} has a name more than once; its further values were read as columns of their own.",
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

    def _guess_dates(self) -> None:
        texts = [name for name, key in self._keys.items() if self._schema[key] == pl.String]
        count = sample_rows(len(self._schema))
        try:
            sample = self._raw(texts, count + 1).collect()
        except POLARS_ERRORS as error:
            self._report(error)
        self._guessed = set(texts) if sample.height > count else set()
        possible = narrow(first_values(sample.lazy(), texts, self._options.nulls), DATES)
        facts = examine(sample.lazy(), possible, self._options.nulls, is_sample=True)
        self._decide(facts)
        self._guessed -= {name for name in texts if facts[name].has_values and not facts[name].readings}
        unclear = [name for name in self._guessed if not facts[name].has_values or self._choices[name].open]
        if unclear:
            self._fix_dates(unclear)

    def _decide(self, facts: dict[str, Any]) -> None:
        formats = self._options.date_formats or {}
        stated = self._options.types or {}
        for name, found in facts.items():
            choice = choose(found, None, formats.get(name, self._options.date_format))
            if stated.get(name, "date") not in ("date", "datetime"):
                choice = Choice(STRING)
            self._choices[name] = choice
            self._readings[name] = choice.reading

    def _fix_dates(self, names: list[str]) -> None:
        try:
            possible = narrow(first_values(self._raw(names), names, self._options.nulls), DATES)
            self._decide(examine(self._raw(names), possible, self._options.nulls))
        except POLARS_ERRORS as error:
            self._report(error)
        self._guessed -= set(names)

    def _checks(self, names: Sequence[str]) -> list[pl.Expr]:
        whole = [
            name for name in names if self._schema[self._keys[name]].is_integer() and name not in self._identifiers
        ]
        return [(col(name).abs() >= LARGEST_NUMBER).any().alias(f"{name}\nlong") for name in whole]

    def _remedy(self, error: BaseException) -> None:
        if self._guessed:
            self._fix_dates(list(self._guessed))
        else:
            self._report(error)

    def _report(self, error: BaseException) -> None:
        """Raises the error that names the first bad line, or the one that polars gave."""
        with self._path.open("rb") as source:
            for _ in self._objects(source):
                pass
        raise UnreadableFileError(f"The file cannot be read as JSON Lines ({first_line(error)}).") from error

    # Frames

    def _raw(self, names: Sequence[str], rows: int | None = None) -> pl.LazyFrame:
        frame = pl.scan_ndjson(self._path, schema=self._schema, n_rows=rows)
        return frame.select(col(self._keys[name]).alias(name) for name in names)

    def _typed(self, names: Sequence[str]) -> pl.LazyFrame:
        return self._raw(names).select(self._value(name).alias(name) for name in names)

    def _value(self, name: str) -> pl.Expr:
        if name in self._identifiers:
            return col(name).cast(pl.String)
        if name not in self._readings:
            return col(name)
        reading = self._readings[name]
        if reading is STRING:
            return without_nulls(col(name), self._options.nulls)
        return reading.parse(cleaned(col(name), self._options.nulls), strict=name in self._guessed)

    def _note_formats(self) -> None:
        for name, kind in (self._options.types or {}).items():
            if name in self._keys and kind not in ("string", "date", "datetime"):
                message = (
                    f"The stated type {kind} of the column '{name}' was not used, because JSON states types itself."
                )
                self.notes.warn(WarningCode.VALUE, message, column=name)
        for name, choice in self._choices.items():
            readings = choice.open or ((choice.reading,) if choice.reading.format else ())
            if readings:
                self.notes.formats[name] = [reading.format or "" for reading in readings]
            if choice.open:
                formats = " or as ".join(self.notes.formats[name])
                self.notes.warn(
                    WarningCode.DATE_FORMAT,
                    f"The dates of the column '{name}' can be read as {formats}, so the column was read as text. "
                    "State its format in `date_formats`.",
                    column=name,
                )


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
