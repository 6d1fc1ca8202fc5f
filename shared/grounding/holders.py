"""Indexes of the fields that hold a value. Their size and the time of a search grow with the facts, not with more."""

from bisect import bisect_right
from collections.abc import Hashable, Iterable
from typing import TypeVar

# A value that more fields hold says nothing about where a claim comes from.
HOLDERS_LIMIT = 200

K = TypeVar("K", bound=Hashable)


class HolderIndex(dict[K, set[str]]):
    """The paths of the first fields that hold each value."""

    def add(self, value: K, path: str) -> None:
        """Adds a field to those of a value."""
        holders = self.setdefault(value, set())
        if len(holders) < HOLDERS_LIMIT:
            holders.add(path)


class TextSearch:
    """All texts in one, so that a search takes one pass."""

    def __init__(self, texts: Iterable[tuple[str, str]]) -> None:
        self._paths: list[str] = []
        self._starts: list[int] = []
        parts: list[str] = []
        size = 0
        for path, text in texts:
            self._paths.append(path)
            self._starts.append(size)
            parts.append(text)
            size += len(text) + 1
        self._text = "\n".join(parts)

    def holders(self, wanted: str) -> set[str]:
        """Returns the paths of the first fields whose text has ``wanted``, which has no line end."""
        found: set[str] = set()
        start = self._text.find(wanted)
        while start >= 0 and len(found) < HOLDERS_LIMIT:
            place = bisect_right(self._starts, start)
            found.add(self._paths[place - 1])
            if place == len(self._starts):
                break
            start = self._text.find(wanted, self._starts[place])
        return found
