"""Names of columns, however their writers join words."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from shared.files.limits import DEFAULT_LIMITS, ReadLimits
from shared.text.comparison import comparable_text

# pandas writes the names of rows under such names, of which lower case is compared.
NAMES_OF_ROW_NUMBERS = ("unnamed: 0", "__index_level_0__")
_BETWEEN_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[\s.-]+")
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def clean_name(name: str) -> str:
    """Returns a name as people see it: without zero-width characters, control characters, and blanks around it.

    A name with U+200B or a byte order mark in it looks like another one, and would not be found by it.
    """
    visible = "".join(character for character in name if unicodedata.category(character) != "Cf")
    return _CONTROL_CHARACTERS.sub(" ", visible).strip()


def snake_case(name: str) -> str:
    """Returns ``customer_id`` for ``customerId``, ``Customer ID`` and ``customer-id``."""
    return comparable_text(_BETWEEN_WORDS.sub("_", unicodedata.normalize("NFKC", name).strip()))


def unique_names(names: Sequence[str], limits: ReadLimits = DEFAULT_LIMITS) -> tuple[str, ...]:
    """Returns printable, bounded and distinct column names in the same order."""
    taken: set[str] = set()
    unique = []
    reserved = Counter(names)
    # The first suffix of each name that may be free, so that many equal names take no time each.
    suffixes: dict[str, int] = {}
    for position, raw in enumerate(names, start=1):
        base = clean_name(raw)[: limits.column_name_characters] or f"column_{position}"
        name, suffix = base, suffixes.get(raw, 2) if base == raw else 2
        while name in taken or (name != raw and name in reserved):
            name, suffix = f"{base}_{suffix}", suffix + 1
        suffixes[base] = suffix
        taken.add(name)
        unique.append(name)
    return tuple(unique)
