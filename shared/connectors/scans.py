"""A connector's scans and its end, as requests, events, workflow steps and the reconciler all need them."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from shared.clock import Clock, new_id
from shared.connectors.catalog import Catalog, Seen
from shared.connectors.scan_store import Scans
from shared.connectors.schema_drifts import SchemaDrifts
from shared.connectors.storage import ConnectorStorages
from shared.dynamodb.cleanup_list import CleanupList
from shared.errors import ApiError, NotFoundError
from shared.jobs.launcher import JobLauncher
from shared.models.catalog import CatalogEntry, CatalogStatus
from shared.models.connector import Connector, Scan, ScanScope, managed_prefix, snapshots_prefix
from shared.models.job_reference import JobReference
from shared.models.job_status import JobStatus
from shared.models.reading import ReadOptions
from shared.observability import logger
from shared.space_binding import BoundThreads

WRITES_AT_ONCE = 10
OWN_FAILURES = (ClientError, BotoCoreError, ApiError)


class ConnectorScans:
    """Starts and ends scans; at most one runs for a connector."""

    def __init__(
        self, scans: Scans, catalog: Catalog, drifts: SchemaDrifts, launcher: JobLauncher, clock: Clock
    ) -> None:
        self.scans = scans
        self.catalog = catalog
        self.drifts = drifts
        self._launcher = launcher
        self._clock = clock

    def request_files(self, space_id: str, connector_id: str, files: list[str]) -> Scan:
        """Requests a scan of these files, also of unchanged ones. Raises NotFoundError."""
        self.scans.connectors.get(space_id, connector_id)
        self.catalog.ask_for(space_id, connector_id, files, new_id())
        return self.request(space_id, connector_id, ScanScope.NAMED)

    def correct(self, space_id: str, connector_id: str, file: str, options: ReadOptions | None) -> None:
        """Stores how a file of the catalog is written, and requests its scan.

        Raises NotFoundError for an unknown file or connector, and PayloadTooLargeError.
        """
        self.catalog.correct(space_id, connector_id, file, options, new_id())
        self.request(space_id, connector_id, ScanScope.NAMED)

    def request(self, space_id: str, connector_id: str, scope: ScanScope) -> Scan:
        """Requests a scan of the connector, now or after the running scan. Raises NotFoundError.

        When the workflow can't be started the scan stays ``pending``; the reconciler starts it.
        """
        scan, job = self.scans.request(space_id, connector_id, scope)
        if job is not None:
            self._start(job)
        return scan

    def change(self, space_id: str, connector: Connector, changes: dict[str, Any]) -> Connector:
        """Changes a connector in a way that needs a scan of all of it, now or after the running scan.

        Raises as ``Scans.change`` does.
        """
        changed, job = self.scans.change(space_id, connector, changes)
        if job is not None:
            self._start(job)
        return changed

    def succeed(self, space_id: str, connector_id: str, scan_id: str, counts: dict[str, int]) -> None:
        """Ends a successful scan, and starts another one for files that were requested or changed during it."""
        self._end(space_id, connector_id, scan_id, JobStatus.SUCCEEDED, counts)

    def fail(self, space_id: str, connector_id: str, scan_id: str, error: str) -> None:
        """Ends a failed scan, and marks the pending files with the reason.

        Files that are pending afterwards were uploaded or named in between. Another scan follows only for them and
        where somebody asked for it, so that what fails always does not go on for ever.
        """
        with suppress(NotFoundError):
            # A repeated step must not mark the files of the next scan.
            if self.scans.connectors.get(space_id, connector_id).scan_id == scan_id:
                self._fail_pending(space_id, connector_id, scan_id, error)
        self._end(space_id, connector_id, scan_id, JobStatus.FAILED, {"error": error})

    def _fail_pending(self, space_id: str, connector_id: str, scan_id: str, error: str) -> None:
        problem = f"The scan failed: {error} Scan the connector again."
        # An event between the two reads is known to the second one only, so its file stays pending.
        states = self.catalog.states(space_id, connector_id)
        pending = self.catalog.pending(space_id, connector_id)
        failures = {
            file: (problem, Seen(states[file].sequencer if file in states else None, request))
            for file, request in pending.items()
        }
        self.record_failures(space_id, connector_id, scan_id, failures)

    def record_failures(
        self, space_id: str, connector_id: str, scan_id: str, failures: Mapping[str, tuple[str, Seen]]
    ) -> int:
        """Records why a scan has no result of files. Returns the number of files that no event has changed since.

        Raises NotFoundError.
        """
        connector = self.scans.connectors.get(space_id, connector_id)
        stated = self.catalog.read_options(space_id, connector_id)

        def record(file: str) -> bool:
            error, seen = failures[file]
            entry = CatalogEntry(
                file=file,
                status=CatalogStatus.ERROR,
                error=error,
                scanned_at=self._clock(),
                scan_id=scan_id,
                options_digest=connector.options_of(stated.get(file)).digest,
            )
            return self.catalog.record_result(space_id, connector_id, entry, seen)

        # A step has minutes for up to 100,000 files.
        with BoundThreads(WRITES_AT_ONCE) as pool:
            return sum(pool.map(record, failures))

    def _end(self, space_id: str, connector_id: str, scan_id: str, status: JobStatus, values: dict[str, Any]) -> None:
        following = self.scans.end(space_id, connector_id, scan_id, status, values)
        if following is not None:
            self._start(following)
        elif self.catalog.has_pending(space_id, connector_id):
            try:
                self.request(space_id, connector_id, ScanScope.NAMED)
            except NotFoundError:
                logger.info("the connector was deleted: no further scan", extra={"connector_id": connector_id})
        self.scans.close(scan_id)

    def _start(self, job: JobReference) -> None:
        try:
            self._launcher.start(job)
        except (ClientError, BotoCoreError):
            logger.exception("the scan did not start: the reconciler will try again", extra={"id": job.id})


class ConnectorCleaner:
    """Removes the remaining data of deleted connectors."""

    def __init__(
        self, purges: CleanupList, storages: ConnectorStorages, catalog: Catalog, drifts: SchemaDrifts
    ) -> None:
        self.purges = purges
        self._storages = storages
        self._catalog = catalog
        self._drifts = drifts

    def clean(self, space_id: str, connector_id: str) -> None:
        """Removes what is left of a connector that does not exist: credentials, files, copies of tables, catalog.

        A customer's own bucket or database is not touched. S3 keeps old versions of files for as long as the data
        bucket's lifecycle says (90 days). Raises what AWS raises; the connector then stays on the list. Safe to repeat.
        """
        with self.purges.settling(connector_id):
            if self.purges.is_gone(space_id, connector_id):
                self._storages.drop_credentials(connector_id)
                for prefix in (managed_prefix(space_id, connector_id), snapshots_prefix(space_id, connector_id)):
                    self._storages.managed(prefix).delete_all()
                self._catalog.forget(space_id, connector_id)
                self._drifts.forget(space_id, connector_id)

    def try_to_clean(self, space_id: str, connector_id: str) -> None:
        """Calls ``clean`` and logs a refusal of AWS. The next round tries again."""
        try:
            self.clean(space_id, connector_id)
        except OWN_FAILURES:
            logger.exception("leftovers of a connector remain", extra={"connector_id": connector_id})
