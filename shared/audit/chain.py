"""The chain of a space's audit rows: each row has the hash of the one before, so that no row can change unnoticed.

``sequence`` counts the rows in the order in which they were recorded. A row's hash covers all that the row says, its
place in the chain, and when the row before it expires: after that, the row before may be missing.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from shared.models.audit_log import AuditProblem

Row = dict[str, Any]
# Of the first row of a space.
NO_HASH = ""
_HASHED = (
    "id",
    "actor",
    "api_key_id",
    "action",
    "entity",
    "entity_id",
    "before",
    "after",
    "expires_at",
    "sequence",
    "previous_hash",
    "previous_expires_at",
)


@dataclass(frozen=True)
class Link:
    """The end of a chain, or of a part of it."""

    sequence: int = 0
    hash: str = NO_HASH
    expires_at: int = 0

    @classmethod
    def of(cls, row: Row) -> "Link":
        return cls(int(row["sequence"]), row["hash"], int(row["expires_at"]))

    def append(self, row: Row) -> Row:
        """Returns the row as the next one of the chain."""
        place = {
            "sequence": self.sequence + 1,
            "previous_hash": self.hash,
            "previous_expires_at": self.expires_at,
        }
        return {**row, **place, "hash": hash_of({**row, **place})}


def hash_of(row: Row) -> str:
    content = {name: row.get(name) for name in _HASHED}
    text = json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def problems(rows: Iterable[Row], known: Link | None, now: int) -> Iterator[AuditProblem]:
    """Yields what is wrong with rows in the order of their sequence.

    ``known`` is the row before the first one, if it is known. Rows may be missing where they have expired.
    """
    for row in rows:
        sequence = int(row["sequence"])
        if hash_of(row) != row["hash"]:
            yield AuditProblem(sequence=sequence, problem="the row is not as it was recorded")
        follows = known is not None and sequence == known.sequence + 1
        if known is not None and sequence <= known.sequence:
            yield AuditProblem(sequence=sequence, problem="the row is not the next one")
        elif known is not None and follows and row["previous_hash"] != known.hash:
            yield AuditProblem(sequence=sequence, problem="the row before is another one than at its time")
        elif not follows and sequence > 1 and row["previous_expires_at"] > now:
            yield AuditProblem(sequence=sequence, problem="rows before this one are missing")
        known = Link.of(row)
