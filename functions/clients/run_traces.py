"""What runs have of a customer who is erased: rows of unfinished work, and rows of published files."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

from functions.clients.customers import Customer
from shared.connectors.storage import ConnectorStorages, MissingFileError
from shared.dynamodb.repository import Repository
from shared.dynamodb.table import Table
from shared.errors import NotFoundError
from shared.insights.ledger import Ledger
from shared.jobs.store import Jobs
from shared.models.client_history import NAMED_OUTPUTS, RunFolder
from shared.models.connector import Connector
from shared.models.job_reference import JobKind
from shared.models.job_status import JobStatus
from shared.models.run import MANIFEST_FILE, RunOutput
from shared.runs.erasures import Erasures
from shared.runs.kinds import runs_of_all_kinds
from shared.runs.plans import Plans

_READ = ("SK", "status", "output", "is_publishing")


class RunTraces:
    """Finds runs that may have rows about a customer."""

    def __init__(self, table: Table, storages: ConnectorStorages, plans: Plans, erasures: Erasures) -> None:
        self._table = table
        self._storages = storages
        self._plans = plans
        self._erasures = erasures
        self._ledger = Ledger(table)
        self._jobs = Jobs(table)
        self._runs = runs_of_all_kinds(table)
        self._connectors = Repository(table, Connector, kind="connector")

    def leave_out(self, customer: Customer) -> bool:
        """Lets runs that have not ended leave the customer out, and finished parts of others be deleted.

        Returns whether there are any. Parts are deleted when their run has ended, within 20 minutes.
        """
        space_id = customer.space_id
        work_ids = self._plans.work_ids(space_id)
        if not work_ids:
            return False
        until = self._erasures.record(space_id, customer.digests)
        for digest in customer.digests:
            self._ledger.refuse_earlier_decisions(space_id, digest, until)
        for work_id in work_ids:
            job = self._jobs.find(work_id)
            if job is not None and job.kind in self._runs:
                purges = self._runs[job.kind].purges
                purges.write(purges.note(space_id, work_id))
        return True

    def outputs(self, space_id: str, require_time: Callable[[], None]) -> list[RunFolder]:
        """Returns the folders with published files, newest first, and one more than are named in an answer.

        Nobody knows which customers are in them. ``require_time`` raises an error when the request has no more time.
        """
        found: list[RunFolder] = []
        for kind in self._runs:
            found += islice(self._of_kind(space_id, kind, require_time), NAMED_OUTPUTS + 1)
        return sorted(found, key=lambda each: each.run_id, reverse=True)[: NAMED_OUTPUTS + 1]

    def _of_kind(self, space_id: str, kind: JobKind, require_time: Callable[[], None]) -> Iterator[RunFolder]:
        for item in self._table.query(self._runs[kind].repository.key(space_id, "").pk, attributes=_READ):
            require_time()
            if item.get("output") and self._may_have_files(space_id, item):
                output = RunOutput.model_validate(item["output"])
                yield RunFolder(kind=kind.value, run_id=item["SK"], **output.model_dump())

    def _may_have_files(self, space_id: str, item: dict[str, Any]) -> bool:
        status = JobStatus(item["status"])
        if status is not JobStatus.SUCCEEDED:
            return bool(item.get("is_publishing")) and not status.is_final
        output = RunOutput.model_validate(item["output"])
        with suppress(NotFoundError, MissingFileError):
            connector = self._connectors.get(space_id, output.connector_id)
            self._storages.open(space_id, connector).head(f"{output.folder}/{MANIFEST_FILE}")
            return True
        return False
