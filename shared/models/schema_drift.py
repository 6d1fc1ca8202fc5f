"""Schema drift: changes of a file's or table's columns between two versions."""

from collections.abc import Iterator, Sequence
from enum import StrEnum

from pydantic import Field

from shared.models.base import Entity, Model, Timestamp
from shared.models.catalog import CatalogColumn
from shared.models.reading import ColumnTypeName

CHANGES_LIMIT = 100
# A rise of the share of missing values by this much suggests a fault upstream; with few rows it may be chance.
NULL_SHARE_JUMP = 0.25
FEWEST_ROWS = 20
# Code that reads the first type can also read the second.
_WIDER: set[tuple[ColumnTypeName, ColumnTypeName]] = {("int", "float"), ("date", "datetime")}


class DriftPolicy(StrEnum):
    """``ignore`` keeps no record; ``record`` records each drift and raises an event.

    ``block`` also makes trainings fail early if a column of a file vanished or changed to an incompatible type, until
    a user acknowledges the drift. Added or widened columns never block.
    """

    IGNORE = "ignore"
    RECORD = "record"
    BLOCK = "block"


class ColumnChangeKind(StrEnum):
    ADDED = "added"
    REMOVED = "removed"
    WIDENED = "widened"
    RETYPED = "retyped"
    NULLS = "nulls"


class ColumnChange(Model):
    """``before`` and ``after`` are types; for the kind ``nulls``, they are shares of missing values."""

    column: str
    kind: ColumnChangeKind
    before: str | float | None = None
    after: str | float | None = None

    @property
    def is_breaking(self) -> bool:
        """Returns whether users of the column can't use it any more."""
        return self.kind in (ColumnChangeKind.REMOVED, ColumnChangeKind.RETYPED)


class SchemaDrift(Entity):
    """Changes that a scan found in one file or table since the previous version."""

    connector_id: str
    file: str
    scan_id: str | None = None
    policy: DriftPolicy
    is_breaking: bool = Field(description="whether a column vanished or changed to an incompatible type")
    changes: list[ColumnChange] = Field(description=f"breaking changes first, at most {CHANGES_LIMIT}")
    more_changes: int = Field(default=0, description="number of further changes")
    acknowledged_at: Timestamp | None = None
    acknowledged_by: str | None = None


def column_changes(
    before: Sequence[CatalogColumn], rows_before: int, after: Sequence[CatalogColumn], rows_after: int
) -> list[ColumnChange]:
    """Returns the changes between two versions, breaking ones first. A column without values has no change of type."""
    old, new = ({column.name: column for column in columns} for columns in (before, after))
    changes = [
        *(ColumnChange(column=name, kind=ColumnChangeKind.REMOVED, before=old[name].type) for name in old.keys() - new),
        *(ColumnChange(column=name, kind=ColumnChangeKind.ADDED, after=new[name].type) for name in new.keys() - old),
    ]
    for name in old.keys() & new.keys():
        changes += _changes_within(old[name], rows_before, new[name], rows_after)
    return sorted(changes, key=lambda change: (not change.is_breaking, change.kind, change.column))


def _changes_within(
    before: CatalogColumn, rows_before: int, after: CatalogColumn, rows_after: int
) -> Iterator[ColumnChange]:
    has_values = before.nulls < rows_before and after.nulls < rows_after
    if has_values and before.type != after.type:
        is_wider = (before.type, after.type) in _WIDER
        kind = ColumnChangeKind.WIDENED if is_wider else ColumnChangeKind.RETYPED
        yield ColumnChange(column=before.name, kind=kind, before=before.type, after=after.type)
    if min(rows_before, rows_after) >= FEWEST_ROWS:
        shares = before.nulls / rows_before, after.nulls / rows_after
        if shares[1] - shares[0] >= NULL_SHARE_JUMP:
            yield ColumnChange(
                column=before.name, kind=ColumnChangeKind.NULLS, before=round(shares[0], 4), after=round(shares[1], 4)
            )
