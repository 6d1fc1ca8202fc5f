"""A preview of a file: its first rows, as given options read them."""

from typing import Annotated, Literal

from pydantic import Field

from shared.models.base import ALSO_WITH_POINT, Model
from shared.models.connector import FileName
from shared.models.reading import ColumnTypeName, FileDialect, ReadOptions, ReadWarning

PREVIEW_ROWS_LIMIT = 100


class PreviewRequest(Model):
    file: FileName
    read_options: ReadOptions | None = Field(
        default=None, description="options to try, over those of the connector and the file; they are not stored"
    )
    rows: Annotated[int, ALSO_WITH_POINT] = Field(default=20, strict=True, ge=1, le=PREVIEW_ROWS_LIMIT)


class PreviewColumn(Model):
    name: str
    type: ColumnTypeName
    formats: list[str] = Field(description="formats of dates or numbers under which all values can be read")


class Preview(Model):
    """The first rows of a file. Dates are ISO 8601 texts, and long texts are cut."""

    format: Literal["csv", "parquet", "jsonl"]
    encoding: str | None
    dialect: FileDialect | None
    columns: list[PreviewColumn] = Field(description="the first 1000 columns")
    rows: list[list[str | int | float | bool | None]] = Field(description="values by column")
    warnings: list[ReadWarning] = Field(description="the first warnings of the reader")
    warning_count: int = Field(description="number of all warnings")
    affected_rows: int = Field(description="rows that were left out or repaired")
    is_partial: bool = Field(description="whether only the beginning of the file was read")
