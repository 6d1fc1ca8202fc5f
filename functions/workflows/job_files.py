"""Finds the files of a job in their pinned versions, and what scans know of exactly these contents."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from shared.connectors.catalog import FileState
from shared.connectors.file_pins import MAX_FILES
from shared.connectors.storage import ConnectorStorage, FileVersion, MissingFileError, StorageError
from shared.dynamodb.repository import Repository
from shared.errors import JobFailedError, NotFoundError, TransientError, ValidationFailedError
from shared.models.catalog import CatalogEntry, CatalogStatus, overridden
from shared.models.connector import Connector
from shared.models.connector_training import ConnectorTraining
from shared.models.reading import ReadOptions, is_date_format
from shared.resources import Resources
from shared.space_binding import BoundThreads

# Entries are read in batches, because those of thousands of files would not fit into the memory.
BATCH_FILES = 100
HEADS_AT_ONCE = 10


@dataclass(frozen=True)
class DataPart:
    """The files that a job reads of one connector, and how it reads each of them."""

    settings: ConnectorTraining
    connector: Connector
    storage: ConnectorStorage
    versions: list[FileVersion]
    options: Mapping[str, ReadOptions]


@dataclass(frozen=True)
class Contents:
    """States by file: ``pinned`` of the contents that the job reads, ``present`` of what the catalog holds now."""

    pinned: Mapping[str, FileState]
    present: Mapping[str, FileState]
    # Profiles of pinned contents that others have replaced since.
    replaced: Mapping[str, CatalogEntry]


@dataclass(frozen=True)
class PinnedProfile:
    """What a scan found in a pinned content. It ``is_current`` if the job reads the file with the same options."""

    file: str
    is_current: bool
    status: CatalogStatus
    error: str | None
    rows: int | None
    format: Literal["csv", "parquet", "jsonl"] | None
    columns: tuple[str, ...]
    identifying: frozenset[str]


class JobFiles:
    """Finds the files of jobs."""

    def __init__(self, resources: Resources) -> None:
        self._connectors = Repository(resources.table, Connector, kind="connector", clock=resources.clock)
        self._storages = resources.connector_storages
        self._catalog = resources.catalog
        self._drifts = resources.schema_drifts
        self._pins = resources.file_pins

    def part(self, space_id: str, settings: ConnectorTraining, pins_key: str | None) -> DataPart:
        """Returns the files of a connector's part: those of the pins, or those that are there now.

        Raises JobFailedError for a connector that is deleted or refuses access, and for missing and empty files.
        """
        try:
            connector = self._connectors.get(space_id, settings.connector_id)
        except NotFoundError:
            raise JobFailedError(f"The connector {settings.connector_id} was deleted.") from None
        try:
            storage = self._storages.open(space_id, connector)
            if pins_key is None:
                found = _present(storage, connector, settings.files)
            else:
                found = iter(self._pins.load(pins_key))
            versions = _usable(found, connector, settings.files)
        except StorageError as error:
            failure = TransientError if error.is_transient else JobFailedError
            raise failure(f"The connector '{connector.name}' can't be read: {error.message}") from error
        except ValidationFailedError as error:  # its endpoint may not be called
            raise JobFailedError(f"The connector '{connector.name}' can't be read: {error.message}") from error
        return DataPart(settings, connector, storage, versions, self._options(space_id, connector, versions))

    def contents(self, space_id: str, part: DataPart) -> Contents:
        """Returns what scans know of the files. A content that was not scanned is pending."""
        present = self._catalog.states(space_id, part.connector.id)
        pinned = {each.file: present[each.file] for each in part.versions if _is_read(present.get(each.file), each)}
        others = {each.file: each.etag for each in part.versions if each.file not in pinned}
        replaced = self._drifts.replaced_profiles(space_id, part.connector.id, others)
        known = {**pinned, **{file: _state_of(entry) for file, entry in replaced.items()}}
        pending = FileState(CatalogStatus.PENDING)
        return Contents({each.file: known.get(each.file, pending) for each in part.versions}, present, replaced)

    def profiles(self, space_id: str, part: DataPart, contents: Contents) -> Iterator[PinnedProfile]:
        """Yields the profiles of the scanned files."""
        for start in range(0, len(part.versions), BATCH_FILES):
            batch = part.versions[start : start + BATCH_FILES]
            found = self._catalog.entries(space_id, part.connector.id, [each.file for each in batch])
            found |= contents.replaced
            # An event may have replaced an entry since the states were read.
            others = {each.file: each.etag for each in batch if not _is_of(found.get(each.file), each)}
            found |= self._drifts.replaced_profiles(space_id, part.connector.id, others)
            yield from (_profile_of(found[each.file], part) for each in batch if _is_of(found.get(each.file), each))

    def _options(self, space_id: str, connector: Connector, versions: Sequence[FileVersion]) -> dict[str, ReadOptions]:
        """Returns the read options of each file: the connector's with its own."""
        stated = self._catalog.read_options(space_id, connector.id)
        usual = connector.options_of(None)
        return {
            each.file: connector.options_of(stated[each.file]) if each.file in stated else usual for each in versions
        }


def _present(storage: ConnectorStorage, connector: Connector, names: Sequence[str] | None) -> Iterator[FileVersion]:
    if not names:
        for count, version in enumerate(storage.files(), 1):
            if count > MAX_FILES:
                raise JobFailedError(
                    f"The connector '{connector.name}' has more than {MAX_FILES:,} files. Join them, or name some."
                )
            yield version
        return

    def head(name: str) -> FileVersion | None:
        try:
            return storage.head(name)
        except MissingFileError:
            return None

    # Thousands of files, of up to twenty connectors, in the minutes of a step.
    with BoundThreads(HEADS_AT_ONCE) as pool:
        yield from filter(None, pool.map(head, dict.fromkeys(names)))


def _usable(found: Iterator[FileVersion], connector: Connector, names: Sequence[str] | None) -> list[FileVersion]:
    """Returns the files with content. Raises JobFailedError if there are none, and for named files without content."""
    versions = {version.file: version for version in found}
    wanted = list(dict.fromkeys(names or versions))
    for name in names or ():
        if name not in versions:
            what_next = "Scan it" if connector.postgres else "Upload it"
            raise JobFailedError(
                f"The connector '{connector.name}' has no file '{name}'. {what_next}, or name another."
            )
        if versions[name].size_bytes == 0:
            raise JobFailedError(f"The file '{name}' of the connector '{connector.name}' is empty.")
    usable = [versions[name] for name in wanted if versions[name].size_bytes]
    if not usable:
        what_next = "Scan it: that reads its tables" if connector.postgres else "Upload some"
        raise JobFailedError(f"The connector '{connector.name}' has no files with data in them. {what_next}.")
    return usable


def _is_of(entry: CatalogEntry | None, version: FileVersion) -> bool:
    return entry is not None and entry.etag == version.etag


def _is_read(state: FileState | None, version: FileVersion) -> bool:
    return state is not None and state.etag == version.etag and state.status != CatalogStatus.PENDING


def _state_of(entry: CatalogEntry) -> FileState:
    formats = {column.name: [each for each in column.formats if is_date_format(each)] for column in entry.columns}
    return FileState(
        status=entry.status,
        etag=entry.etag,
        scan_id=entry.scan_id,
        version_id=entry.version_id,
        options_digest=entry.options_digest,
        date_formats={column: found for column, found in formats.items() if found},
    )


def _profile_of(entry: CatalogEntry, part: DataPart) -> PinnedProfile:
    columns = [overridden(column, part.connector.personal_data) for column in entry.columns]
    is_read = entry.status is not CatalogStatus.PENDING
    return PinnedProfile(
        file=entry.file,
        is_current=is_read and entry.options_digest == part.options[entry.file].digest,
        status=entry.status,
        error=entry.error,
        rows=entry.rows,
        format=entry.format,
        columns=tuple(column.name for column in columns),
        identifying=frozenset(
            column.name for column in columns if column.personal_data and column.personal_data.is_direct
        ),
    )
