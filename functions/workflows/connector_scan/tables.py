"""A table that was copied out of a database, as a Parquet file: what scans and jobs read ever after."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from shared.files.column_types import col
from shared.files.errors import UnreadableFileError
from shared.files.sources import POLARS_ERRORS

NULL = "\\N"
ROW_GROUP_ROWS = 100_000


def write_parquet(rows: str, columns: Sequence[tuple[str, str]], target: str) -> None:
    """Turns a file of CSV without a header, texts after a point and nulls spelled ``\\N``, into Parquet, in streaming.

    ``columns`` are names and types. Raises UnreadableFileError for a value that is not of its column's type.
    """
    texts = pl.Schema({name: pl.String() for name, _ in columns})
    values = [_value(name, kind) for name, kind in columns]
    try:
        if Path(rows).stat().st_size == 0:
            pl.DataFrame(schema=texts).select(values).write_parquet(target)
            return
        frame = pl.scan_csv(rows, has_header=False, schema=texts, null_values=NULL, glob=False)
        frame.select(values).sink_parquet(target, row_group_size=ROW_GROUP_ROWS)
    except POLARS_ERRORS as error:
        raise UnreadableFileError(
            "The table can't be read, because a value is not of its column's type; name the others to scan."
        ) from error


def _value(name: str, kind: str) -> pl.Expr:
    text = col(name)
    match kind:
        case "int":
            return text.cast(pl.Int64)
        case "float":
            return text.cast(pl.Float64)
        case "boolean":
            return text == "t"
        case "date":
            return text.str.to_date("%Y-%m-%d")
        case "datetime":
            return text.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="us")
        case _:
            return text.str.slice(1)
