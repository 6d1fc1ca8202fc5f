"""Converts the columns of a file to the fields of a persona."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pydantic import ValidationError

from shared.files.errors import UnreadableFileError
from shared.models.persona import PersonaCreate
from shared.secret_names import find_secret
from shared.text.comparison import comparable_text

# The headings of each field, in normalised form. Other columns go to `data`.
HEADINGS = {
    "name": ("name", "fullname"),
    "birthdate": ("birthdate", "dateofbirth", "birthday", "dob"),
    "notes": ("notes", "note", "comments", "comment"),
}
HEADING_CHARACTERS = 100
KEYS = 1_000
SHOWN_HEADINGS = 20
SHOWN_CHARACTERS = 60
_MIDNIGHT = re.compile(r"\s*([0-9]{4}-[0-9]{2}-[0-9]{2})[T ]00:00(:00(\.0+)?)?(Z|\+00:00)?\s*")


@dataclass(frozen=True)
class PersonaRow:
    """The persona of one row. ``number`` is the row in a spreadsheet or the position in a list, from 1."""

    number: int
    persona: PersonaCreate


@dataclass(frozen=True)
class RefusedRow:
    """A row that cannot be used, with the reason."""

    number: int
    reason: str


FileRow = PersonaRow | RefusedRow


@dataclass(frozen=True)
class UnusableCell:
    """A cell that causes its row to be refused, with the reason."""

    reason: str


class AmbiguousHeadingsError(ValueError):
    """Error raised when two headings have the same meaning."""


def normalised_heading(heading: str) -> str:
    """Returns the letters and digits in lower case, so that ``Date of Birth`` and ``date_of_birth`` are equal."""
    folded = comparable_text(heading[: HEADING_CHARACTERS + 1])
    return "".join(character for character in folded if character.isalnum())


@lru_cache(maxsize=256)
def field_positions(headings: tuple[str, ...]) -> dict[str, int]:
    """Returns the positions of the columns for name, birthdate and notes. Raises AmbiguousHeadingsError."""
    normalised = [normalised_heading(heading) for heading in headings]
    positions = {}
    for field, names in HEADINGS.items():
        exact = [position for position, heading in enumerate(normalised) if heading == field]
        found = exact or [position for position, heading in enumerate(normalised) if heading in names]
        if len(found) > 1:
            columns = " and ".join(repr(headings[position]) for position in found[:2])
            raise AmbiguousHeadingsError(f"{columns} both mean the {field}: rename one of them")
        if found:
            positions[field] = found[0]
    return positions


def is_blank(cells: Sequence[Any]) -> bool:
    """Returns whether a row has no value."""
    return all(cell is None or (isinstance(cell, str) and not cell.strip()) for cell in cells)


class HeadedTable:
    """The columns of a file that has a heading row."""

    def __init__(self, headings: Sequence[str], limit: int) -> None:
        """Raises UnreadableFileError if there are too many columns, or if a persona's column is missing."""
        names = [heading.strip() for heading in headings]
        while names and not names[-1]:
            names.pop()
        if len(names) > limit:
            raise UnreadableFileError(f"has more than {limit} columns, which is the limit: remove some columns")
        names = [name or f"column_{position}" for position, name in enumerate(names, start=1)]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise UnreadableFileError(f"has two columns called {_shown(twice)}: rename one of them")
        try:
            self._fields = field_positions(tuple(names))
        except AmbiguousHeadingsError as error:
            raise UnreadableFileError(f"has columns of the same meaning: {error}") from None
        if missing := [field for field in HEADINGS if field not in self._fields]:
            shown = ", ".join(_shown(name) for name in names[:SHOWN_HEADINGS]) or "none"
            more = f" and {len(names) - SHOWN_HEADINGS} more" if len(names) > SHOWN_HEADINGS else ""
            raise UnreadableFileError(
                f"has no column for {' and '.join(missing)}; the first row must name the columns; it has {shown}{more}"
            )
        self._others = [(name, place) for place, name in enumerate(names) if place not in self._fields.values()]
        self._width = len(names)

    def row(self, number: int, cells: Sequence[Any]) -> FileRow:
        """Returns the persona of the cells, or a refused row. Empty cells do not go to ``data``."""
        for position, cell in enumerate(cells):
            if isinstance(cell, UnusableCell):
                return RefusedRow(number, f"the cell in column {position + 1} {cell.reason}")
        if any(cell not in (None, "") for cell in cells[self._width :]):
            return RefusedRow(number, f"has {len(cells)} cells, but the first row names {self._width} columns")
        values = {field: _text(cells[place]) if place < len(cells) else "" for field, place in self._fields.items()}
        others = [(name, cells[place]) for name, place in self._others if place < len(cells)]
        data = {name: cell for name, cell in others if cell not in (None, "")}
        return persona_row(number, {**values, "data": data or None})


def object_row(number: int, value: Any) -> FileRow:
    """Returns the persona of a JSON object, or a refused row. Unknown keys go to ``data``."""
    if not isinstance(value, dict):
        return RefusedRow(number, "is not a JSON object")
    keys = list(value)
    if len(keys) > KEYS:
        return RefusedRow(number, f"has more than {KEYS:,} keys")
    try:
        positions = field_positions(tuple(keys))
    except AmbiguousHeadingsError as error:
        return RefusedRow(number, str(error))
    fields = {field: value[keys[position]] for field, position in positions.items()}
    used = {keys[position] for position in positions.values()}
    data = {key: item for key, item in value.items() if key not in used}
    if isinstance(nested := data.get("data"), dict):
        del data["data"]
        data = {**nested, **data}
    elif nested is None:
        data.pop("data", None)
    return persona_row(number, {**fields, "data": data or None})


def persona_row(number: int, values: dict[str, Any]) -> FileRow:
    """Returns the persona with these fields, or a refused row."""
    if secret := find_secret(values.get("data")):
        return RefusedRow(number, f"the key '{secret}' has the name of a secret: leave secrets out of the file")
    if isinstance(birthdate := values.get("birthdate"), str) and (midnight := _MIDNIGHT.fullmatch(birthdate)):
        values["birthdate"] = midnight[1]
    try:
        return PersonaRow(number, PersonaCreate.model_validate(values))
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        message = str(problem["msg"]).removeprefix("Value error, ")
        return RefusedRow(number, f"{'.'.join(str(part) for part in problem['loc'])[:SHOWN_CHARACTERS]}: {message}")


def _text(cell: Any) -> str:
    """Returns the text of the cell as a spreadsheet shows it."""
    if cell is None:
        return ""
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)


def _shown(heading: str) -> str:
    return repr(heading if len(heading) <= SHOWN_CHARACTERS else f"{heading[:SHOWN_CHARACTERS]}…")
