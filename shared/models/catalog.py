"""The catalog: what scans found in the files of a connector."""

from enum import StrEnum
from typing import Literal

from pydantic import Field

from shared.models.base import Model, Timestamp

Bound = int | float | str
ColumnTypeName = Literal["int", "float", "boolean", "date", "datetime", "string"]


class CatalogStatus(StrEnum):
    """``pending``: the file came or changed and is not scanned yet."""

    PENDING = "pending"
    SCANNED = "scanned"
    ERROR = "error"


class CatalogColumn(Model):
    """One column. ``minimum`` and ``maximum`` stand for numbers and dates only."""

    name: str
    type: ColumnTypeName
    nulls: int
    distinct: int
    min: Bound | None = None
    max: Bound | None = None


class CatalogEntry(Model):
    """One file. A profile belongs to exactly the content of ``etag``."""

    file: str
    size_bytes: int | None = None
    etag: str | None = None
    format: Literal["csv", "parquet", "jsonl"] | None = None
    rows: int | None = None
    columns: list[CatalogColumn] = Field(default_factory=list)
    status: CatalogStatus
    error: str | None = None
    scanned_at: Timestamp | None = None
    version_id: str | None = Field(default=None, exclude=True)
    # S3's order of events for the key; comparable as text once padded to the same length.
    sequencer: str | None = Field(default=None, exclude=True)
    scan_id: str | None = Field(default=None, exclude=True)
