"""Describes columns from a sample of rows: quantiles, the most frequent values, personal data."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import polars as pl

from functions.workflows.connector_scan.personal_data import find_personal_data
from shared.files.column_types import col
from shared.models.catalog import PersonalData, TopValue
from shared.models.reading import ColumnTypeName

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
SAMPLE_ROWS = 10_000
SAMPLE_CELLS = 2_000_000
FEWEST_ROWS = 100
DESCRIBED_COLUMNS = 2_000
TOP_VALUES = 10
# A column with a different value in nearly every row is no category; its values would only identify rows.
TOP_VALUES_SHARE = 0.5
EXAMINED_VALUES = 500
TEXT_CHARACTERS = 100


@dataclass(frozen=True)
class ColumnDetails:
    """Details of one column. A column with personal data has no other details."""

    quantiles: dict[str, float] | None = None
    top_values: tuple[TopValue, ...] = ()
    personal_data: PersonalData | None = None


def sample_of(frame: pl.LazyFrame, columns: Iterable[str]) -> pl.LazyFrame:
    """Returns the first rows, 10,000 or fewer of wide files, with long texts cut off."""
    names = list(columns)[:DESCRIBED_COLUMNS]
    rows = min(SAMPLE_ROWS, max(FEWEST_ROWS, SAMPLE_CELLS // max(1, len(names))))
    schema = frame.collect_schema()
    return frame.head(rows).select(
        col(name).str.slice(0, TEXT_CHARACTERS) if schema[name] == pl.String else col(name) for name in names
    )


def describe(sample: pl.DataFrame, types: Mapping[str, ColumnTypeName]) -> dict[str, ColumnDetails]:
    """Returns the details of each column of a sample."""
    # Under its own name, polars could take a series for a pattern of names.
    return {
        series.name: _describe(series.name, series.alias("value").drop_nulls(), types[series.name]) for series in sample
    }


def _describe(name: str, values: pl.Series, kind: ColumnTypeName) -> ColumnDetails:
    counts = values.value_counts(sort=True)
    distinct = counts[values.name].head(EXAMINED_VALUES).cast(pl.String).to_list()
    if personal_data := find_personal_data(name, kind, distinct, len(values)):
        return ColumnDetails(personal_data=personal_data)
    return ColumnDetails(
        quantiles=_quantiles(values) if kind in ("int", "float") else None,
        top_values=tuple(_top_values(counts, len(values))) if kind in ("string", "boolean", "int") else (),
    )


def _quantiles(values: pl.Series) -> dict[str, float] | None:
    finite = values.filter(values.is_finite()) if values.dtype.is_float() else values
    if finite.is_empty():
        return None
    return {str(share): float(finite.quantile(share) or 0) for share in QUANTILES}


def _top_values(counts: pl.DataFrame, rows: int) -> Iterable[TopValue]:
    if len(counts) <= TOP_VALUES_SHARE * rows:
        for value, count in counts.head(TOP_VALUES).iter_rows():
            yield TopValue(value=str(value).lower() if isinstance(value, bool) else str(value), rows=count)
