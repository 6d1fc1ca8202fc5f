"""Rules of prediction runs: what may be started, stopped and restarted, and what is shown of a run."""

import math
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from functions.predictions.fit import key_columns, require_fitting
from shared.checkpoints.aliases import CheckpointAliases
from shared.clock import Clock, new_id
from shared.connectors.storage import DOWNLOAD_LIFETIME, ConnectorStorages, MissingFileError
from shared.dynamodb.repository import Idempotency, Repository
from shared.dynamodb.table import Table
from shared.errors import ConflictError, NotFoundError, ValidationFailedError
from shared.insights.store import InsightPolicies
from shared.jobs.launcher import JobLauncher
from shared.models.base import Page
from shared.models.connector import Connector, Download
from shared.models.job_reference import JobKind
from shared.models.job_status import JobStatus
from shared.models.prediction import PredictionCreate, PredictionRun
from shared.models.run import MANIFEST_FILE, PredictionSettings, RunOutput, RunPlan
from shared.observability import logger
from shared.propensity.scorers import Scorers
from shared.runs.engines import TASK_SECONDS, choose
from shared.runs.inputs import InputFinder
from shared.runs.plans import PART_ROWS, Plans, part_file, tasks_of
from shared.runs.store import Runs
from shared.spaces.members import SpaceContext

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# What one slow processor scores, without and with contributions.
ROWS_A_SECOND = 20_000
EXPLAINED_ROWS_A_SECOND = 1_000


class PredictionService:
    def __init__(
        self,
        table: Table,
        s3: "S3Client",
        scorers: Scorers,
        inputs: InputFinder,
        storages: ConnectorStorages,
        plans: Plans,
        launcher: JobLauncher,
        clock: Clock,
        *,
        function_rows: int,
    ) -> None:
        self._runs = Runs(table, PredictionRun, JobKind.PREDICTION, clock)
        self._connectors = Repository(table, Connector, kind="connector", clock=clock)
        self._aliases = CheckpointAliases(table, clock)
        self._policies = InsightPolicies(table, clock)
        self._s3 = s3
        self._scorers = scorers
        self._inputs = inputs
        self._storages = storages
        self._plans = plans
        self._launcher = launcher
        self._clock = clock
        self._function_rows = function_rows

    def create(
        self, context: SpaceContext, request: PredictionCreate, idempotency: Idempotency | None
    ) -> PredictionRun:
        """Checks everything, stores a ``pending`` run with its plan, and starts its workflow.

        If the workflow can't be started, the run stays ``pending``, and the reconciler starts it. Raises
        ValidationFailedError and ConflictError for what can't be scored or written, and StorageError.
        """
        first = self._runs.repository.answered(context.space_id, idempotency) if idempotency else None
        run = first or self._store(context, request, idempotency)
        self._start(context, run)
        return run

    def list_after(self, context: SpaceContext, after: str, limit: int) -> Page[PredictionRun]:
        return self._runs.repository.list_after(context.space_id, after, limit)

    def get(self, context: SpaceContext, run_id: str) -> PredictionRun:
        """Returns a run with its progress."""
        run = self._runs.repository.get(context.space_id, run_id)
        return run.model_copy(update={"progress": self._runs.progress(context.space_id, run)})

    def stop(self, context: SpaceContext, run_id: str) -> PredictionRun:
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

    def restart(self, context: SpaceContext, run_id: str) -> PredictionRun:
        """Starts a run that goes on with the finished parts of a failed or stopped one. A repeated call returns it.

        Raises ConflictError for any other run, and for one whose parts are too old.
        """
        run = self._runs.repository.get(context.space_id, run_id)
        if run.restarted_as is None:
            if not (run.status.is_final and run.status is not JobStatus.SUCCEEDED):
                raise ConflictError(f"The run is {run.status}. Only a run that has failed or was stopped can go on.")
            self._inputs.require_empty(context.space_id, run.output.connector_id, run.output.folder)
            run = self._runs.restart(context.space_id, run, context.user_id, new_id())
        restarted = self._runs.repository.get(context.space_id, run.restarted_as or run_id)
        self._start(context, restarted)
        return restarted

    def files(self, context: SpaceContext, run_id: str, after: str, limit: int) -> Page[Download]:
        """Returns the files of the output, each with an address for 15 minutes.

        Raises ConflictError if they were deleted.
        """
        run = self._runs.repository.get(context.space_id, run_id)
        if run.status is not JobStatus.SUCCEEDED:
            return Page(count=0, data=[], has_more=False)
        try:
            connector = self._connectors.get(context.space_id, run.output.connector_id)
        except NotFoundError:
            raise ConflictError("The connector of the output was deleted.") from None
        storage = self._storages.open(context.space_id, connector)
        names = [f"{run.output.folder}/{name}" for name in (MANIFEST_FILE, *map(part_file, range(run.parts)))]
        later = [name for name in names if name > after]
        expires_at = self._clock() + DOWNLOAD_LIFETIME
        try:
            data = [storage.presigned_download(name, expires_at) for name in later[:limit]]
        except MissingFileError as error:
            raise ConflictError(f"The file '{error}' of the output was deleted.") from None
        return Page(count=len(names), data=data, has_more=len(later) > limit)

    def _store(
        self, context: SpaceContext, request: PredictionCreate, idempotency: Idempotency | None
    ) -> PredictionRun:
        space_id, run_id = context.space_id, new_id()
        checkpoint = self._aliases.checkpoint(space_id, request.checkpoint_id)
        if checkpoint is None:
            raise ValidationFailedError.of(
                "body.checkpoint_id", "there is no checkpoint with this id or alias; GET /checkpoints lists them"
            )
        folder = request.output.folder or f"predictions/run={run_id}"
        self._inputs.require_empty(space_id, request.output.connector_id, folder)
        inputs = self._inputs.find(space_id, request)
        stored = self._scorers.get(self._s3, checkpoint.artifact).checkpoint
        require_fitting(stored.features, inputs.files)
        rule = self._policies.get(space_id).client_key
        keys = key_columns(rule, inputs.files, request.key_column)
        rate = EXPLAINED_ROWS_A_SECOND if request.contributions else ROWS_A_SECOND
        tasks = tasks_of(inputs, rate * TASK_SECONDS, PART_ROWS)
        choice = choose(
            [each.file for each in inputs.files],
            inputs.rows,
            len(tasks),
            rows_per_second=rate,
            function_rows=self._function_rows,
        )
        now = self._clock()
        run = PredictionRun(
            id=run_id,
            work_id=run_id,
            work_began_at=now,
            created_at=now,
            updated_at=now,
            created_by=context.user_id,
            checkpoint_id=checkpoint.id,
            model=request.checkpoint_id,
            threshold=stored.threshold,
            contributions=request.contributions,
            key_columns=keys,
            connector_id=request.connector_id,
            files=request.files,
            output=RunOutput(connector_id=request.output.connector_id, folder=folder),
            max_refused_share=request.max_refused_share,
            engine=choice.engine,
            engine_reason=choice.reason,
            instance_count=choice.instance_count,
            file_count=len(inputs.files),
            size_bytes=inputs.size_bytes,
            parts=sum(len(task.parts) for task in tasks),
            rows=inputs.rows,
        )
        settings = PredictionSettings(
            artifact=checkpoint.artifact, contributions=request.contributions, key_columns=keys
        )
        plan = RunPlan(
            kind=JobKind.PREDICTION,
            space_id=space_id,
            work_id=run_id,
            access=inputs.access,
            settings=settings.model_dump(mode="json"),
            max_refused_rows=math.floor(request.max_refused_share * inputs.rows),
        )
        self._plans.save(plan, tasks)
        return self._runs.create(space_id, run, idempotency)

    def _start(self, context: SpaceContext, run: PredictionRun) -> None:
        job = self._runs.reference(context.space_id, run)
        try:
            self._launcher.start(job)
        except (ClientError, BotoCoreError):
            logger.exception("the workflow did not start: the reconciler will try again", extra=job.execution_input)
