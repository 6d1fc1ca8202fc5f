"""Removes the items of all kinds that belong to spaces which nobody can restore any more.

The kinds are many, and some leave things behind that nothing points at any more. So that none can be forgotten, the
whole table is gone through, once for all spaces whose time is over: what a space's id is a part of the key of belongs
to it. That takes as long as the table is large; a pass that is cut off goes on where it was.
"""

from collections.abc import Callable, Set
from dataclasses import dataclass, field
from functools import reduce
from operator import or_
from typing import Any

from boto3.dynamodb.conditions import Attr

from shared.dynamodb.table import Item, Key, Table, delete, put
from shared.observability import logger
from shared.spaces.store import DeletedSpace

PASS = Key("space#purge", "pass")
# As many as one condition of DynamoDB's may name; others wait for the next pass.
SPACES_AT_ONCE = 25
_READ = ("PK", "SK", "space_id", "token_parameter", "manager_token_parameter")


@dataclass(frozen=True)
class Pass:
    """One way through the table: for which spaces, and where it goes on.

    Spaces of which an item could not be removed are ``left_out`` of the rest.
    """

    spaces: list[DeletedSpace]
    start: dict[str, Any] | None = None
    is_over: bool = False
    left_out: frozenset[str] = frozenset()


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
        return Pass(spaces, item.get("start"), bool(item["is_over"]), frozenset(item.get("left_out", ())))

    def save(self, current: Pass) -> Pass:
        spaces = [{"id": space.id, "entry": [space.entry.pk, space.entry.sk]} for space in current.spaces]
        state = {"start": current.start, "is_over": current.is_over, "left_out": sorted(current.left_out)}
        self.table.write(put(PASS, {"spaces": spaces, **state}))
        return current

    def end(self) -> None:
        self.table.write(delete(PASS))

    def remove_some(self, current: Pass) -> Pass:
        """Removes the spaces' items among the next items of the table, and returns the position."""
        ids = {space.id for space in current.spaces}
        named = (Attr(name).contains(space_id) for space_id in ids for name in ("PK", "SK"))
        wanted = reduce(or_, [*named, Attr("space_id").is_in([*ids])])
        items, start = self.table.scan(wanted, _READ, current.start)
        removable, failed = list[Key](), set[str]()
        for item in items:
            owners = owners_among(item, ids)
            if owners:
                if self._is_ready(item):
                    removable.append(Key(item["PK"], item["SK"]))
                else:
                    failed |= owners
        self.table.delete_all(removable)
        spaces = [space for space in current.spaces if space.id not in failed]
        is_over = start is None or not spaces
        return self.save(Pass(spaces, start, is_over, current.left_out | failed))

    def _is_ready(self, item: Item) -> bool:
        try:
            self.before_removal(item)
        except Exception:  # noqa: BLE001 - a space that fails must not stop the others
            logger.exception("an item of a space could not be removed", extra={"key": f"{item['PK']} {item['SK']}"})
            return False
        return True


def owners_among(item: Item, space_ids: Set[str]) -> set[str]:
    """Returns the spaces that an item belongs to.

    The space's own items are excluded, because they are removed last.
    """
    kind, *rest = item["PK"].split("#")
    if kind == "space":
        return set()
    parts = {*rest}
    if kind in ("membership", "invite_email", "removal"):  # filed under a user or an address
        parts.update(item["SK"].split("#"))
    # Filed under the job's id, and in the lists of all spaces that CleanupList keeps.
    if kind == "job" or rest == ["purges"]:
        parts.add(item.get("space_id"))
    return parts & space_ids
