"""Reads the JSON of servers that we do not run. The result can be stored and sent on."""

import json
import re
from typing import Any

# The values that DynamoDB, pydantic and JSON writers take without a limit of their own being met.
DEPTH_LIMIT = 20
LARGEST_NUMBER = 2**63
# Lists, objects and keys take many times the memory of their text.
PARTS_LIMIT = 500_000
_FIRST_HALF, _SECOND_HALF = re.compile("[\ud800-\udbff]$"), re.compile("^[\udc00-\udfff]")


class ForeignJsonError(ValueError):
    """Error raised for content that is not JSON, or that is nested too deeply."""


def parse(content: bytes | str) -> Any:
    """Returns the value of a JSON text.

    NaN and numbers beyond 64 bits become ``None``, and a half of a surrogate pair becomes U+FFFD. Raises
    ForeignJsonError, also for more parts than PARTS_LIMIT.
    """
    value, is_suspect = decoded(content)
    return harmless(value) if is_suspect else value


def decoded(content: bytes | str) -> tuple[Any, bool]:
    """Returns the value of a JSON text, and whether it needs ``harmless``. Raises the errors of ``parse``."""
    raw = content if isinstance(content, bytes) else whole_text(content).encode()
    containers = raw.count(b"[") + raw.count(b"{")
    if containers + raw.count(b":") > PARTS_LIMIT:
        raise ForeignJsonError("The content has too many parts.")
    try:
        value = _DECODER.decode(raw.decode("utf-8-sig", "replace"))
    except (ValueError, RecursionError):
        raise ForeignJsonError("The content is not JSON.") from None
    # Only an escape can write half of a surrogate pair here.
    return value, containers > DEPTH_LIMIT or b"\\ud" in raw or b"\\uD" in raw


def harmless(value: Any, levels: int = DEPTH_LIMIT) -> Any:
    """Returns the decoded value without halves of surrogate pairs. Raises ForeignJsonError for deep nesting."""
    match value:
        case str():
            return whole_text(value)
        case dict() | list() if not levels:
            raise ForeignJsonError("The content is nested too deeply.")
        case dict():
            return {whole_text(key): harmless(each, levels - 1) for key, each in value.items()}
        case list():
            return [harmless(each, levels - 1) for each in value]
    return value


def joined(first: Any, second: Any, levels: int = DEPTH_LIMIT) -> tuple[Any, Any]:
    """Returns two values that follow each other, with each character whole that begins in one and ends in the other.

    Strings belong together if they have the same place. Raises ForeignJsonError for deep nesting.
    """
    match first, second:
        case (str(), str()):
            if _FIRST_HALF.search(first) and _SECOND_HALF.search(second):
                return first + second[0], second[1:]
        case _ if not levels:
            raise ForeignJsonError("The content is nested too deeply.")
        case (dict(), dict()):
            pairs = {key: joined(first[key], second[key], levels - 1) for key in first.keys() & second.keys()}
            return (
                {**first, **{key: pair[0] for key, pair in pairs.items()}},
                {**second, **{key: pair[1] for key, pair in pairs.items()}},
            )
        case (list(), list()):
            both = [joined(one, other, levels - 1) for one, other in zip(first, second, strict=False)]
            count = len(both)
            return [one for one, _ in both] + first[count:], [other for _, other in both] + second[count:]
    return first, second


def whole_text(text: str) -> str:
    """Returns the text with each half of a surrogate pair joined to the other half, or replaced with U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _integer(digits: str) -> int | None:
    number = int(digits) if len(digits) <= 20 else None
    return number if number is not None and abs(number) <= LARGEST_NUMBER else None


def _decimal(digits: str) -> float | None:
    number = float(digits)
    return number if abs(number) <= LARGEST_NUMBER else None


def _nothing(_: str) -> None:
    """Replaces NaN and the infinities, which are no JSON."""


# Models and careless servers write line breaks into strings as they are.
_DECODER = json.JSONDecoder(parse_int=_integer, parse_float=_decimal, parse_constant=_nothing, strict=False)
