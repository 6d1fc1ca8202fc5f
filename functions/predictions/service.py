"""Rules of prediction runs: what may be started."""

from typing import TYPE_CHECKING

from shared.checkpoints.aliases import CheckpointAliases
from shared.clock import Clock, new_id
from shared.connectors.storage import ConnectorStorages
from shared.dynamodb.repository import Idempotency
from shared.dynamodb.table import Table
from shared.errors import ConflictError, ValidationFailedError
from shared.insights.store import InsightPolicies
from shared.jobs.launcher import JobLauncher
from shared.models.job_reference import JobKind
from shared.models.prediction import PredictionCreate, PredictionRun
from shared.models.run import PredictionSettings, RunPlan
from shared.propensity.scorers import Scorers
from shared.runs.control import RunControl
from shared.runs.inputs import InputFinder
from shared.runs.plans import PART_ROWS, Plans
from shared.runs.store import Runs
from shared.spaces.members import SpaceContext

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from shared.space_usage.storage import StorageUsages

# What one slow processor scores, without and with contributions.
ROWS_A_SECOND = 20_000
EXPLAINED_ROWS_A_SECOND = 1_000
# The same of a model with networks.
NETWORK_ROWS_A_SECOND = 5_000
EXPLAINED_NETWORK_ROWS_A_SECOND = 100


class PredictionService(RunControl[PredictionRun, PredictionCreate]):
    def __init__(
        self,
        table: Table,
        s3: "S3Client",
        scorers: Scorers,
        inputs: InputFinder,
        storages: ConnectorStorages,
        plans: Plans,
        launcher: JobLauncher,
        storage_usages: "StorageUsages",
        clock: Clock,
        *,
        function_rows: int,
    ) -> None:
        runs = Runs(table, PredictionRun, JobKind.PREDICTION, clock)
        super().__init__(
            runs, table, inputs, storages, plans, launcher, storage_usages, clock, function_rows=function_rows
        )
        self._aliases = CheckpointAliases(table, clock)
        self._policies = InsightPolicies(table, clock)
        self._s3 = s3
        self._scorers = scorers

    def _store(
        self, context: SpaceContext, request: PredictionCreate, idempotency: Idempotency | None
    ) -> PredictionRun:
        space_id, run_id = context.space_id, new_id()
        checkpoint = self._aliases.checkpoint(space_id, request.checkpoint_id)
        if checkpoint is None:
            raise ValidationFailedError.of(
                "body.checkpoint_id", "there is no checkpoint with this id or alias; GET /checkpoints lists them"
            )
        output = self._empty_output(space_id, request.output, f"predictions/run={run_id}")
        inputs = self._inputs.find(space_id, request)
        stored = self._scorers.get(self._s3, checkpoint.artifact).checkpoint
        # Other requests need no numpy.
        from functions.predictions.fit import key_columns, require_fitting

        require_fitting(stored.features, inputs.files)
        rule = self._policies.get(space_id).client_key
        keys = key_columns(rule, inputs.files, request.key_column)
        return self._save(
            context,
            request,
            idempotency,
            inputs,
            PredictionSettings(
                artifact=checkpoint.artifact, contributions=request.contributions, key_columns=keys, client_key=rule
            ),
            rows_per_second=_rows_a_second(exact=checkpoint.explains_exactly, explained=request.contributions),
            part_rows=PART_ROWS,
            id=run_id,
            created_at=self._clock(),
            output=output,
            checkpoint_id=checkpoint.id,
            model=request.checkpoint_id,
            threshold=stored.threshold,
            contributions=request.contributions,
            key_columns=keys,
        )

    def _require_current(self, space_id: str, run: PredictionRun, plan: RunPlan) -> None:
        found = self._aliases.checkpoint(space_id, run.checkpoint_id)
        if found is None or found.artifact != PredictionSettings.model_validate(plan.settings).artifact:
            raise ConflictError(f"The checkpoint {run.checkpoint_id} was deleted. Start another run.")


def _rows_a_second(*, exact: bool, explained: bool) -> int:
    # Only networks explain by estimates.
    if not exact:
        return EXPLAINED_NETWORK_ROWS_A_SECOND if explained else NETWORK_ROWS_A_SECOND
    return EXPLAINED_ROWS_A_SECOND if explained else ROWS_A_SECOND
