"""The basic types, by polars' types."""

import polars as pl

from shared.files.column_types import ColumnType


def type_of(dtype: pl.DataType) -> ColumnType:
    """Returns the basic type of a column that a reader returns."""
    for polars_type, column_type in (
        (pl.Int64, ColumnType.INTEGER),
        (pl.Float64, ColumnType.FLOAT),
        (pl.Boolean, ColumnType.BOOLEAN),
        (pl.Date, ColumnType.DATE),
        (pl.Datetime, ColumnType.DATETIME),
    ):
        if isinstance(dtype, polars_type):
            return column_type
    return ColumnType.STRING
