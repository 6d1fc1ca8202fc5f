"""What the API costs and where it ends."""

from collections.abc import Mapping
from typing import Any


def item_bytes(item: Mapping[str, Any]) -> int:
    """The size of an item in DynamoDB's JSON, by which it is paid for.

    Source: "DynamoDB item sizes and formats" in the Amazon DynamoDB Developer Guide.
    """
    return sum(len(name.encode()) + _value_bytes(value) for name, value in item.items())


def _value_bytes(value: Mapping[str, Any]) -> int:
    ((kind, content),) = value.items()
    match kind:
        case "S":
            return len(content.encode())
        case "N":
            return len(content.lstrip("-").replace(".", "").strip("0")) // 2 + 2
        case "B":
            return len(content)
        case "L":
            return 3 + sum(1 + _value_bytes(each) for each in content)
        case "M":
            return 3 + sum(1 + len(name.encode()) + _value_bytes(each) for name, each in content.items())
        case _:
            return 1


def write_units(size: int, *, transaction: bool = False) -> int:
    """One for each kilobyte begun; two within a transaction."""
    return -(-max(size, 1) // 1024) * (2 if transaction else 1)


def read_units(size: int, *, consistent: bool = True) -> float:
    """One for each 4 KB begun, half of it when a moment-old answer is good enough."""
    return -(-max(size, 1) // 4096) * (1 if consistent else 0.5)
