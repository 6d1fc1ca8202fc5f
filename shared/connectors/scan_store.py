"""Stores scans. A connector has one scan at a time; requests during a scan lead to another one after it."""

from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from typing import Any

from boto3.dynamodb.conditions import Attr

from shared.clock import Clock, new_id, utc_now
from shared.dynamodb.cleanup_list import CleanupList
from shared.dynamodb.repository import ConditionNotMetError, Repository
from shared.dynamodb.table import ConditionFailedError, Table, TransactionFailedError, Write, repeat_on_conflict, update
from shared.errors import ConflictError, NotFoundError
from shared.jobs.store import Jobs
from shared.models.connector import Connector, Scan, ScanScope
from shared.models.job_reference import JobKind, JobReference
from shared.models.job_status import JobStatus

BUSY = "The connector is busy."
SCANS_KEPT = timedelta(days=30)


class Scans:
    """The scans of all connectors. A scan is known for a month after its end."""

    def __init__(self, table: Table, clock: Clock = utc_now) -> None:
        self.connectors = Repository(table, Connector, kind="connector", clock=clock)
        self.repository = Repository(table, Scan, kind="scan", clock=clock)
        self._jobs = Jobs(table, clock)
        self._purges = CleanupList(table, "connector", clock)
        self._table = table
        self._clock = clock

    def request(self, space_id: str, connector_id: str, scope: ScanScope) -> tuple[Scan, JobReference | None]:
        """Returns a new scan with the job to start, or the running one, after which another will follow.

        Files of events and requests are marked in the catalog before, and checked when a scan ends.
        Raises NotFoundError.
        """

        def step() -> tuple[Scan, JobReference | None]:
            connector = self.connectors.get(space_id, connector_id)
            if connector.scan_id is None:
                return self._begin(space_id, connector, scope)
            if scope is not ScanScope.NAMED:
                self._request_another(space_id, connector)
            try:
                return self.repository.get(space_id, connector.scan_id), None
            except NotFoundError:  # the scan has ended and is deleted
                raise ConditionFailedError(None) from None

        return repeat_on_conflict(step, BUSY)

    def change(
        self, space_id: str, connector: Connector, changes: dict[str, Any]
    ) -> tuple[Connector, JobReference | None]:
        """Writes changes that need a scan of everything, and requests the scan in the same write.

        Returns the job to start, unless the scan follows a running one. Raises NotFoundError, and ConflictError when
        the connector has changed since it was read.
        """

        def step() -> tuple[Connector, JobReference | None]:
            current = self.connectors.get(space_id, connector.id)
            if current.version != connector.version:
                raise ConflictError("Others are changing the connector at the same time. Try again.")
            if current.scan_id is None:
                _, job = self._begin(space_id, current, ScanScope.ALL, changes)
                return self.connectors.get(space_id, connector.id), job
            unchanged = Attr("version").eq(current.version) & Attr("scan_id").eq(current.scan_id)
            values = {**changes, "rescan_requested": True}
            return self.connectors.update(space_id, connector.id, values, condition=unchanged), None

        return repeat_on_conflict(step, BUSY, (ConditionNotMetError, TransactionFailedError))

    def run(self, space_id: str, scan_id: str) -> Scan:
        """Marks a scan as running and returns it; one that has ended is returned unchanged. Raises NotFoundError."""
        return self._advance(space_id, scan_id, {"status": JobStatus.RUNNING})

    def get(self, space_id: str, scan_id: str) -> Scan:
        """Raises NotFoundError."""
        return self.repository.get(space_id, scan_id)

    def end(
        self, space_id: str, connector_id: str, scan_id: str, status: JobStatus, values: dict[str, Any]
    ) -> JobReference | None:
        """Ends a scan and frees the connector, or starts the scan that was requested during it.

        Returns the job of that scan, which must be started. Safe to repeat. The caller calls ``close`` afterwards, so
        that the reconciler continues an interrupted end.
        """
        ended = {"status": status, "expires_at": int((self._clock() + SCANS_KEPT).timestamp()), **values}
        with suppress(NotFoundError):  # forgotten since
            self._advance(space_id, scan_id, ended)

        def step() -> JobReference | None:
            try:
                connector = self.connectors.get(space_id, connector_id)
            except NotFoundError:
                # The scan may have stored something after the connector's data was removed.
                self._purges.write(self._purges.note(space_id, connector_id))
                return None
            if connector.scan_id != scan_id:
                return None
            if connector.rescan_requested:
                return self._begin(space_id, connector, ScanScope.ALL)[1]
            unchanged = Attr("scan_id").eq(scan_id) & ~Attr("rescan_requested").eq(True)
            self._table.write(self._mark(space_id, connector_id, unchanged, scan_id=None))
            return None

        return repeat_on_conflict(step, BUSY)

    def close(self, scan_id: str) -> None:
        """Closes the job of an ended scan."""
        self._table.transact(self._jobs.retire(scan_id, self._clock() + SCANS_KEPT))

    def _begin(
        self, space_id: str, connector: Connector, scope: ScanScope, changes: dict[str, Any] | None = None
    ) -> tuple[Scan, JobReference]:
        """Starts a scan after the connector's last one, and makes ``changes`` of the connector in the same transaction.

        Raises TransactionFailedError when another writer was faster.
        """
        now = self._clock()
        scan = Scan(id=new_id(), created_at=now, updated_at=now, connector_id=connector.id, scope=scope)
        is_last = Attr("scan_id").eq(connector.scan_id) if connector.scan_id else Attr("scan_id").not_exists()
        unchanged = Attr("PK").exists() & is_last
        begun = {"scan_id": scan.id, "rescan_requested": False}
        also: Iterable[Write] = [
            self._mark(space_id, connector.id, unchanged, **begun)
            if changes is None
            else self.connectors.update_write(
                space_id, connector.id, {**changes, **begun}, expected_version=connector.version, condition=is_last
            ),
            *self._jobs.open(JobKind.SCAN, space_id, scan.id, parent_id=connector.id),
        ]
        self.repository.create(space_id, scan, also=list(also))
        return scan, JobReference(JobKind.SCAN, space_id, scan.id, now, connector.id)

    def _request_another(self, space_id: str, connector: Connector) -> None:
        running = Attr("scan_id").eq(connector.scan_id)
        self._table.write(self._mark(space_id, connector.id, running, rescan_requested=True))

    def _advance(self, space_id: str, scan_id: str, values: dict[str, Any]) -> Scan:
        final = [status.value for status in JobStatus if status.is_final]
        try:
            return self.repository.update(space_id, scan_id, values, condition=~Attr("status").is_in(final))
        except ConditionNotMetError:
            return self.repository.get(space_id, scan_id)

    def _mark(self, space_id: str, connector_id: str, condition: Any, **values: Any) -> Write:
        # No part of the connector as its users see it: neither its version nor the time of its change moves.
        return update(self.connectors.key(space_id, connector_id), values, condition=condition)
