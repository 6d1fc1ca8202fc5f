"""The catalog: results of the scans of a connector's files."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Literal

from pydantic import Field

from shared.models.base import Model, PartialUpdate, Timestamp
from shared.models.reading import ColumnTypeName, FileDialect, ReadOptions, ReadWarning

Bound = int | float | str


class CatalogStatus(StrEnum):
    """``pending``: the file is new, has changed or has other read options, and no scan has read it since."""

    PENDING = "pending"
    SCANNED = "scanned"
    ERROR = "error"


class PersonalDataKind(StrEnum):
    """How personal data was found. ``stated``: the connector's owner says so."""

    EMAIL = "email"
    PHONE = "phone"
    IBAN = "iban"
    CARD = "card"
    NATIONAL_ID = "national_id"
    PERSON_NAME = "person_name"
    ADDRESS = "address"
    DATE_OF_BIRTH = "date_of_birth"
    STATED = "stated"


class PersonalData(Model):
    """Trainings leave direct identifiers out. The connector's ``personal_data`` overrides what a scan finds."""

    kind: PersonalDataKind
    is_direct: bool = Field(description="whether it identifies a person alone, as an address or a number does")
    reason: str


class TopValue(Model):
    value: str
    rows: int


class CatalogColumn(Model):
    """One column. Only numbers and dates have ``minimum`` and ``maximum``.

    Quantiles, the most frequent values and personal data come from the entry's ``sampled_rows``. A direct
    identifier shows neither values nor a range.
    """

    name: str
    type: ColumnTypeName
    nulls: int
    distinct: int
    distinct_is_estimate: bool = False
    min: Bound | None = None
    max: Bound | None = None
    quantiles: dict[str, float] | None = None
    top_values: list[TopValue] = Field(default_factory=list)
    personal_data: PersonalData | None = None
    formats: list[str] = Field(
        default_factory=list,
        description="formats of dates or numbers under which all values can be read; several: the file leaves it open",
    )


class CatalogEntry(Model):
    """One file. A profile belongs to exactly the content of ``etag``."""

    file: str
    size_bytes: int | None = None
    etag: str | None = None
    format: Literal["csv", "parquet", "jsonl"] | None = None
    rows: int | None = None
    columns: list[CatalogColumn] = Field(default_factory=list)
    status: CatalogStatus
    sampled_rows: int | None = Field(default=None, description="number of first rows that give the columns' details")
    error: str | None = None
    encoding: str | None = Field(default=None, description="encoding of a text file")
    dialect: FileDialect | None = None
    read_options: ReadOptions | None = Field(default=None, description="what is stated for this file alone")
    warnings: list[ReadWarning] = Field(default_factory=list, description="the first warnings of the reader")
    warning_count: int = Field(default=0, description="number of all warnings")
    affected_rows: int = Field(default=0, description="rows that were left out or repaired")
    scanned_at: Timestamp | None = None
    version_id: str | None = Field(default=None, exclude=True)
    # S3's order of events for the key; comparable as text once padded to the same length.
    sequencer: str | None = Field(default=None, exclude=True)
    scan_id: str | None = Field(default=None, exclude=True)
    # Of the read options that the scan used.
    options_digest: str | None = Field(default=None, exclude=True)


class CatalogEntryUpdate(PartialUpdate):
    read_options: ReadOptions | None = Field(
        default=None,
        description="how this file is written; each of these options replaces the connector's, and null removes them",
    )


def overridden(column: CatalogColumn, statements: Mapping[str, bool]) -> CatalogColumn:
    """Returns the column as the connector's owner says it is: with personal data, or without any."""
    stated = statements.get(column.name)
    if stated is None or stated is (column.personal_data is not None and column.personal_data.is_direct):
        return column
    if not stated:
        return column.model_copy(update={"personal_data": None})
    reason = "the connector's personal_data says so"
    found = PersonalData(kind=PersonalDataKind.STATED, is_direct=True, reason=reason)
    return CatalogColumn(
        name=column.name,
        type=column.type,
        nulls=column.nulls,
        distinct=column.distinct,
        distinct_is_estimate=column.distinct_is_estimate,
        personal_data=found,
        formats=column.formats,
    )
