"""A scan begins: the files it has to read are written down for the map that follows."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from boto3.dynamodb.conditions import Attr

from shared.connectors.catalog import FileState, Seen
from shared.connectors.scans import WRITES_AT_ONCE, ConnectorScans
from shared.connectors.storage import StorageError
from shared.dynamodb.repository import ConditionNotMetError
from shared.errors import JobFailedError, NotFoundError, TransientError, ValidationFailedError
from shared.models.catalog import CatalogStatus
from shared.models.connector import Connector, ConnectorStatus, Scan, ScanScope
from shared.observability import workflow_step
from shared.resources import Resources
from shared.space_binding import BoundThreads

T = TypeVar("T")

FILES_LIMIT = 100_000
SMALL_BYTES = 1 << 20
GROUP_FILES = 25
# For the names of all tables.
LISTING_SECONDS = 60
_resources = Resources()


def list_scan_files(resources: Resources, event: dict[str, Any]) -> dict[str, Any]:
    """Takes ``{space_id, connector_id, scan_id}``; adds ``list_key``, a JSON list of ``{name, sequencer, request}``.

    ``groups_key`` has the same files in groups, for each of which one function is started; fewer in parallel if the
    connector ``is_database``.

    A scan of all files leaves out those whose content the catalog knows already, read with the present options, and
    drops from the catalog what is gone from the bucket; of a database, all tables are read. Raises JobFailedError when
    the bucket or database can't be read or holds too many files, TransientError when it may be read later.
    """
    space_id, connector_id, scan_id = event["space_id"], event["connector_id"], event["scan_id"]
    scans = resources.connector_scans
    try:
        connector = scans.scans.connectors.get(space_id, connector_id)
        scan = scans.scans.run(space_id, scan_id)
    except NotFoundError:
        raise JobFailedError("The connector was deleted.") from None
    # Read before the bucket is: what is known here and not there is gone, unless an event says otherwise since.
    states = scans.catalog.states(space_id, connector_id)
    requests = scans.catalog.pending(space_id, connector_id)
    if scan.scope is ScanScope.ALL:
        sizes = _changed_files(resources, scans, space_id, connector, scan, states)
    else:
        sizes = {name: states[name].size_bytes if name in states else None for name in requests}
    items = [
        {
            "name": name,
            "sequencer": states[name].sequencer if name in states else None,
            "request": requests.get(name),
        }
        for name in sizes
    ]
    keys = {}
    for name, content in (("list", items), ("groups", groups(items, list(sizes.values())))):
        keys[f"{name}_key"] = f"spaces/{space_id}/scans/{scan_id}/{name}.json"
        resources.s3.put_object(
            Bucket=resources.settings.bucket_name,
            Key=keys[f"{name}_key"],
            Body=json.dumps(content).encode(),
            ContentType="application/json",
        )
    identity = {"space_id": space_id, "connector_id": connector_id, "scan_id": scan_id}
    return {**identity, **keys, "is_database": connector.postgres is not None}


def groups(items: Sequence[T], sizes: Sequence[int | None]) -> list[list[T]]:
    """Returns small files in groups, and others alone.

    Reading a small file takes less time than the start of a function. A crash costs the files of its group their
    result, so files that could cause one are alone.
    """
    small = [item for item, size in zip(items, sizes, strict=True) if size is not None and size <= SMALL_BYTES]
    others = [[item] for item, size in zip(items, sizes, strict=True) if size is None or size > SMALL_BYTES]
    return [small[start : start + GROUP_FILES] for start in range(0, len(small), GROUP_FILES)] + others


def _changed_files(
    resources: Resources,
    scans: ConnectorScans,
    space_id: str,
    connector: Connector,
    scan: Scan,
    states: Mapping[str, FileState],
) -> dict[str, int | None]:
    """Returns the files to read, with their sizes."""
    found: dict[str, tuple[str | None, int | None]] = {}
    connectors = scans.scans.connectors
    try:
        for name, etag, size in _present(resources, space_id, connector):
            found[name] = etag, size
            if len(found) > FILES_LIMIT:
                raise JobFailedError(f"The connector has more than {FILES_LIMIT:,} files. Name those to scan.")
    except (StorageError, ValidationFailedError) as error:
        if isinstance(error, StorageError) and error.is_transient:
            raise TransientError(error.message) from error
        problem = {"status": ConnectorStatus.ERROR, "error": error.message}
        try:
            connectors.update(space_id, connector.id, problem, condition=Attr("version").eq(connector.version))
        except ConditionNotMetError:  # it may have got new access in between
            return _changed_files(resources, scans, space_id, connectors.get(space_id, connector.id), scan, states)
        raise JobFailedError(error.message) from error
    if connector.status is not ConnectorStatus.CONNECTED:
        connectors.update(space_id, connector.id, {"status": ConnectorStatus.CONNECTED, "error": None})
    gone = [name for name, state in states.items() if name not in found and state.status in list(CatalogStatus)]
    storage = resources.connector_storages.open(space_id, connector) if connector.postgres else None

    def drop(name: str) -> None:
        if storage is not None:
            storage.delete(name)
        scans.catalog.record_missing(space_id, connector.id, name, Seen(states[name].sequencer), scan.id)

    with BoundThreads(WRITES_AT_ONCE) as pool:
        list(pool.map(drop, gone))
    options = scans.catalog.read_options(space_id, connector.id)
    usual = connector.options_of(None).digest

    def is_known(name: str, etag: str | None) -> bool:
        digest = connector.options_of(options[name]).digest if name in options else usual
        wanted = (CatalogStatus.SCANNED, etag, digest)
        state = states.get(name)
        return state is not None and (state.status, state.etag, state.options_digest) == wanted

    return {name: size for name, (etag, size) in found.items() if not is_known(name, etag)}


def _present(resources: Resources, space_id: str, connector: Connector) -> Iterator[tuple[str, str | None, int | None]]:
    """Yields each name with the tag and the size of its content. Those of a table are known once it has been read."""
    if connector.postgres:
        with resources.postgres_databases.open(connector, LISTING_SECONDS) as database:
            yield from ((table, None, None) for table in database.tables())
    else:
        yield from (
            (each.file, each.etag, each.size_bytes)
            for each in resources.connector_storages.open(space_id, connector).files()
        )


@workflow_step
def handler(event: dict[str, Any]) -> dict[str, Any]:
    return list_scan_files(_resources, event)
