"""What members do with runs of every kind: they list, stop and restart them, and download their files."""

from typing import Generic, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from shared.clock import Clock, new_id
from shared.connectors.storage import DOWNLOAD_LIFETIME, ConnectorStorages, MissingFileError
from shared.dynamodb.repository import Repository
from shared.dynamodb.table import Table
from shared.errors import ConflictError, NotFoundError
from shared.jobs.launcher import JobLauncher
from shared.models.base import Page
from shared.models.connector import Connector, Download
from shared.models.job_status import JobStatus
from shared.models.run import MANIFEST_FILE, Run
from shared.observability import logger
from shared.runs.inputs import InputFinder
from shared.runs.plans import part_file
from shared.runs.store import Runs
from shared.spaces.members import SpaceContext

R = TypeVar("R", bound=Run)


class RunControl(Generic[R]):
    """The runs of one kind."""

    def __init__(
        self,
        runs: Runs[R],
        table: Table,
        inputs: InputFinder,
        storages: ConnectorStorages,
        launcher: JobLauncher,
        clock: Clock,
    ) -> None:
        self._runs = runs
        self._connectors = Repository(table, Connector, kind="connector", clock=clock)
        self._inputs = inputs
        self._storages = storages
        self._launcher = launcher
        self._clock = clock

    def list_after(self, context: SpaceContext, after: str, limit: int) -> Page[R]:
        return self._runs.repository.list_after(context.space_id, after, limit)

    def get(self, context: SpaceContext, run_id: str) -> R:
        """Returns a run with its progress."""
        run = self._runs.repository.get(context.space_id, run_id)
        return run.model_copy(update={"progress": self._runs.progress(context.space_id, run)})

    def stop(self, context: SpaceContext, run_id: str) -> R:
        """Stops a run. Nothing of it is published, and a restart goes on with its finished parts.

        Raises ConflictError for a run that has ended otherwise, or whose output is being published.
        """
        run = self._runs.stop(context.space_id, run_id)
        try:
            self._launcher.stop(self._runs.reference(context.space_id, run), "A member stopped the run.")
        except (ClientError, BotoCoreError):
            # Its tasks see that the run has ended, and end too.
            logger.exception("the workflow of a stopped run goes on", extra={"run_id": run_id})
        return run

    def restart(self, context: SpaceContext, run_id: str) -> R:
        """Starts a run that goes on with the finished parts of a failed or stopped one. A repeated call returns it.

        Raises ConflictError for any other run, and for one whose parts are too old.
        """
        run = self._runs.repository.get(context.space_id, run_id)
        if run.restarted_as is None:
            if not (run.status.is_final and run.status is not JobStatus.SUCCEEDED):
                raise ConflictError(f"The run is {run.status}. Only a run that has failed or was stopped can go on.")
            if run.output is not None:
                self._inputs.require_empty(context.space_id, run.output.connector_id, run.output.folder)
            run = self._runs.restart(context.space_id, run, context.user_id, new_id())
        restarted = self._runs.repository.get(context.space_id, run.restarted_as or run_id)
        self.start(context, restarted)
        return restarted

    def files(self, context: SpaceContext, run_id: str, after: str, limit: int) -> Page[Download]:
        """Returns the files of the output, each with an address for 15 minutes.

        Raises ConflictError if they were deleted.
        """
        run = self._runs.repository.get(context.space_id, run_id)
        if run.output is None or run.status is not JobStatus.SUCCEEDED:
            return Page(count=0, data=[], has_more=False)
        try:
            connector = self._connectors.get(context.space_id, run.output.connector_id)
        except NotFoundError:
            raise ConflictError("The connector of the output was deleted.") from None
        storage = self._storages.open(context.space_id, connector)
        folder = run.output.folder
        names = [f"{folder}/{name}" for name in (MANIFEST_FILE, *map(part_file, range(run.parts)))]
        later = [name for name in names if name > after]
        expires_at = self._clock() + DOWNLOAD_LIFETIME
        try:
            data = [storage.presigned_download(name, expires_at) for name in later[:limit]]
        except MissingFileError as error:
            raise ConflictError(f"The file '{error}' of the output was deleted.") from None
        return Page(count=len(names), data=data, has_more=len(later) > limit)

    def start(self, context: SpaceContext, run: R) -> None:
        job = self._runs.reference(context.space_id, run)
        try:
            self._launcher.start(job)
        except (ClientError, BotoCoreError):
            logger.exception("the workflow did not start: the reconciler will try again", extra=job.execution_input)
