"""One data file as a typed, lazy polars frame: CSV, Parquet or JSON Lines, read in streaming."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from shared.files.csv_files import CsvSource
from shared.files.formats import FileFormat, PlainFile, to_plain_file
from shared.files.json_files import JsonLinesSource
from shared.files.limits import DEFAULT_LIMITS, ReadLimits
from shared.files.parquet_files import ParquetSource
from shared.files.sources import Source
from shared.files.stated_types import StatedTypes
from shared.models.reading import ReadOptions, WarningCode

NO_OPTIONS = ReadOptions()


def scan_frame(
    path: str | Path,
    format: FileFormat | None = None,
    *,
    name: str | None = None,
    scratch: str | Path | None = None,
    limits: ReadLimits = DEFAULT_LIMITS,
    options: ReadOptions = NO_OPTIONS,
) -> pl.LazyFrame:
    """Returns one file as a lazy frame of Int64, Float64, Boolean, Date, Datetime (UTC, microseconds) and String
    columns.

    Types hold over the whole file, never only a sample: `1` and `1.5` make a float column, values that share no type
    make a string column. Spellings of missing values are nulls, and rows of a text file in which nothing
    but nulls are left out. Without `format`, the content and `name` decide.
    A file that is compressed or not UTF-8 is decoded into `scratch` (by default beside it), which must outlive the
    frame and is the caller's to remove. Raises UnreadableFileError, whose message is meant for the file's owner.
    """
    path = Path(path)
    folder = Path(scratch) if scratch else path.parent
    return open_source(path, format, name=name, scratch=folder, limits=limits, options=options).frame()


@contextmanager
def opened(
    path: Path,
    format: FileFormat | None = None,
    *,
    name: str | None = None,
    limits: ReadLimits = DEFAULT_LIMITS,
    options: ReadOptions = NO_OPTIONS,
) -> Iterator[Source]:
    """Yields a source, and removes its decoded copies at the end."""
    with TemporaryDirectory(prefix="scan-", dir=path.parent) as scratch:
        yield open_source(path, format, name=name, scratch=Path(scratch), limits=limits, options=options)


def open_source(
    path: Path,
    format: FileFormat | None,
    *,
    name: str | None,
    scratch: Path,
    limits: ReadLimits,
    options: ReadOptions = NO_OPTIONS,
) -> Source:
    """Returns the reader for the file's format, which its beginning shows."""
    plain = to_plain_file(path, scratch, name=name, format=format, limits=limits, encoding=options.encoding)
    source = _source(plain, scratch, limits, options)
    if unused := StatedTypes(options).unused_by(plain.format):
        message = f"The read options {' and '.join(unused)} were not used, because {plain.format} states its own types."
        source.notes.warn(WarningCode.DIALECT, message)
    return source


def _source(plain: PlainFile, scratch: Path, limits: ReadLimits, options: ReadOptions) -> Source:
    match plain.format:
        case FileFormat.CSV:
            return CsvSource(plain, scratch, limits, options)
        case FileFormat.JSON_LINES:
            return JsonLinesSource(plain, scratch, limits, options)
        case FileFormat.PARQUET:
            return ParquetSource(plain, limits, options)
