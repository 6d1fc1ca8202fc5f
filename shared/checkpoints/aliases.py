"""Names of checkpoints, ``checkpoint_alias#<space>``, ``<alias>``; each names one checkpoint at a time."""

from shared.clock import Clock, utc_now
from shared.dynamodb.repository import Repository, is_identifier
from shared.dynamodb.table import Key, Table
from shared.errors import NotFoundError
from shared.models.base import Page
from shared.models.checkpoint import Checkpoint
from shared.models.checkpoint_alias import MAX_ALIASES, CheckpointAlias


class CheckpointAliases:
    def __init__(self, table: Table, clock: Clock = utc_now) -> None:
        self._checkpoints = Repository(table, Checkpoint, kind="checkpoint", clock=clock)
        self._table = table

    def all(self, space_id: str) -> Page[CheckpointAlias]:
        """Returns every alias, by name."""
        items = self._table.query(f"checkpoint_alias#{space_id}", newest_first=False, limit=MAX_ALIASES)
        data = [CheckpointAlias.model_validate(item) for item in items]
        return Page(count=len(data), data=data, has_more=False)

    def get(self, space_id: str, alias: str) -> CheckpointAlias:
        """Raises NotFoundError."""
        item = self._table.get(alias_key(space_id, alias))
        if item is None:
            raise unknown_alias()
        return CheckpointAlias.model_validate(item)

    def checkpoint(self, space_id: str, reference: str) -> Checkpoint | None:
        """Returns the checkpoint of an id or an alias, if there is one."""
        return self.checkpoints(space_id, [reference]).get(reference)

    def checkpoints(self, space_id: str, references: list[str]) -> dict[str, Checkpoint]:
        """Returns the existing checkpoints, by the requested id or alias."""
        names = [each for each in dict.fromkeys(references) if not is_identifier(each)]
        aliases = self._table.get_many([alias_key(space_id, name) for name in names])
        named = {key.sk: item["checkpoint_id"] for key, item in aliases.items()}
        wanted = {each: named.get(each, each) for each in references}
        found = self._checkpoints.get_many(space_id, set(wanted.values()))
        return {each: found[checkpoint_id] for each, checkpoint_id in wanted.items() if checkpoint_id in found}


def alias_key(space_id: str, alias: str) -> Key:
    return Key(f"checkpoint_alias#{space_id}", alias)


def unknown_alias() -> NotFoundError:
    return NotFoundError("There is no checkpoint alias of this name in the space.")
