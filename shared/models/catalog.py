"""The catalog: results of the scans of a connector's files."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Literal

from pydantic import Field

from shared.models.base import Model, Timestamp

Bound = int | float | str
ColumnTypeName = Literal["int", "float", "boolean", "date", "datetime", "string"]


class CatalogStatus(StrEnum):
    """``pending`` means that the file is new or has changed, and is not scanned yet."""

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
    min: Bound | None = None
    max: Bound | None = None
    quantiles: dict[str, float] | None = None
    top_values: list[TopValue] = Field(default_factory=list)
    personal_data: PersonalData | None = None


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
    scanned_at: Timestamp | None = None
    version_id: str | None = Field(default=None, exclude=True)
    # S3's order of events for the key; comparable as text once padded to the same length.
    sequencer: str | None = Field(default=None, exclude=True)
    scan_id: str | None = Field(default=None, exclude=True)


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
        name=column.name, type=column.type, nulls=column.nulls, distinct=column.distinct, personal_data=found
    )
