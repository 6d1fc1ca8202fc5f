"""A table of a customer's database is written to our bucket as Parquet: the content that is profiled and trained on."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from shared.bounds import SCANNED_FILE
from shared.connectors.postgres import PostgresDatabase
from shared.connectors.storage import ConnectorStorage, FileVersion
from shared.files.confined import run_confined
from shared.files.errors import UnreadableFileError

# Of the disk: for the rows as text, for the Parquet file, and for what comes while it is read.
DISK_SHARE = 3
_WRITE_PARQUET = "functions.workflows.connector_scan.tables:write_parquet"


class BoundedFile:
    """File that refuses more than a number of bytes."""

    def __init__(self, target: BinaryIO, limit: int) -> None:
        self._target = target
        self._limit = limit
        self._written = 0

    def write(self, data: bytes) -> int:
        """Raises UnreadableFileError."""
        self._written += len(data)
        if self._written > self._limit:
            raise UnreadableFileError(
                f"The table has more than {self._limit / 2**30:.1f} GiB as text, which is what a scan reads at most; "
                "connect a view of a part of it."
            )
        return self._target.write(data)


def take_snapshot(
    database: PostgresDatabase, table: str, storage: ConnectorStorage, folder: Path, reserve: Callable[[int], None]
) -> tuple[Path, FileVersion]:
    """Returns the table as it is at one moment, here and in the bucket; one that has not changed makes no new version.

    Raises MissingFileError, StorageError, UnreadableFileError, and what ``reserve`` raises.
    """
    rows, snapshot = folder / "rows.csv", folder / "snapshot.parquet"
    with rows.open("wb") as target:
        columns = database.copy(table, BoundedFile(target, shutil.disk_usage(folder).free // DISK_SHARE))
    typed = [(column.name, column.type) for column in columns]
    run_confined(_WRITE_PARQUET, {"rows": str(rows), "columns": typed, "target": str(snapshot)}, SCANNED_FILE)
    rows.unlink()
    with snapshot.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return snapshot, storage.replace(table, snapshot, digest, reserve)
