"""Base classes and field types of all entities, requests and responses."""

from datetime import UTC, datetime
from typing import Annotated, Any, Generic, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    WithJsonSchema,
)

T = TypeVar("T")


def parse_timestamp(value: Any) -> Any:
    """Returns an aware UTC datetime for RFC 3339 text. A date without a time is midnight UTC.

    A ``+`` that arrived as a space (an unescaped query value) is read as the offset's sign. Raises ValueError.
    """
    if isinstance(value, str):
        text = value.strip().upper()  # RFC 3339 allows t and z, too
        if len(text) > len("2026-01-01T00:00:00") and text[-6] == " ":
            text = f"{text[:-6]}+{text[-5:]}"
        try:
            value = datetime.fromisoformat(text)
        except ValueError:
            raise ValueError("is not an RFC 3339 time such as 2026-01-31T09:30:00Z") from None
    if not isinstance(value, datetime):
        raise ValueError("is not an RFC 3339 time such as 2026-01-31T09:30:00Z")
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError:
        raise ValueError("is outside the years 1 to 9999 in UTC") from None


def end_of_day(value: Any) -> Any:
    """Returns the end of the day for a date without a time, else the value. It runs before ``parse_timestamp``."""
    return f"{value.strip()}T23:59:59.999999Z" if isinstance(value, str) and len(value.strip()) == 10 else value


def format_timestamp(value: datetime) -> str:
    """Returns RFC 3339 in UTC with microseconds and a ``Z``. The texts sort as their times do."""
    return value.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def parse_whole_number(value: Any) -> Any:
    """Returns 3 for 3.0, which is the same number in JSON; some clients write all numbers with a point."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


# Of strict integers, which refuse truth values and texts.
ALSO_WITH_POINT = BeforeValidator(parse_whole_number)
Timestamp = Annotated[
    datetime,
    BeforeValidator(parse_timestamp),
    PlainSerializer(format_timestamp, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
EndTimestamp = Annotated[Timestamp, BeforeValidator(end_of_day)]
# Lengths count without blanks at the ends. The pattern only documents that.
NotBlank = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1), Field(json_schema_extra={"pattern": r"\S"})
]
Name = Annotated[NotBlank, StringConstraints(max_length=200)]
Description = Annotated[str, StringConstraints(max_length=10_000)]
ColumnName = Annotated[str, StringConstraints(min_length=1, max_length=500)]
# The name of a language model.
ModelName = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=300)]
Identifier = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class Model(BaseModel):
    """Base class of requests, responses and stored entities.

    Routes refuse unknown fields (``shared/http/nested_fields.py``). Stored entities ignore them, so that a version
    reads what a later version wrote.
    """

    # The texts of errors go to the logs, so they leave out what customers sent. A request uses few models, so each one
    # is built at its first use.
    model_config = ConfigDict(
        extra="ignore",
        ser_json_inf_nan="null",
        protected_namespaces=(),
        hide_input_in_errors=True,
        defer_build=True,
    )


# The default of a required field in a partial update: absent keeps the value, ``null`` fails the field's own type.
KEEP: Any = Field(default_factory=lambda: None)


class PartialUpdate(Model):
    """A partial update: an absent field keeps its value, ``null`` clears an optional one.

    Fields that can't be cleared are declared without ``None`` and with the default ``KEEP``.
    """

    def changes(self) -> dict[str, Any]:
        """Returns the fields the client sent, with their new values."""
        return {name: getattr(self, name) for name in self.model_fields_set}


class Entity(Model):
    """Base class of what a space stores."""

    id: str
    created_at: Timestamp
    updated_at: Timestamp
    version: int = Field(default=1, exclude=True, repr=False)


class Deleted(Model):
    id: str


class Page(Model, Generic[T]):
    """One page of a list. ``count`` is the number of all matching items, on all pages."""

    count: int
    data: list[T]
    has_more: bool


class SearchedPage(Page[T]):
    """A page of a list that is searched row by row, at most 1,000 rows a request."""

    next_after: str | None = Field(
        default=None,
        description="the `after` of the next page; with a filter, a page may have fewer rows than `limit`, or none, "
        "although there are more: go on while `has_more` is true",
    )
    count_capped: bool = Field(default=False, description="whether `count` covers only the newest 1000 rows")
