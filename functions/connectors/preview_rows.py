"""Reads the first rows of a local file. It runs in a child process, because customers write the files."""

import math
from datetime import date, datetime
from pathlib import Path
from typing import Any

import polars as pl

from shared.bounds import PREVIEWED_FILE
from shared.files.basic_types import type_of
from shared.files.column_types import col
from shared.files.formats import FileFormat
from shared.files.limits import ReadLimits
from shared.files.readers import opened
from shared.files.sources import Source, is_blank_row
from shared.models.preview import Preview, PreviewColumn
from shared.models.reading import ReadOptions

COLUMNS_LIMIT = 1000
TEXT_CHARACTERS = 200
# A text may have rows without values among its first ones. They are no rows of the data.
BLANK_ROWS = 100
# A Lambda function answers at most 6 MB.
ROWS_BYTES = 3_000_000
LIMITS = ReadLimits(decoded_bytes=PREVIEWED_FILE.size_bytes, columns=PREVIEWED_FILE.columns)


def read_rows(path: str, name: str, options: dict[str, Any], rows: int) -> dict[str, Any]:
    """Returns the JSON of the file's preview. Raises UnreadableFileError."""
    stated = ReadOptions.model_validate(options)
    with opened(Path(path), name=name, limits=LIMITS, options=stated) as source:
        return _preview(source, rows).model_dump(mode="json", exclude={"is_partial"})


def _preview(source: Source, rows: int) -> Preview:
    empty = _empty_columns(source) if _is_text(source) else set()
    parts = [_first_rows(source, columns, rows + BLANK_ROWS) for columns in source.batches()]
    frame = pl.concat(parts, how="horizontal")[:, :COLUMNS_LIMIT]
    if _is_text(source):
        frame = frame.filter(~is_blank_row(frame.columns))
    notes = source.notes
    return Preview(
        format=source.plain.format.value,
        encoding=notes.encoding,
        dialect=notes.dialect,
        columns=[
            PreviewColumn(
                name=name,
                type="string" if name in empty else type_of(dtype).value,
                formats=notes.formats.get(name, []),
            )
            for name, dtype in frame.schema.items()
        ],
        rows=_shown_rows(frame.head(rows)),
        warnings=notes.warnings,
        warning_count=notes.warning_count,
        affected_rows=notes.affected_rows,
        is_partial=False,
    )


def _is_text(source: Source) -> bool:
    return source.plain.format is not FileFormat.PARQUET


def _empty_columns(source: Source) -> set[str]:
    """Returns the columns without values. That reads every row, after which the source's notes are complete."""
    facts, schema = source.aggregate(lambda schema: [col(name).count() for name in schema])
    return {name for name in schema if facts[name] == 0}


def _first_rows(source: Source, columns: list[str] | None, rows: int) -> pl.DataFrame:
    def query(frame: pl.LazyFrame) -> pl.LazyFrame:
        names = frame.collect_schema().names()[:COLUMNS_LIMIT] if columns is None else columns
        return frame.select(col(name) for name in names).head(rows)

    return source.collect(query)


def _shown_rows(frame: pl.DataFrame) -> list[list[Any]]:
    shown: list[list[Any]] = []
    size = 0
    for row in frame.iter_rows():
        values = [_shown(value) for value in row]
        size += sum(len(value.encode()) if isinstance(value, str) else 8 for value in values)
        if shown and size > ROWS_BYTES:
            break
        shown.append(values)
    return shown


def _shown(value: Any) -> Any:
    match value:
        case str():
            return value[:TEXT_CHARACTERS]
        case datetime():
            return f"{value.isoformat()}Z"
        case date():
            return value.isoformat()
        case float():
            return value if math.isfinite(value) else None
    return value
