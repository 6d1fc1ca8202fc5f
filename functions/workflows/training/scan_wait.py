"""Waits for the scans of a training's files, because only a scan finds the columns that identify persons."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import ceil
from typing import Any

from functions.workflows.job_files import DataPart, JobFiles
from functions.workflows.job_inputs import unreadable
from shared.clock import Clock
from shared.connectors.catalog import FileState
from shared.connectors.scans import ConnectorScans
from shared.connectors.storage import FileVersion
from shared.errors import JobFailedError
from shared.models.base import format_timestamp, parse_timestamp
from shared.models.catalog import CatalogStatus

WAIT_LIMIT = timedelta(minutes=30)
FIRST_WAIT_SECONDS = 2
LONGEST_WAIT_SECONDS = 30
WAIT_GROWTH = 1.5
# A scan that ends without a result of a file is requested again, but not for ever.
REQUESTS_LIMIT = 3


@dataclass(frozen=True)
class ScanWait:
    """State of the waiting, which the state machine keeps from one check to the next."""

    since: datetime
    seconds: int = FIRST_WAIT_SECONDS
    # By connector, how many scans were requested.
    requests: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, event: Mapping[str, Any], now: datetime) -> "ScanWait":
        """Returns the state of an earlier check, or a new one."""
        if "waiting_since" not in event:
            return cls(now)
        seconds = min(LONGEST_WAIT_SECONDS, ceil(event["wait_seconds"] * WAIT_GROWTH))
        return cls(parse_timestamp(event["waiting_since"]), seconds, event["scan_requests"])

    def output(self) -> dict[str, Any]:
        """Returns the state for the next check."""
        since = format_timestamp(self.since)
        return {"waiting_since": since, "wait_seconds": self.seconds, "scan_requests": dict(self.requests)}


class ScanWaits:
    """Requests the scans of files without a result, and decides whether a training waits for them."""

    def __init__(self, scans: ConnectorScans, files: JobFiles, clock: Clock) -> None:
        self._scans = scans
        self._files = files
        self._clock = clock

    def unread(self, space_id: str, parts: Sequence[DataPart], wait: ScanWait) -> dict[str, list[str]]:
        """Returns by connector the files whose pinned content no scan has read as the job will read it.

        Raises JobFailedError for a content that no scan can read any more.
        """
        found = {part.connector.id: list(self._unread(space_id, part, wait.since)) for part in parts}
        return {connector_id: files for connector_id, files in found.items() if files}

    def request(
        self, space_id: str, parts: Sequence[DataPart], unread: Mapping[str, list[str]], wait: ScanWait
    ) -> ScanWait:
        """Requests the scans of the unread files, unless a scan of their connector runs.

        Raises JobFailedError after 30 minutes, and for files of which several scans had no result.
        """
        waiting = [part for part in parts if part.connector.id in unread]
        if self._clock() - wait.since > WAIT_LIMIT:
            raise _too_late(waiting[0], unread[waiting[0].connector.id])
        requests = dict(wait.requests)
        for part in waiting:
            connector = part.connector
            if connector.scan_id is None:
                requests[connector.id] = requests.get(connector.id, 0) + 1
                if requests[connector.id] > REQUESTS_LIMIT:
                    raise _without_result(part, unread[connector.id])
                requested = self._scans.catalog.pending(space_id, connector.id)
                files = [file for file in unread[connector.id] if file not in requested]
                self._scans.request_files(space_id, connector.id, files)
        return ScanWait(wait.since, wait.seconds, requests)

    def _unread(self, space_id: str, part: DataPart, since: datetime) -> Iterator[str]:
        contents = self._files.contents(space_id, part)
        for version in part.versions:
            state = contents.pinned[version.file]
            if state.status != CatalogStatus.PENDING and state.options_digest == part.options[version.file].digest:
                continue
            present = contents.present.get(version.file)
            if present is not None and present.etag != version.etag and _has_result_since(present, since):
                raise self._unreadable(space_id, part, version, present)
            yield version.file

    def _unreadable(self, space_id: str, part: DataPart, version: FileVersion, present: FileState) -> JobFailedError:
        """Returns the error for a file whose scan failed, or found another content than the pinned one."""
        if present.etag is None:
            entries = self._scans.catalog.entries(space_id, part.connector.id, [version.file])
            if version.file in entries:
                return unreadable(part.connector, version.file, entries[version.file].error)
        return JobFailedError(
            f"The file '{version.file}' of the connector '{part.connector.name}' has changed since the request, before "
            "a scan had read it. Start the training again to use the new content."
        )


def _has_result_since(state: FileState, since: datetime) -> bool:
    return state.status != CatalogStatus.PENDING and (state.scanned_at or "") >= format_timestamp(since)


def _too_late(part: DataPart, files: Sequence[str]) -> JobFailedError:
    minutes = WAIT_LIMIT // timedelta(minutes=1)
    return JobFailedError(
        f"{len(files)} file(s) of the connector '{part.connector.name}' were not scanned within {minutes} minutes, "
        f"such as '{files[0]}'. Start the training again when the connector's catalog shows them as scanned."
    )


def _without_result(part: DataPart, files: Sequence[str]) -> JobFailedError:
    return JobFailedError(
        f"{REQUESTS_LIMIT} scans of the connector '{part.connector.name}' had no result for {len(files)} file(s), "
        f"such as '{files[0]}'. Scan the connector, and start the training again when its catalog shows results."
    )
