"""Reads the JSON of servers that we do not run: whatever they send, the result can be stored and sent on."""

import json
import math
import re
from typing import Any

# The values that DynamoDB, pydantic and JSON writers take without a limit of their own being met.
DEPTH_LIMIT = 20
LARGEST_NUMBER = 2**63
# Lists, objects and keys take many times the memory of their text.
PARTS_LIMIT = 500_000
# Only content with one of these needs a second look: half of a surrogate pair, or a number that may be too large.
_SUSPECT = re.compile(rb"\\u[dD][89a-fA-F]|[0-9]{19}|[0-9][eE]\+?[0-9]{2}")


class ForeignJsonError(ValueError):
    """Error raised for content that is not JSON, or that is nested too deeply."""


def parse(content: bytes | str) -> Any:
    """Returns the value of a JSON text.

    NaN and numbers beyond 64 bits become ``None``, and a half of a surrogate pair becomes U+FFFD. Raises
    ForeignJsonError, also for more parts than PARTS_LIMIT.
    """
    raw = content if isinstance(content, bytes) else whole_text(content).encode()
    containers = raw.count(b"[") + raw.count(b"{")
    if containers + raw.count(b":") > PARTS_LIMIT:
        raise ForeignJsonError("The content has too many parts.")
    try:
        value = _DECODER.decode(raw.decode("utf-8-sig", "replace"))
    except (ValueError, RecursionError):
        raise ForeignJsonError("The content is not JSON.") from None
    if containers > DEPTH_LIMIT or _SUSPECT.search(raw):
        return _harmless(value, DEPTH_LIMIT)
    return value


def _nothing(_: str) -> None:
    """Replaces NaN and the infinities, which are no JSON."""


_DECODER = json.JSONDecoder(parse_constant=_nothing)


def _harmless(value: Any, levels: int) -> Any:
    match value:
        case str():
            return whole_text(value)
        case bool() | None:
            return value
        case int() | float():
            return value if math.isfinite(value) and abs(value) <= LARGEST_NUMBER else None
        case _ if not levels:
            raise ForeignJsonError("The content is nested too deeply.")
        case dict():
            return {whole_text(key): _harmless(each, levels - 1) for key, each in value.items()}
        case _:
            return [_harmless(each, levels - 1) for each in value]


def whole_text(text: str) -> str:
    """Returns the text with each half of a surrogate pair replaced."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
