"""Names of columns, however their writers join words."""

import re
import unicodedata

from shared.text.comparison import comparable_text

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
