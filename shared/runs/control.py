"""What members do with runs of every kind: they start, list, stop and restart them, and download their files."""

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from shared.clock import Clock, new_id
from shared.connectors.storage import DOWNLOAD_LIFETIME, ConnectorStorages, MissingFileError
from shared.dynamodb.repository import Idempotency, Repository
from shared.dynamodb.table import Table
from shared.errors import ConflictError, NotFoundError, ValidationFailedError
from shared.jobs.launcher import JobLauncher
from shared.models.base import Page
from shared.models.connector import Connector, Download
from shared.models.job import JobModel
from shared.models.job_status import JobStatus
from shared.models.run import MANIFEST_FILE, Run, RunCreate, RunOutput, RunOutputCreate, RunPlan
from shared.observability import logger
from shared.runs.engines import TASK_SECONDS, choose
from shared.runs.inputs import InputFinder, RunInputs
from shared.runs.plans import Plans, part_file, tasks_of
from shared.runs.store import Runs
from shared.spaces.members import SpaceContext

if TYPE_CHECKING:
    from shared.space_usage.storage import StorageUsages

R = TypeVar("R", bound=Run)
C = TypeVar("C", bound=RunCreate)


class RunControl(ABC, Generic[R, C]):
    """The runs of one kind. ``function_rows`` is the most rows of a run that functions carry out."""

    def __init__(
        self,
        runs: Runs[R],
        table: Table,
        inputs: InputFinder,
        storages: ConnectorStorages,
        plans: Plans,
        launcher: JobLauncher,
        storage_usages: "StorageUsages",
        clock: Clock,
        *,
        function_rows: int,
    ) -> None:
        self._runs = runs
        self._connectors = Repository(table, Connector, kind="connector", clock=clock)
        self._inputs = inputs
        self._storages = storages
        self._plans = plans
        self._launcher = launcher
        self._storage_usages = storage_usages
        self._clock = clock
        self._function_rows = function_rows

    def create(self, context: SpaceContext, request: C, idempotency: Idempotency | None) -> R:
        """Checks everything, stores a ``pending`` run with its plan, and starts its workflow.

        If the workflow can't be started, the run stays ``pending``, and the reconciler starts it. Raises
        ValidationFailedError and ConflictError for what can't be read, done or written, LimitReachedError, and
        StorageError.
        """
        run = self._runs.repository.answered(context.space_id, idempotency) if idempotency else None
        if run is None:
            self._storage_usages.require_room(context.space_id)
            run = self._store(context, request, idempotency)
        self.start(context, run)
        return run

    @abstractmethod
    def _store(self, context: SpaceContext, request: C, idempotency: Idempotency | None) -> R:
        """Checks a request and stores its run."""

    def _empty_output(self, space_id: str, output: RunOutputCreate, folder: str) -> RunOutput:
        """Returns the output in the requested folder or this one. Raises ConflictError if files are in it."""
        folder = output.folder or folder
        self._inputs.require_empty(space_id, output.connector_id, folder)
        return RunOutput(connector_id=output.connector_id, folder=folder)

    def _save(
        self,
        context: SpaceContext,
        request: C,
        idempotency: Idempotency | None,
        inputs: RunInputs,
        settings: JobModel,
        *,
        rows_per_second: int,
        part_rows: int,
        **values: Any,
    ) -> R:
        """Stores a run with its plan. ``values`` are its id, its moment ``created_at`` and the fields of its kind."""
        tasks = tasks_of(inputs, rows_per_second * TASK_SECONDS, part_rows)
        choice = choose(
            [each.file for each in inputs.files],
            inputs.rows,
            len(tasks),
            rows_per_second=rows_per_second,
            function_rows=self._function_rows,
        )
        run = self._runs.model(
            **values,
            work_id=values["id"],
            work_began_at=values["created_at"],
            updated_at=values["created_at"],
            created_by=context.user_id,
            connector_id=request.connector_id,
            files=request.files,
            max_refused_share=request.max_refused_share,
            engine=choice.engine,
            engine_reason=choice.reason,
            instance_count=choice.instance_count,
            file_count=len(inputs.files),
            size_bytes=inputs.size_bytes,
            parts=sum(len(task.parts) for task in tasks),
            rows=inputs.rows,
        )
        plan = RunPlan(
            kind=self._runs.kind,
            space_id=context.space_id,
            work_id=run.id,
            access=inputs.access,
            settings=settings.model_dump(mode="json"),
            max_refused_rows=math.floor(request.max_refused_share * inputs.rows),
        )
        self._plans.save(plan, tasks)
        return self._runs.create(context.space_id, run, idempotency, self._storage_usages.stage)

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

        It reads by the access that the connector has now. Raises ConflictError for any other run, for one whose parts
        are too old, and if what it needs is gone or another one; LimitReachedError; StorageError.
        """
        run = self._runs.repository.get(context.space_id, run_id)
        if run.restarted_as is None:
            self._runs.require_parts(run)
            self._storage_usages.require_room(context.space_id)
            self._renew(context.space_id, run)
            run = self._runs.restart(context.space_id, run, context.user_id, new_id(), self._storage_usages.stage)
        restarted = self._runs.repository.get(context.space_id, run.restarted_as or run_id)
        self.start(context, restarted)
        return restarted

    def _renew(self, space_id: str, run: R) -> None:
        """Stores the connector's present access in the plan. Raises ConflictError if the plan no longer fits."""
        if run.output is not None:
            try:
                self._inputs.require_empty(space_id, run.output.connector_id, run.output.folder)
            except ValidationFailedError:
                raise ConflictError("The connector of the output was deleted. Start another run.") from None
        plan = self._plans.load(space_id, run.work_id)
        self._require_current(space_id, run, plan)
        try:
            connector = self._connectors.get(space_id, run.connector_id)
        except NotFoundError:
            raise ConflictError("The connector of the files was deleted. Start another run.") from None
        storage = self._storages.open(space_id, connector)
        files = {task.file.key: task.file for task in self._plans.tasks(space_id, run.work_id)}
        if any((each.bucket, key) != (storage.bucket, storage.key(each.label)) for key, each in files.items()):
            raise ConflictError("The connector is to another place than when the run began. Start another run.")
        self._plans.renew(plan.model_copy(update={"access": self._storages.job_access(space_id, connector)}))

    @abstractmethod
    def _require_current(self, space_id: str, run: R, plan: RunPlan) -> None:
        """Raises ConflictError if something that the run needs was deleted, or is not to be used any more."""

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
