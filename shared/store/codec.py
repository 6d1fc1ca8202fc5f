"""Between pydantic models and DynamoDB attribute values."""

import json
import math
from datetime import datetime
from decimal import Decimal, DecimalException
from enum import Enum
from typing import Any, cast

from boto3.dynamodb.types import DYNAMODB_CONTEXT, TypeDeserializer, TypeSerializer
from pydantic import BaseModel

from shared.errors import PayloadTooLargeError, ValidationFailedError
from shared.models.base import format_timestamp

AttributeValue = dict[str, Any]

# DynamoDB nests 32 levels and holds 400 KB an item.
DEPTH_LIMIT = 28
ITEM_SIZE_LIMIT = 350_000

_serializer = TypeSerializer()
_deserializer = TypeDeserializer()


def _number(value: int | float) -> Decimal:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValidationFailedError("Numbers must be finite: NaN and infinity can't be stored.")
    try:
        return DYNAMODB_CONTEXT.create_decimal(repr(value))
    except DecimalException:
        raise ValidationFailedError(
            f"The number {value!r:.60} can't be stored: at most 38 digits, between 1e-128 and 1e126 in size."
        ) from None


def _text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValidationFailedError("Text must be valid Unicode: it has half of a surrogate pair.") from None
    return value


def to_plain(value: Any, depth: int = 0) -> Any:
    """What TypeSerializer understands: models, enums, times and floats replaced, ``None`` kept.

    Raises ValidationFailedError for what DynamoDB can't hold: numbers out of range, broken Unicode, deep nesting.
    """
    if depth > DEPTH_LIMIT:
        raise ValidationFailedError(f"The value is nested too deeply: at most {DEPTH_LIMIT} levels.")
    match value:
        case bool() | None | Decimal():
            return value
        case Enum():
            return value.value
        case str():
            return _text(value)
        case int() | float():
            return _number(value)
        case datetime():
            return format_timestamp(value)
        case BaseModel():
            fields = {name: getattr(value, name) for name in type(value).model_fields}
            return to_plain(fields | (value.model_extra or {}), depth)
        case dict():
            if "" in value:
                raise ValidationFailedError("An object has an empty key: name it.")
            return {_text(str(key)): to_plain(item, depth + 1) for key, item in value.items()}
        case list() | tuple():
            return [to_plain(item, depth + 1) for item in value]
        case set() | frozenset():
            return sorted(to_plain(item, depth + 1) for item in value)
    raise TypeError(f"{type(value).__name__} can't be stored")


def encode(value: Any) -> AttributeValue:
    """One value as a DynamoDB attribute value."""
    encoded: Any = _serializer.serialize(to_plain(value))
    return cast("AttributeValue", encoded)


def encode_item(values: dict[str, Any]) -> dict[str, AttributeValue]:
    """A whole item; attributes that are ``None`` are left out.

    Raises PayloadTooLargeError well below DynamoDB's 400 KB an item.
    """
    item = {name: encode(value) for name, value in values.items() if value is not None}
    if len(str(item)) > ITEM_SIZE_LIMIT // 4 and len(json.dumps(item, ensure_ascii=False).encode()) > ITEM_SIZE_LIMIT:
        raise PayloadTooLargeError(f"Too much data for one item: at most {ITEM_SIZE_LIMIT // 1000} KB. Send less.")
    return item


def _from_plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() and abs(value) < 10**38 else float(value)
    if isinstance(value, dict):
        return {key: _from_plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_from_plain(item) for item in value]
    return value


def decode_item(item: dict[str, AttributeValue]) -> dict[str, Any]:
    """An item as plain Python values; whole numbers come back as ``int``."""
    return {
        # Most of what is read is text, and the deserializer takes its time.
        name: value["S"] if "S" in value else _from_plain(_deserializer.deserialize(cast("Any", value)))
        for name, value in item.items()
    }
