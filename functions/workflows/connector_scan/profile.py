"""What is in one file: rows, and for each column its type, nulls, distinct values and range."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from functions.workflows.connector_scan.column_details import DESCRIBED_COLUMNS, ColumnDetails, describe, sample_of
from shared.files.basic_types import type_of
from shared.files.column_types import ColumnType, col
from shared.files.formats import FileFormat
from shared.files.limits import DEFAULT_LIMITS, ReadLimits
from shared.files.notes import ReadNotes
from shared.files.readers import NO_OPTIONS, opened
from shared.files.sources import Source, count_blank_rows
from shared.models.reading import ReadOptions

EXACT_DISTINCT_BYTES = 32 << 20
EXACT_DISTINCT_CELLS = 20_000_000
EXACT_DISTINCT_COLUMNS = 500


@dataclass(frozen=True)
class ColumnProfile:
    """One column. `minimum` and `maximum` are given for numbers and dates (dates as ISO 8601 text)."""

    name: str
    type: ColumnType
    nulls: int
    distinct: int
    distinct_is_estimate: bool = field(default=False, compare=False, kw_only=True)
    minimum: int | float | str | None = None
    maximum: int | float | str | None = None


@dataclass(frozen=True)
class FileProfile:
    """One file's content."""

    format: FileFormat
    rows: int
    columns: tuple[ColumnProfile, ...]
    # Details by column name, from a sample of the first rows; in very wide files only of the first columns.
    details: Mapping[str, ColumnDetails] = field(default_factory=dict, compare=False)
    sampled_rows: int = field(default=0, compare=False)
    notes: ReadNotes = field(default_factory=ReadNotes, compare=False)


def profile_file(
    path: Path,
    name: str | None = None,
    *,
    limits: ReadLimits = DEFAULT_LIMITS,
    options: ReadOptions = NO_OPTIONS,
) -> FileProfile:
    """Profile a local file in one streaming pass where the guess about its types holds, else in up to three.

    Nulls do not count as a distinct value. `distinct` is exact up to 32 MiB of decoded file, 500 columns and
    20 million Parquet cells, above that HyperLogLog's estimate, off by up to about 10%
    and never more than rows and range allow. A range has no end where it goes on to infinity. The first rows are read
    once more for the columns' details.
    Raises UnreadableFileError, whose message is meant for the file's owner.
    """
    with opened(path, name=name, limits=limits, options=options) as source:
        counts_exactly = _is_small(source)
        is_text = source.plain.format is not FileFormat.PARQUET

        rows, columns, sampled = 0, [], 0
        details: dict[str, ColumnDetails] = {}
        for batch in source.batches():
            facts, schema = _summarise(source, batch, counts_exactly=counts_exactly, is_text=is_text)
            rows = facts["\nrows"] - facts["\nblank rows"]
            is_estimate = not (counts_exactly and len(schema) <= EXACT_DISTINCT_COLUMNS)
            found = [
                _column(name, dtype, facts, is_text=is_text, is_estimate=is_estimate) for name, dtype in schema.items()
            ]
            columns += found
            if len(details) < DESCRIBED_COLUMNS:
                sample = source.collect(partial(sample_of, columns=list(schema)))
                details |= describe(sample, {column.name: column.type.value for column in found})
                sampled = sample.height
        return FileProfile(
            format=source.plain.format,
            rows=rows,
            columns=tuple(columns),
            details=details,
            sampled_rows=min(sampled, rows),
            notes=source.notes,
        )


def _summarise(
    source: Source, batch: list[str] | None, *, counts_exactly: bool, is_text: bool
) -> tuple[dict[str, Any], pl.Schema]:
    """Returns the facts of some columns, by the columns' names and a letter each, and the columns' types."""

    def summary(schema: pl.Schema) -> list[pl.Expr]:
        is_exact = counts_exactly and len(schema) <= EXACT_DISTINCT_COLUMNS
        facts = [
            pl.len().alias("\nrows"),
            count_blank_rows(list(schema)) if is_text else pl.lit(0).alias("\nblank rows"),
        ]
        for name, dtype in schema.items():
            column = col(name)
            facts.append((column.n_unique() if is_exact else column.approx_n_unique()).alias(f"{name}\nd"))
            facts.append(column.null_count().alias(f"{name}\nn"))
            if dtype.is_numeric() or dtype.is_temporal():
                facts += [column.min().alias(f"{name}\na"), column.max().alias(f"{name}\nz")]
        return facts

    return source.aggregate(summary, batch)


def _is_small(source: Source) -> bool:
    """Returns whether distinct values can be counted exactly at a bounded cost."""
    if source.plain.path.stat().st_size > EXACT_DISTINCT_BYTES:
        return False
    if source.plain.format is not FileFormat.PARQUET:
        return True
    rows = source.collect(lambda frame: frame.select(pl.len())).item()
    width = len(source.frame().collect_schema())
    return bool(rows * width <= EXACT_DISTINCT_CELLS)


def _column(name: str, dtype: pl.DataType, facts: dict[str, Any], *, is_text: bool, is_estimate: bool) -> ColumnProfile:
    blank = facts["\nblank rows"]
    rows, nulls, distinct = facts["\nrows"] - blank, facts[f"{name}\nn"] - blank, facts[f"{name}\nd"]
    minimum, maximum = facts.get(f"{name}\na"), facts.get(f"{name}\nz")
    # Both counts of distinct values take null for a value; an estimate may pass what rows and range allow.
    distinct = min(max(distinct - (1 if nulls + blank else 0), 0 if nulls == rows else 1), rows - nulls)
    if isinstance(minimum, int) and isinstance(maximum, int):
        distinct = min(distinct, maximum - minimum + 1)
    elif type(minimum) is date and type(maximum) is date:
        distinct = min(distinct, (maximum - minimum).days + 1)
    elif dtype == pl.Boolean:
        distinct = min(distinct, 2)
    return ColumnProfile(
        name=name,
        type=ColumnType.STRING if is_text and nulls == rows else type_of(dtype),
        nulls=nulls,
        distinct=distinct,
        distinct_is_estimate=is_estimate,
        minimum=_bound(minimum),
        maximum=_bound(maximum),
    )


def _bound(value: object) -> int | float | str | None:
    match value:
        case datetime():
            return value.isoformat() + "Z"
        case date():
            return value.isoformat()
        case float():
            return value if math.isfinite(value) else None
        case int():
            return value
        case _:
            return None
