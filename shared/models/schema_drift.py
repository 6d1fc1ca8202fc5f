"""Schema drift: a file or table that came again with other columns than before."""

from collections.abc import Iterator, Sequence
from enum import StrEnum

from pydantic import Field

from shared.models.base import Entity, Model, Timestamp
from shared.models.catalog import CatalogColumn, ColumnTypeName

CHANGES_LIMIT = 100
# A share of missing values that rose by so much says that something upstream broke; with few rows chance does it.
NULL_SHARE_JUMP = 0.25
FEWEST_ROWS = 20
# What reads the left reads the right as well.
_WIDER: set[tuple[ColumnTypeName, ColumnTypeName]] = {("int", "float"), ("date", "datetime")}


class DriftPolicy(StrEnum):
    """``ignore`` keeps no record; ``record`` records each drift, which raises an event.

    ``block`` also has trainings fail early on files of which a column vanished or changed its type to one that can't
    take its place, until somebody has acknowledged that. Columns that were added or widened never block.
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
    """``before`` and ``after`` are types; of the kind ``nulls``, shares of missing values."""

    column: str
    kind: ColumnChangeKind
    before: str | float | None = None
    after: str | float | None = None

    @property
    def is_breaking(self) -> bool:
        """Returns whether what used the column can't use it any more."""
        return self.kind in (ColumnChangeKind.REMOVED, ColumnChangeKind.RETYPED)


class SchemaDrift(Entity):
    """What a scan found changed in one file or table since the version before."""

    connector_id: str
    file: str
    scan_id: str | None = None
    policy: DriftPolicy
    is_breaking: bool = Field(description="whether a column vanished or changed to a type that can't take its place")
    changes: list[ColumnChange] = Field(description=f"those that break something first, at most {CHANGES_LIMIT}")
    more_changes: int = Field(default=0, description="how many beyond those")
    acknowledged_at: Timestamp | None = None
    acknowledged_by: str | None = None


def column_changes(
    before: Sequence[CatalogColumn], rows_before: int, after: Sequence[CatalogColumn], rows_after: int
) -> list[ColumnChange]:
    """Returns what changed between two versions, what breaks something first; without values, nothing is said of a
    type.
    """
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
