"""The client key: the value that names a customer, so that all spellings of it mean one customer."""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Annotated, Any

from pydantic import Field

from shared.models.base import ColumnName, Model

CLIENT_KEY_CHARACTERS = 200
DEFAULT_FIELDS = ("client_key", "customer_id", "customer_number", "client_id", "client_number", "id")
_FIELDS_LIMIT = 20
# Table programs write whole numbers of a column with gaps so.
_WHOLE_NUMBER = re.compile(r"([+-]?[0-9]+)\.0+")
# A key must fit an address: no control characters.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class ClientName:
    """The name of a customer: the field that holds it, and its value in the form in which values are compared."""

    field: str
    key: str

    @property
    def digest(self) -> str:
        return digest_of("client", self.key)


class ClientKeyRule(Model):
    """Which fields name a customer, and which spellings of a value mean the same customer.

    The first of ``fields`` that a client has names it. Case, blanks, hyphens and underscores in the names of fields do
    not matter: ``customerId`` is ``customer_id``. Values never differ by blanks at their ends, by the width of their
    letters, or as numbers: ``4``, ``4.0`` and ``"4"`` are one key.
    """

    fields: Annotated[list[ColumnName], Field(min_length=1, max_length=_FIELDS_LIMIT)] = Field(
        default=list(DEFAULT_FIELDS), description="the fields that name a customer; the first that is there counts"
    )
    ignore_case: bool = Field(default=True, description="`C-1` and `c-1` are one customer")
    ignore_leading_zeros: bool = Field(default=False, description="`007` and `7` are one customer")
    ignore_separators: bool = Field(default=False, description="`12-34`, `12 34`, `12.34` and `1234` are one customer")

    def name_of(self, content: Mapping[str, Any]) -> ClientName | None:
        """Returns the name of the customer whom the content describes, or ``None``."""
        return next((ClientName(field, key) for field, _, key in self._named(content)), None)

    def written_key(self, content: Mapping[str, Any]) -> str | None:
        """Returns the value of the name as it was sent."""
        return next((str(value) for _, value, _ in self._named(content)), None)

    def columns_of(self, names: Iterable[str]) -> list[str]:
        """Returns those of the names that are one of ``fields``, in the order in which they count."""
        spelled: dict[str, list[str]] = {}
        for name in sorted(names):
            spelled.setdefault(_plain(name), []).append(name)
        return [
            name
            for wanted in self.fields
            for name in sorted(spelled.get(_plain(wanted), ()), key=lambda each: each != wanted)
        ]

    def _named(self, content: Mapping[str, Any]) -> Iterator[tuple[str, Any, str]]:
        for field in self.columns_of(content):
            if key := self.key_of(content[field]):
                yield field, content[field], key

    def key_of(self, value: Any) -> str:
        """Returns the value in the form in which keys are compared; empty for a value that names nobody."""
        text = _text_of(value)
        if self.ignore_case:
            text = unicodedata.normalize("NFKC", text.casefold())
        if self.ignore_separators:
            text = "".join(letter for letter in text if letter.isalnum())
        if self.ignore_leading_zeros:
            text = text.lstrip("0") or text[-1:]
        return text if len(text) <= CLIENT_KEY_CHARACTERS and not _UNPRINTABLE.search(text) else ""


def digest_of(kind: str, text: str) -> str:
    return hashlib.sha256(f"{kind}\n{text}".encode(errors="replace")).hexdigest()


def _text_of(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    if isinstance(value, float):
        return f"{Decimal(repr(value)).normalize():f}"
    text = " ".join(unicodedata.normalize("NFKC", str(value)).split())
    whole = _WHOLE_NUMBER.fullmatch(text)
    return whole[1] if whole else text


# The rows of a table have the same names.
@lru_cache(maxsize=4096)
def _plain(field: str) -> str:
    return "".join(letter for letter in unicodedata.normalize("NFKC", field).casefold() if letter.isalnum())
