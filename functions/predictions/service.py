"""Rules of prediction runs: what may be started, stopped and restarted, and what is shown of a run."""

import math
from typing import TYPE_CHECKING

from shared.checkpoints.aliases import CheckpointAliases
from shared.clock import Clock, new_id
from shared.connectors.storage import ConnectorStorages
from shared.dynamodb.repository import Idempotency
from shared.dynamodb.table import Table
from shared.errors import ValidationFailedError
from shared.insights.store import InsightPolicies
from shared.jobs.launcher import JobLauncher
from shared.models.job_reference import JobKind
from shared.models.prediction import PredictionCreate, PredictionRun
from shared.models.run import PredictionSettings, RunOutput, RunPlan
from shared.propensity.scorers import Scorers
from shared.runs.control import RunControl
from shared.runs.engines import TASK_SECONDS, choose
from shared.runs.inputs import InputFinder
from shared.runs.plans import PART_ROWS, Plans, tasks_of
from shared.runs.store import Runs
from shared.spaces.members import SpaceContext

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# What one slow processor scores, without and with contributions.
ROWS_A_SECOND = 20_000
EXPLAINED_ROWS_A_SECOND = 1_000


class PredictionService(RunControl[PredictionRun]):
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
        runs = Runs(table, PredictionRun, JobKind.PREDICTION, clock)
        super().__init__(runs, table, inputs, storages, launcher, clock)
        self._aliases = CheckpointAliases(table, clock)
        self._policies = InsightPolicies(table, clock)
        self._s3 = s3
        self._scorers = scorers
        self._plans = plans
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
        self.start(context, run)
        return run

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
        # Other requests need no numpy.
        from functions.predictions.fit import key_columns, require_fitting

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
