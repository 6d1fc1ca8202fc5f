"""Removes what is left of runs that have ended: finished parts, and files of an output that was withdrawn."""

from typing import Any

from shared.connectors.storage import ConnectorStorages
from shared.dynamodb.cleanup_list import CleanupList
from shared.errors import NotFoundError
from shared.models.job_status import JobStatus
from shared.models.run import Run
from shared.runs.erasures import Erasures
from shared.runs.plans import Plans
from shared.runs.publishing import Publisher
from shared.runs.store import Runs


class RunCleaner:
    """Cleans up after the runs of one kind. Each end of a run notes it on the list."""

    def __init__(
        self, runs: Runs[Any], storages: ConnectorStorages, plans: Plans, publisher: Publisher, erasures: Erasures
    ) -> None:
        self._runs = runs
        self._storages = storages
        self._plans = plans
        self._publisher = publisher
        self._erasures = erasures

    @property
    def purges(self) -> CleanupList:
        return self._runs.purges

    def clean(self, space_id: str, run_id: str) -> None:
        """Removes what nobody needs of a run that has ended. Safe to repeat.

        Nobody needs the plan and the parts after a success. Those of other ends wait for a restart, unless a customer
        was erased since: then they are removed too, and no restart is possible. The last function of a run that was
        ended from outside may have published a file after the withdrawal, so this withdraws once more.
        """
        with self.purges.settling(run_id):
            try:
                run = self._runs.repository.get(space_id, run_id)
            except NotFoundError:
                return
            if run.status.is_final and run.status is not JobStatus.SUCCEEDED and run.is_publishing:
                self._withdraw(space_id, run)
            last = self._last(space_id, run)
            if not last.status.is_final:
                return  # its end notes it
            if last.status is JobStatus.SUCCEEDED or self._holds_erased(space_id, last):
                self._forget(space_id, last.work_id)

    def _withdraw(self, space_id: str, run: Run) -> None:
        """Deletes late files of a run, unless the folder belongs to another run by now."""
        if self._runs.take_folder(space_id, run):
            self._publisher.withdraw_own(space_id, run)
            self._runs.give_folder_back(space_id, run)

    def _last(self, space_id: str, run: Run) -> Run:
        """Returns the run that went on with the parts of a run, if one did."""
        while run.restarted_as is not None:
            run = self._runs.repository.get(space_id, run.restarted_as)
        return run

    def _holds_erased(self, space_id: str, run: Run) -> bool:
        """Returns whether parts may hold a customer who was erased. No restart takes them over then."""
        if not self._erasures.since(space_id, run.work_began_at):
            return False
        return self._runs.end_restarts(space_id, run.id)

    def _forget(self, space_id: str, work_id: str) -> None:
        self._storages.managed(self._plans.folder(space_id, work_id)).delete_all()
        self._runs.forget_parts(space_id, work_id)
