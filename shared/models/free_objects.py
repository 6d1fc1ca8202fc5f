"""Checks of objects with free content."""

import json
import math
from typing import Any

OBJECT_BYTES = 100_000
OBJECT_VALUES = 10_000
OBJECT_DEPTH = 20
OBJECT_DIGITS = 38
OBJECT_KEY_CHARACTERS = 500


def check_object(data: dict[str, Any]) -> dict[str, Any]:
    """Returns the object if it can be stored. Raises ValueError for its size, depth, numbers or keys."""
    values = 0
    waiting: list[tuple[Any, int]] = [(data, 1)]
    while waiting:
        value, depth = waiting.pop()
        values += 1
        if values > OBJECT_VALUES:
            raise ValueError(f"holds more than {OBJECT_VALUES:,} values")
        if depth > OBJECT_DEPTH:
            raise ValueError(f"is nested more than {OBJECT_DEPTH} levels deep")
        if isinstance(value, dict):
            for key in value:
                _check_key(key)
            waiting += ((item, depth + 1) for item in value.values())
        elif isinstance(value, list):
            waiting += ((item, depth + 1) for item in value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            _check_number(value)
    try:
        size = len(json.dumps(data, ensure_ascii=False).encode())
    except UnicodeEncodeError:
        raise ValueError("is not valid Unicode") from None
    if size > OBJECT_BYTES:
        raise ValueError(f"holds more than {OBJECT_BYTES // 1000} KB of JSON")
    return data


def _check_key(key: str) -> None:
    if not key:
        raise ValueError("has an empty key: name it")
    if len(key) > OBJECT_KEY_CHARACTERS:
        raise ValueError(f"has a key of more than {OBJECT_KEY_CHARACTERS} characters")


def _check_number(value: float) -> None:
    """DynamoDB keeps 38 digits, from 1e-128 to 1e126."""
    if not math.isfinite(value):
        raise ValueError("holds a number that is not finite")
    if (isinstance(value, int) and abs(value) >= 10**OBJECT_DIGITS) or (value and not 1e-128 < abs(value) < 1e125):
        raise ValueError(f"holds a number beyond {OBJECT_DIGITS} digits, or 1e-128 to 1e125: send it as text")
