"""Between pydantic models and DynamoDB attribute values."""

import json
import math
from datetime import datetime
from decimal import Decimal, DecimalException
from enum import Enum
from typing import Any

from boto3.dynamodb.types import DYNAMODB_CONTEXT
from pydantic import BaseModel

from shared.dynamodb.schemas import upgraded
from shared.errors import PayloadTooLargeError, ValidationFailedError
from shared.models.base import format_timestamp

AttributeValue = dict[str, Any]

# DynamoDB nests 32 levels and holds 400 KB an item.
DEPTH_LIMIT = 28
ITEM_SIZE_LIMIT = 350_000


class StringSet(frozenset[str]):
    """Strings that DynamoDB stores as a set: an update can add and remove single ones."""


def _number(value: int | float | Decimal) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValidationFailedError("Numbers must be finite: NaN and infinity can't be stored.")
    try:
        return str(DYNAMODB_CONTEXT.create_decimal(value if isinstance(value, Decimal) else repr(value)))
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


def encode(value: Any, depth: int = 0) -> AttributeValue:
    """Returns one value as a DynamoDB attribute value, with models, enums and times in it.

    Raises ValidationFailedError for what DynamoDB can't hold: numbers out of range, broken Unicode, deep nesting.
    """
    if depth > DEPTH_LIMIT:
        raise ValidationFailedError(f"The value is nested too deeply: at most {DEPTH_LIMIT} levels.")
    match value:
        case None:
            return {"NULL": True}
        case bool():
            return {"BOOL": value}
        case Enum():
            return encode(value.value, depth)
        case str():
            return {"S": _text(value)}
        case int() | float() | Decimal():
            return {"N": _number(value)}
        case datetime():
            return {"S": format_timestamp(value)}
        case BaseModel():
            fields = {name: getattr(value, name) for name in type(value).model_fields}
            return encode(fields | (value.model_extra or {}), depth)
        case dict():
            if "" in value:
                raise ValidationFailedError("An object has an empty key: name it.")
            return {"M": {_text(str(key)): encode(item, depth + 1) for key, item in value.items()}}
        case list() | tuple():
            return {"L": [encode(item, depth + 1) for item in value]}
        case StringSet():
            return {"SS": sorted(value)}
        case set() | frozenset():
            return {"L": [encode(item, depth + 1) for item in sorted(value)]}
    raise TypeError(f"{type(value).__name__} can't be stored")


def encode_item(values: dict[str, Any]) -> dict[str, AttributeValue]:
    """Returns a whole item; attributes that are ``None`` are left out.

    Raises PayloadTooLargeError well below DynamoDB's 400 KB an item.
    """
    item = {name: encode(value) for name, value in values.items() if value is not None}
    if len(str(item)) > ITEM_SIZE_LIMIT // 4 and len(json.dumps(item, ensure_ascii=False).encode()) > ITEM_SIZE_LIMIT:
        raise PayloadTooLargeError(f"Too much data for one item: at most {ITEM_SIZE_LIMIT // 1000} KB. Send less.")
    return item


def decode_item(item: dict[str, AttributeValue]) -> dict[str, Any]:
    """Returns an item as plain Python values; whole numbers come back as ``int``."""
    return {name: _decode(value) for name, value in item.items()}


def decode_images(record: dict[str, Any]) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Returns the item before and after a write, from a record of the table's stream, in the newest version."""
    before, after = (record["dynamodb"].get(name) for name in ("OldImage", "NewImage"))
    return before and upgraded(decode_item(before)), after and upgraded(decode_item(after))


def _decode(value: AttributeValue) -> Any:
    [(kind, held)] = value.items()
    match kind:
        case "S" | "BOOL":
            return held
        case "N":
            return _plain_number(held)
        case "M":
            return decode_item(held)
        case "L":
            return [_decode(item) for item in held]
        case "SS":
            return StringSet(held)
        case "NULL":
            return None
    raise TypeError(f"nothing is stored as {kind}")


def _plain_number(digits: str) -> int | float:
    number = Decimal(digits)
    return int(number) if number == number.to_integral_value() and abs(number) < 10**38 else float(number)
