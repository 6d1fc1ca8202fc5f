"""Reads one file and stores its profile in the catalog. A problem with the file becomes the file's error."""

import shutil
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from functions.workflows.connector_scan.table_snapshots import take_snapshot
from shared.bounds import SCANNED_FILE, SMALL_SCANNED_FILE
from shared.connectors.catalog import Seen
from shared.connectors.scans import ConnectorScans
from shared.connectors.storage import (
    ConnectorStorage,
    FileChangedError,
    FileVersion,
    MissingFileError,
    StorageError,
)
from shared.errors import ContendedError, LimitReachedError, NotFoundError, TransientError, ValidationFailedError
from shared.files.confined import run_confined
from shared.files.errors import UnreadableFileError
from shared.models.catalog import CatalogEntry, CatalogStatus
from shared.models.connector import Connector
from shared.models.reading import ReadOptions
from shared.observability import OUTAGE, logger, workflow_step
from shared.resources import Resources
from shared.scratch import scratch_folder
from shared.transient import is_outage

READ_ATTEMPTS = 3
# Of the disk: for the file itself, and as much again for each of its decoded copies while one becomes the next.
DISK_SHARE = 3
# For the rows of a table; a scan of it may take 15 minutes in all.
TABLE_SECONDS = 600
# Until then, a copy of a table is in the bucket.
SNAPSHOT_WRITTEN = timedelta(minutes=15)
DEFECT = "An error on our side ended the scan. Scan it again. If it fails again, send the connector's id to support."
_ENTRY = "functions.workflows.connector_scan.entries:read_entry"
_resources = Resources()


def scan_files(resources: Resources, event: dict[str, Any]) -> dict[str, Any]:
    """Takes ``{space_id, connector_id, scan_id, files}``. Safe to repeat.

    A file whose scan fails leaves the others their turn. Its problem is noted for the case that no repetition helps.
    """
    space_id, connector_id, scan_id = event["space_id"], event["connector_id"], event["scan_id"]
    failures: list[Exception] = []
    for file in event["files"]:
        try:
            scan_file(resources, {**event, "file": file})
        except Exception as error:  # noqa: BLE001 - one of them is raised after the last file
            logger.warning("a file could not be scanned", exc_info=error)
            failures.append(error)
            problem = str(error) if isinstance(error, TransientError) else OUTAGE if is_outage(error) else DEFECT
            resources.catalog.note_problem(space_id, connector_id, file["name"], scan_id, problem)
    # What may pass is repeated for longer.
    failures.sort(key=lambda each: not (isinstance(each, TransientError) or is_outage(each)))
    if failures:
        raise failures[0]
    return {}


def scan_file(resources: Resources, event: dict[str, Any]) -> dict[str, Any]:
    """Takes ``{space_id, connector_id, scan_id, file: {name, request}}``. The result of a later event wins."""
    space_id, connector_id, scan_id = event["space_id"], event["connector_id"], event["scan_id"]
    name, request = event["file"]["name"], event["file"]["request"]
    scans = resources.connector_scans
    try:
        connector = scans.scans.connectors.get(space_id, connector_id)
    except NotFoundError:
        return {}
    seen = Seen(scans.catalog.sequencer(space_id, connector_id, name), request)
    stated = scans.catalog.read_options(space_id, connector_id, [name]).get(name)
    options = connector.options_of(stated)
    try:
        entry = _read_with_access(resources, scans, space_id, connector, name, options)
    except MissingFileError:
        scans.catalog.record_missing(space_id, connector_id, name, seen, scan_id)
        entry = failed(name, "There is no such file. Upload it, or scan another.") if request else None
    except NotFoundError:
        return {}
    if entry is not None:
        found = {"scanned_at": resources.clock(), "scan_id": scan_id, "options_digest": options.digest}
        entry = entry.model_copy(update=found)
        if scans.catalog.record_result(space_id, connector_id, entry, seen) and entry.status is CatalogStatus.SCANNED:
            scans.drifts.observe(space_id, connector, entry)
    return {}


def _read_with_access(
    resources: Resources,
    scans: ConnectorScans,
    space_id: str,
    connector: Connector,
    name: str,
    options: ReadOptions,
) -> CatalogEntry | None:
    """Reads the file with the connector's access, or with its new access if that was changed during the scan.

    Raises MissingFileError, NotFoundError, and TransientError for a file that may be read later.
    """
    try:
        storage = resources.connector_storages.open(space_id, connector)
        if connector.postgres is None:
            return read_file(storage, name, options)
        return read_table(resources, space_id, connector, storage, name, options)
    except (StorageError, ValidationFailedError) as error:
        current = scans.scans.connectors.get(space_id, connector.id)
        if current.version != connector.version:
            return _read_with_access(resources, scans, space_id, current, name, options)
        if isinstance(error, StorageError) and error.is_transient:
            raise TransientError(error.message) from error
        return failed(name, error.message)


def read_file(storage: ConnectorStorage, name: str, options: ReadOptions) -> CatalogEntry:
    """Profile a file as it is at one moment; one that changes under our hands is read again from the start.

    Raises MissingFileError and StorageError.
    """
    for _ in range(READ_ATTEMPTS):
        version = storage.head(name)
        if version.size_bytes == 0:
            return failed(name, "The file is empty; upload a file with a header and rows.", version)
        with scratch_folder() as folder:
            limit = shutil.disk_usage(folder).free // DISK_SHARE
            if version.size_bytes > limit:
                size = f"{version.size_bytes / 2**30:.1f} GiB, a scan reads at most {limit / 2**30:.1f} GiB"
                return failed(name, f"The file has {size}; split it, or write it as Parquet.", version)
            try:
                path = folder / "file"
                storage.download(version, path)
            except FileChangedError:
                continue
            return _profile(path, version, limit, options)
    return failed(name, "The file kept changing while it was read; scan it again when it is complete.")


def read_table(
    resources: Resources,
    space_id: str,
    connector: Connector,
    storage: ConnectorStorage,
    name: str,
    options: ReadOptions,
) -> CatalogEntry:
    """Profile a table as it is at one moment; of one that is gone no copy stays.

    Raises MissingFileError, StorageError, and TransientError while too many scans reserve room.
    """
    reserve = partial(resources.storage_usages.reserve, space_id, lifetime=SNAPSHOT_WRITTEN)
    with scratch_folder() as folder:
        limit = shutil.disk_usage(folder).free // DISK_SHARE
        try:
            with resources.postgres_databases.open(connector, TABLE_SECONDS) as database:
                path, version = take_snapshot(database, name, storage, folder, reserve)
        except UnreadableFileError as error:
            return failed(name, str(error))
        except LimitReachedError as error:
            return failed(name, error.message)
        except ContendedError as error:
            raise TransientError(error.message) from error
        except MissingFileError:
            storage.delete(name)
            raise
        return _profile(path, version, limit, options)


def failed(name: str, error: str, version: FileVersion | None = None) -> CatalogEntry:
    """Returns the entry of a file that can't be read."""
    known = {"etag": version.etag, "size_bytes": version.size_bytes} if version else {}
    return CatalogEntry.model_validate({"file": name, "status": CatalogStatus.ERROR, "error": error, **known})


def _profile(path: Path, version: FileVersion, decoded_bytes: int, options: ReadOptions) -> CatalogEntry:
    arguments = {
        "path": str(path),
        "file": version.file,
        "decoded_bytes": decoded_bytes,
        "options": options.model_dump(mode="json", exclude_none=True),
    }
    is_small = version.size_bytes <= SMALL_SCANNED_FILE.size_bytes
    try:
        found = run_confined(_ENTRY, arguments, SMALL_SCANNED_FILE if is_small else SCANNED_FILE)
    except UnreadableFileError as error:
        return failed(version.file, str(error), version)
    known = {"size_bytes": version.size_bytes, "etag": version.etag, "version_id": version.version_id}
    return CatalogEntry.model_validate(found | known)


@workflow_step
def handler(event: dict[str, Any]) -> dict[str, Any]:
    return scan_files(_resources, event)
