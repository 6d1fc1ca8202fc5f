"""What reports show of checkpoints beyond their own fields: ``checkpoint#<space>#report``, ``<checkpoint>``.

It is an item of its own, so that lists of checkpoints stay light.
"""

from shared.dynamodb.table import Key, Table, Write, put
from shared.models.checkpoint import CheckpointReport


class CheckpointReports:
    def __init__(self, table: Table) -> None:
        self._table = table

    def keep(self, space_id: str, checkpoint_id: str, report: CheckpointReport) -> Write:
        """Returns the write that stores the report."""
        return put(_key(space_id, checkpoint_id), {"report": report.model_dump_json()})

    def get(self, space_id: str, checkpoint_id: str) -> CheckpointReport | None:
        """Returns the report, ``None`` for a checkpoint of an earlier version."""
        item = self._table.get(_key(space_id, checkpoint_id))
        return CheckpointReport.model_validate_json(item["report"]) if item else None


def _key(space_id: str, checkpoint_id: str) -> Key:
    return Key(f"checkpoint#{space_id}#report", checkpoint_id)
