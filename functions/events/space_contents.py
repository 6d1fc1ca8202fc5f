"""Removes the items of all kinds that belong to spaces which nobody can restore any more.

The kinds are many, and some leave things behind that nothing points at any more. So that none can be forgotten, the
whole table is gone through, once for all spaces whose time is over: what a space's id is a part of the key of belongs
to it. That takes as long as the table is large; a pass that is cut off goes on where it was.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import reduce
from operator import or_
from typing import Any

from boto3.dynamodb.conditions import Attr

from shared.dynamodb.table import Item, Key, Table, delete, put
from shared.spaces.store import DeletedSpace

PASS = Key("space#purge", "pass")
# As many as one condition of DynamoDB's may name; others wait for the next pass.
SPACES_AT_ONCE = 25
_READ = ("PK", "SK", "space_id", "token_parameter", "manager_token_parameter")


@dataclass(frozen=True)
class Pass:
    """One way through the table: for which spaces, and where it goes on."""

    spaces: list[DeletedSpace]
    start: dict[str, Any] | None = None
    is_over: bool = False


@dataclass(frozen=True)
class SpaceContents:
    table: Table
    # Sees every item before it is removed.
    before_removal: Callable[[Item], None] = field(repr=False)

    def current(self) -> Pass | None:
        """Returns the pass that has not ended."""
        item = self.table.get(PASS)
        if item is None:
            return None
        spaces = [DeletedSpace(each["id"], Key(*each["entry"])) for each in item["spaces"]]
        return Pass(spaces, item.get("start"), bool(item["is_over"]))

    def save(self, current: Pass) -> Pass:
        spaces = [{"id": space.id, "entry": [space.entry.pk, space.entry.sk]} for space in current.spaces]
        self.table.write(put(PASS, {"spaces": spaces, "start": current.start, "is_over": current.is_over}))
        return current

    def end(self) -> None:
        self.table.write(delete(PASS))

    def remove_some(self, current: Pass) -> Pass:
        """Removes the spaces' items among the next items of the table, and returns the position."""
        ids = [space.id for space in current.spaces]
        named = (Attr(name).contains(space_id) for space_id in ids for name in ("PK", "SK"))
        wanted = reduce(or_, [*named, Attr("space_id").is_in(ids)])
        items, start = self.table.scan(wanted, _READ, current.start)
        found = [item for item in items if belongs_to_any(item, ids)]
        for item in found:
            self.before_removal(item)
        self.table.delete_all([Key(item["PK"], item["SK"]) for item in found])
        return self.save(Pass(current.spaces, start, is_over=start is None))


def belongs_to_any(item: Item, space_ids: Iterable[str]) -> bool:
    """Returns whether an item belongs to one of the spaces.

    The space's own items are excluded, because they are removed last.
    """
    kind, *rest = item["PK"].split("#")
    if kind == "space":
        return False
    parts = {*rest}
    if kind in ("membership", "invite_email", "removal"):  # filed under a user or an address
        parts.update(item["SK"].split("#"))
    # Filed under the job's id, and in lists of all spaces.
    if kind in ("job", "connector", "chat", "argument", "cluster", "member", "object"):
        parts.add(item.get("space_id"))
    return not parts.isdisjoint(space_ids)
