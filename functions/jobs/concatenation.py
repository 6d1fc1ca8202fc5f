"""One table from the files of a job: columns of one name come together, and their dates are read in one way."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from functions.jobs.modelling.frames import NOTHING, DateFormats
from shared.files.column_types import col
from shared.files.parquet_files import basic_type
from shared.propensity.dates import date_order, date_part, date_readings, has_time, is_iso, may_contradict
from shared.propensity.tables import clean_text, times_of

Formats = Mapping[str, Sequence[str]]
# Up to it, a day may be a month.
_MONTHS = 12


@dataclass(frozen=True)
class FileRows:
    """The rows of a file, and the formats under which the reader can read all dates of a column.

    A column with several is text, because the file alone leaves its dates open.
    """

    rows: pl.DataFrame
    formats: Formats = field(default_factory=dict)


@dataclass(frozen=True)
class Concatenation:
    """The rows of all files, the formats in which their dates are written, and notes about these."""

    rows: pl.DataFrame
    formats: DateFormats
    notes: list[str]


class DatesOfColumn:
    """The dates that several files hold in one column."""

    def __init__(self, name: str, files: Sequence[FileRows]) -> None:
        self.name = name
        # What differs from the files.
        self.changed: dict[int, pl.Series] = {}
        self._files = {index: file for index, file in enumerate(files) if name in file.rows.columns}
        self._read: dict[int, str] = {}
        self._open: dict[int, list[str]] = {}
        self._chosen: dict[int, str] = {}
        for index, file in self._files.items():
            written = [each for each in file.formats.get(name, ()) if date_part(each)]
            if written and file.rows.schema[name].is_temporal():
                self._read[index] = written[0]
            elif written and file.rows.schema[name] == pl.String:
                self._open[index] = written

    def follow(self, model_formats: Sequence[str]) -> None:
        """Turns dates that a reader took for others than a model would back into text, which the model reads.

        They stay if one of their days is no month, for then the reader is right.
        """
        others = {
            index: written
            for index, written in self._read.items()
            if written not in model_formats and any(may_contradict(written, each) for each in model_formats)
        }
        if all(_are_months(self._series(index).dt.day()) for index in others):
            for index, written in others.items():
                self.changed[index] = _as_written(self._series(index), written)
                del self._read[index]

    def resolve(self) -> None:
        """Reads the dates that a file leaves open as the other files write theirs."""
        orders = {date_order(each) for each in self._read.values()}
        if not orders and self._open:
            orders = set.intersection(*({date_order(each) for each in formats} for formats in self._open.values()))
        known = {date_part(each) for each in self._read.values()}
        for index, formats in self._open.items():
            fitting = [each for each in formats if date_order(each) in orders]
            fitting = [each for each in fitting if date_part(each) in known] or fitting
            dates = _as_dates(self._series(index), fitting[0]) if len(fitting) == 1 else None
            if dates is not None:
                self.changed[index] = dates
                self._chosen[index] = fitting[0]

    @property
    def is_open(self) -> bool:
        """Returns whether a file still leaves its dates open."""
        return len(self._chosen) < len(self._open)

    @property
    def is_contradictory(self) -> bool:
        """Returns whether a text can be a date in one file and another date in another file."""
        return any(may_contradict(one, other) for one in self._written for other in self._written)

    @property
    def formats(self) -> list[str] | None:
        """Returns the formats other than ISO, ``None`` if the files contradict each other and leave a date open."""
        if self.is_contradictory:
            return None if self.is_open else []
        return [each for each in self._written if not is_iso(each)]

    @property
    def note(self) -> str:
        """Returns what the contradiction means to the owner of the files."""
        forms = " and ".join(f"'{date_part(each)}'" for each in self._written)
        result = "so the column stays text" if self.is_open else "so predictions need ISO dates (2026-01-31)"
        return (
            f"Files write the dates of the column '{self.name}' in contradictory ways, {forms}, {result}. "
            "Write them in one way, or state the date_format of each file in its read options."
        )

    def _series(self, index: int) -> pl.Series:
        return self._files[index].rows[self.name]

    @property
    def _written(self) -> list[str]:
        return list(dict.fromkeys((*self._read.values(), *self._chosen.values())))


def concatenate(files: Sequence[FileRows], model_formats: Formats = NOTHING) -> Concatenation:
    """Returns one table under another.

    Columns are matched by name, and types that have nothing in common become text. Dates that one file leaves open are
    read as the other files write them. ``model_formats`` are those in which a model reads texts.
    """
    frames = [file.rows for file in files]
    formats: dict[str, list[str] | None] = {}
    notes: list[str] = []
    for name in dict.fromkeys(name for file in files for name in file.formats):
        dates = DatesOfColumn(name, files)
        dates.follow(model_formats.get(name, ()))
        dates.resolve()
        for index, series in dates.changed.items():
            frames[index] = frames[index].with_columns(series)
        if dates.is_contradictory:
            notes.append(dates.note)
        if dates.is_contradictory or not dates.is_open:
            formats[name] = dates.formats
    return Concatenation(_stack(frames), formats, notes)


def _stack(frames: Iterable[pl.DataFrame]) -> pl.DataFrame:
    frames = _of_one_type(list(frames))
    try:
        return pl.concat(frames, how="diagonal_relaxed")
    except pl.exceptions.SchemaError:
        types: dict[str, set[str]] = {}
        for frame in frames:
            for name, dtype in frame.schema.items():
                types.setdefault(name, set()).add(str(dtype))
        mixed = [name for name, found in types.items() if len(found) > 1]
        texts = [
            frame.with_columns(col(name).cast(pl.String) for name in set(mixed) & set(frame.columns))
            for frame in frames
        ]
        return pl.concat(texts, how="diagonal_relaxed")


def _of_one_type(frames: list[pl.DataFrame]) -> list[pl.DataFrame]:
    """Returns the basic types of those columns whose types differ: single precision has other texts than double."""
    types: dict[str, set[pl.DataType]] = {}
    for frame in frames:
        for name, dtype in frame.schema.items():
            types.setdefault(name, set()).add(dtype)
    mixed = {name for name, found in types.items() if len(found) > 1}

    def basic(frame: pl.DataFrame) -> list[pl.Expr]:
        numbers = {name: dtype for name, dtype in frame.schema.items() if name in mixed and dtype.is_numeric()}
        return [col(name).cast(basic_type(dtype)) for name, dtype in numbers.items()]

    return [frame.with_columns(basic(frame)) for frame in frames]


def _are_months(days: pl.Series) -> bool:
    return bool((days.drop_nulls() <= _MONTHS).all())


def _as_written(series: pl.Series, written: str) -> pl.Series:
    """Returns dates as the text that they were read from."""
    return series.dt.to_string(f"{date_part(written)} %H:%M:%S" if has_time(written) else date_part(written) or "")


def _as_dates(texts: pl.Series, written: str) -> pl.Series | None:
    """Returns the dates that texts of one format mean, or ``None`` if some can't be read."""
    cleaned = clean_text(texts)
    seconds = times_of(cleaned, date_readings((written,)))
    if np.isnan(seconds).sum() > cleaned.null_count():
        return None
    moments = pl.Series(texts.name, seconds * 1e6).fill_nan(None).cast(pl.Int64).cast(pl.Datetime("us"))
    return moments if has_time(written) else moments.cast(pl.Date)
