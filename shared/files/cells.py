"""What a single cell of delimited text looks like at a quick look, which decides about marks and headers."""

import re

from shared.files.column_types import LIKE_A_DATE, LIKE_A_NUMBER
from shared.models.missing_values import MISSING, MISSING_WORDS

_NUMBER = re.compile(LIKE_A_NUMBER)
_DATE = re.compile(LIKE_A_DATE)
_TRUTH = re.compile(r"true|false|yes|no|t|f|y|n", re.IGNORECASE)
_WORDS = re.compile(r"[^\W_][\w '\u2019.@/&()+#%:!?-]*")


def is_known(cell: str) -> bool:
    """Returns whether a cell is missing, a number, a date, or words."""
    text = cell.strip()
    return (
        is_missing(text)
        or _NUMBER.fullmatch(text) is not None
        or _DATE.fullmatch(text) is not None
        or _WORDS.fullmatch(text) is not None
    )


def is_missing(cell: str) -> bool:
    """Returns whether a cell spells a missing value."""
    return (text := cell.strip()) in MISSING or text in MISSING_WORDS


def is_text(cell: str) -> bool:
    """Returns whether a cell has text that is no number, date or truth value."""
    return not is_missing(cell) and kind_of(cell) == "text"


def kind_of(cell: str) -> str:
    """Returns ``number``, ``date``, ``truth`` or ``text``."""
    text = cell.strip()
    if _NUMBER.fullmatch(text):
        return "number"
    if _DATE.fullmatch(text):
        return "date"
    return "truth" if _TRUTH.fullmatch(text) else "text"
