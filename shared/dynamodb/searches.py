"""Searches for what no key of a list says, such as a part of a name: row by row, and only so many rows a request.

So a page may have fewer rows than asked for, or none, although there are more. It then says where to go on.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from shared.dynamodb.table import Item

SEARCHED_AT_ONCE = 1000
# One request to the table reads so many of them.
READ_AT_ONCE = 250


class ReadRows(Protocol):
    def __call__(self, *, limit: int, page_size: int) -> Iterator[Item]: ...


@dataclass(frozen=True)
class SearchResult:
    """What a search found, and the sort key of the last row that it is done with; ``None`` at the end."""

    items: list[Item]
    next_after: str | None

    @property
    def has_more(self) -> bool:
        """Returns whether there may be more."""
        return self.next_after is not None


def search(read: ReadRows, matches: Callable[[Item], bool], limit: int) -> SearchResult:
    """Returns the first ``limit`` rows that match, among the next rows of a list."""
    found: list[Item] = []
    last = None
    for number, item in enumerate(read(limit=SEARCHED_AT_ONCE + 1, page_size=READ_AT_ONCE)):
        is_wanted = matches(item)
        if number == SEARCHED_AT_ONCE or (is_wanted and len(found) == limit):
            return SearchResult(found, last)
        if is_wanted:
            found.append(item)
        last = item["SK"]
    return SearchResult(found, None)
