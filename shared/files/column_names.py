"""Names of columns, however their writers join words."""

import re

_BETWEEN_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[\s.-]+")


def snake_case(name: str) -> str:
    """Returns ``customer_id`` for ``customerId``, ``Customer ID`` and ``customer-id``."""
    return _BETWEEN_WORDS.sub("_", name.strip()).lower()
