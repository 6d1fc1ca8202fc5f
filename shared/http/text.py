"""Refuses JSON bodies with text that no other system accepts."""

import json
import re
from typing import Any

from fastapi import Request

from shared.errors import ValidationFailedError

# The JSON parser accepts half of a surrogate pair as an escape, as bytes of UTF-8, and in UTF-16 and UTF-32.
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]|\xed[\xa0-\xbf]")


async def require_whole_characters(request: Request) -> None:
    """Raises ValidationFailedError for half of a surrogate pair in a JSON body. It names the field."""
    if "json" not in request.headers.get("content-type", "").lower():
        return
    body = await request.body()
    if not _SURROGATE.search(body) and b"\0" not in body[:4]:
        return
    try:
        found = _broken(json.loads(body), "body")
    except (ValueError, RecursionError):  # FastAPI refuses it
        return
    if found:
        raise ValidationFailedError.of(found, "is not valid Unicode: it has half of a surrogate pair")


def _broken(value: Any, place: str) -> str | None:
    """Returns the place of the first text that is not valid Unicode."""
    if isinstance(value, str):
        return None if _is_whole(value) else place
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in inner:
        if not _is_whole(str(name)):
            return place
        if found := _broken(each, f"{place}.{name}"):
            return found
    return None


def _is_whole(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
