"""Finds the files of a run, and what scans know of exactly these contents."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from shared.clock import Clock
from shared.connectors.catalog import Catalog
from shared.connectors.storage import ConnectorStorage, ConnectorStorages, FileVersion, MissingFileError
from shared.dynamodb.repository import Repository
from shared.dynamodb.table import Table
from shared.errors import ConflictError, ValidationFailedError
from shared.models.catalog import CatalogEntry, CatalogStatus
from shared.models.connector import Connector
from shared.models.job import JobAccess, JobFile
from shared.models.reading import ReadOptions
from shared.models.run import MAX_RUN_FILES, RunCreate
from shared.space_binding import BoundThreads

HEADS_AT_ONCE = 10


@dataclass(frozen=True)
class InputFile:
    """A file of a run in one version, with its profile."""

    file: JobFile
    entry: CatalogEntry

    @property
    def rows(self) -> int:
        return self.entry.rows or 0


@dataclass(frozen=True)
class RunInputs:
    """The files of a run, and the access by which its tasks read them."""

    files: Sequence[InputFile]
    access: JobAccess

    @property
    def rows(self) -> int:
        return sum(each.rows for each in self.files)

    @property
    def size_bytes(self) -> int:
        return sum(each.file.size_bytes for each in self.files)


class InputFinder:
    """Finds the files that requests name."""

    def __init__(self, table: Table, storages: ConnectorStorages, catalog: Catalog, clock: Clock) -> None:
        self._connectors = Repository(table, Connector, kind="connector", clock=clock)
        self._storages = storages
        self._catalog = catalog

    def find(self, space_id: str, request: RunCreate) -> RunInputs:
        """Returns the files of a request.

        Raises ValidationFailedError for an unknown connector, missing and empty files, and too many of them;
        ConflictError for files that no scan has read, or could read; StorageError.
        """
        connector = self._connector(space_id, request.connector_id, "body.connector_id")
        if request.files is None and request.output is not None and request.output.connector_id == connector.id:
            raise ValidationFailedError.of(
                "body.files", "name the files to read, because the output goes to the same connector"
            )
        storage = self._storages.open(space_id, connector)
        versions = self._versions(storage, request.files)
        names = [version.file for version in versions]
        entries = self._catalog.entries(space_id, connector.id, names)
        stated = self._catalog.read_options(space_id, connector.id, names)
        files = [
            _input(storage, connector, version, entries.get(version.file), stated.get(version.file))
            for version in versions
        ]
        if not sum(each.rows for each in files):
            raise ValidationFailedError.of("body.files", "the files have no rows")
        return RunInputs(files, self._storages.job_access(space_id, connector))

    def require_empty(self, space_id: str, connector_id: str, folder: str) -> None:
        """Raises ValidationFailedError for an unknown connector, and ConflictError for one that is not managed, or a
        folder with files.
        """
        connector = self._connector(space_id, connector_id, "body.output.connector_id")
        if not connector.is_managed:
            raise ConflictError("The API cannot write to the output's connector. Use a managed connector.")
        storage = self._storages.open(space_id, connector)
        if not storage.fits(f"{folder}/{'x' * 50}"):
            raise ValidationFailedError.of("body.output.folder", "is too long for the names of files in it")
        # Most requests write to no folder.
        from shared.runs.folders import first_in_the_way

        found = first_in_the_way(storage, folder)
        if found is not None and found.startswith(f"{folder}/"):
            raise ConflictError(
                f"The folder '{folder}' is not empty: it has '{found}'. Name another, or delete its files."
            )
        if found is not None:
            raise ConflictError(
                f"The folder '{folder}' is within the output of another run, which has '{found}'. Name another."
            )

    def _connector(self, space_id: str, connector_id: str, field: str) -> Connector:
        found = self._connectors.get_many(space_id, [connector_id]).get(connector_id)
        if found is None:
            raise ValidationFailedError.of(field, "there is no such connector; GET /connectors lists them")
        return found

    def _versions(self, storage: ConnectorStorage, names: Sequence[str] | None) -> list[FileVersion]:
        if names is None:
            found = [version for version in islice(storage.files(), MAX_RUN_FILES + 1) if version.size_bytes]
            if len(found) > MAX_RUN_FILES:
                raise ValidationFailedError.of(
                    "body.files", f"the connector has more than {MAX_RUN_FILES:,} files; name those to read"
                )
            if not found:
                raise ValidationFailedError.of("body.connector_id", "the connector has no files with data in them")
            return found

        def head(name: str) -> FileVersion | None:
            try:
                return storage.head(name)
            except MissingFileError:
                return None

        with BoundThreads(HEADS_AT_ONCE) as pool:
            heads = list(pool.map(head, names))
        versions = []
        for name, version in zip(names, heads, strict=True):
            if version is None or not version.size_bytes:
                what = "there is no file" if version is None else "there is nothing in the file"
                raise ValidationFailedError.of("body.files", f"{what} '{name}'")
            versions.append(version)
        return versions


def _input(
    storage: ConnectorStorage,
    connector: Connector,
    version: FileVersion,
    entry: CatalogEntry | None,
    stated: ReadOptions | None,
) -> InputFile:
    options = connector.options_of(stated)
    is_current = entry is not None and (entry.etag, entry.options_digest) == (version.etag, options.digest)
    if entry is None or not is_current or entry.status is CatalogStatus.PENDING:
        raise ConflictError(
            f"No scan has read the file '{version.file}' as it is now. Scan it (POST /connectors/{{id}}/scan), and "
            "start the run when the catalog shows it."
        )
    if entry.status is CatalogStatus.ERROR:
        raise ConflictError(f"The file '{version.file}' can't be read: {entry.error}")
    file = JobFile(
        bucket=storage.bucket,
        key=storage.key(version.file),
        etag=version.etag,
        version_id=version.version_id or entry.version_id,
        size_bytes=version.size_bytes,
        name=version.file,
        format=entry.format,
        scan_id=entry.scan_id,
        read_options=None if options.digest is None else options,
    )
    return InputFile(file, entry)
