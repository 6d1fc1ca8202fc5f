"""The folders that runs of all kinds write to, so that no two write to the same one, or to one within another.

One item of each connector, ``run_output#<space>``, ``<connector>``, has the folder of each run that has taken one. It
changes on condition that nobody else has changed it, because no condition compares beginnings of keys.
"""

from contextlib import suppress

from boto3.dynamodb.conditions import Attr, ConditionBase

from shared.clock import new_id
from shared.connectors.storage import ConnectorStorage, MissingFileError
from shared.dynamodb.table import Item, Key, Table, Write, delete, update
from shared.errors import ConflictError
from shared.models.run import MANIFEST_FILE, Run

_FOLDER = "folder#"


class OutputFolders:
    """A store of the folders that runs have taken."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def take(self, space_id: str, run: Run) -> list[Write]:
        """Returns the write that takes the run's folder, if it has one.

        The transaction fails with TransactionFailedError if another run was faster. Raises ConflictError.
        """
        if run.output is None:
            return []
        key = _key(space_id, run.output.connector_id)
        item = self._table.get(key) or {}
        wanted = run.output.folder
        for name, folder in item.items():
            if name.startswith(_FOLDER) and name != _FOLDER + run.id and _overlap(folder, wanted):
                raise ConflictError(f"Another run writes to the folder '{folder}'. Wait for it, or name another.")
        return [update(key, {_FOLDER + run.id: wanted, "revision": new_id()}, condition=_unchanged(item))]

    def give_back(self, space_id: str, run: Run) -> list[Write]:
        """Returns the write that gives the run's folder back, if it has taken one."""
        if run.output is None:
            return []
        key = _key(space_id, run.output.connector_id)
        item = self._table.get(key) or {}
        taken = {name for name in item if name.startswith(_FOLDER)}
        if _FOLDER + run.id not in taken:
            return []
        if len(taken) == 1:
            return [delete(key, _unchanged(item))]
        return [update(key, {_FOLDER + run.id: None, "revision": new_id()}, condition=_unchanged(item))]


def _key(space_id: str, connector_id: str) -> Key:
    return Key(f"run_output#{space_id}", connector_id)


def _unchanged(item: Item) -> ConditionBase:
    return Attr("revision").eq(item["revision"]) if item else Attr("PK").not_exists()


def _overlap(one: str, other: str) -> bool:
    """Returns whether the folders are the same, or one is within the other."""
    return f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/")


def first_in_the_way(storage: ConnectorStorage, folder: str) -> str | None:
    """Returns a file of the folder, or the manifest of a folder that it is within, if there is one.

    Readers of a table read its subfolders, too.
    """
    found = next(storage.files(f"{folder}/"), None)
    if found is not None:
        return found.file
    for name in (f"{above}/{MANIFEST_FILE}" for above in _folders_above(folder)):
        with suppress(MissingFileError):
            return storage.head(name).file
    return None


def _folders_above(folder: str) -> list[str]:
    """Returns the folders that a folder is within."""
    names = folder.split("/")
    return ["/".join(names[:count]) for count in range(1, len(names))]
