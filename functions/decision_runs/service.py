"""Rules of decision runs: what may be started, cancelled and compared."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from functions.decision_runs.what_ifs import changed
from shared.checkpoints.aliases import CheckpointAliases
from shared.clock import Clock, new_id
from shared.connectors.storage import ConnectorStorages
from shared.decisions.moments import Moment, Moments
from shared.decisions.snapshots import kept, references
from shared.decisions.summaries import unpacked
from shared.dynamodb.repository import Idempotency, Modification, Repository
from shared.dynamodb.table import Table
from shared.errors import ConflictError, ValidationFailedError
from shared.insights.ledger import released
from shared.insights.policy_names import PolicyNames
from shared.insights.store import Insights
from shared.jobs.launcher import JobLauncher
from shared.models.action import Action, ActionStatus, channel_key
from shared.models.decision_run import (
    DecisionRun,
    DecisionRunCreate,
    DecisionSettings,
    DecisionSummary,
    OfferLimit,
    RunOverrides,
)
from shared.models.insight import Wording
from shared.models.job_reference import JobKind
from shared.models.job_status import JobStatus
from shared.models.run import RunPlan
from shared.runs.control import RunControl
from shared.runs.inputs import InputFinder, RunInputs
from shared.runs.plans import PART_ROWS, Plans
from shared.runs.store import Runs
from shared.spaces.members import SpaceContext

if TYPE_CHECKING:
    from shared.space_usage.storage import StorageUsages

# What one slow processor decides.
ROWS_A_SECOND = 500
# The last step is one function, which writes all rows. With limits, it has a score of each option on its disk.
MAX_ROWS = 20_000_000
MAX_SCORES = 1_000_000_000


class DecisionRunService(RunControl[DecisionRun, DecisionRunCreate]):
    def __init__(
        self,
        table: Table,
        insights: Insights,
        inputs: InputFinder,
        storages: ConnectorStorages,
        plans: Plans,
        launcher: JobLauncher,
        storage_usages: "StorageUsages",
        clock: Clock,
        *,
        function_rows: int,
    ) -> None:
        runs = Runs(table, DecisionRun, JobKind.DECISION_RUN, clock)
        super().__init__(
            runs, table, inputs, storages, plans, launcher, storage_usages, clock, function_rows=function_rows
        )
        self._moments = Moments(table, clock)
        self._actions = Repository(table, Action, kind="action", clock=clock)
        self._aliases = CheckpointAliases(table, clock)
        self._names = PolicyNames(table, clock)
        self._insights = insights

    def summary(self, context: SpaceContext, run_id: str, compare_to: str | None) -> DecisionSummary:
        """Returns the summary of a run, with the difference to another. Raises ConflictError for one without any."""
        found = self._summary(context, run_id)
        if compare_to is not None:
            # Other requests compare nothing.
            from functions.decision_runs.differences import difference

            found.difference = difference(found, self._summary(context, compare_to), compare_to)
        return found

    def cancel(self, context: SpaceContext, run_id: str) -> DecisionRun:
        """Releases the reserved contacts of a run. A repeated call changes nothing.

        Raises ConflictError for a dry run, and for one that has not succeeded.
        """
        now = self._clock()

        def decide(run: DecisionRun) -> Modification | None:
            if run.cancelled_at is not None:
                return None
            if run.dry_run or run.status is not JobStatus.SUCCEEDED:
                state = "a dry run" if run.dry_run else run.status
                raise ConflictError(
                    f"The run is {state}. Only a run that has succeeded has reserved contacts. Stop one that works."
                )
            return Modification({"cancelled_at": now}, [released(context.space_id, run_id, now)])

        return self._runs.repository.modify(context.space_id, run_id, decide)

    def _summary(self, context: SpaceContext, run_id: str) -> DecisionSummary:
        run = self._runs.repository.get(context.space_id, run_id)
        if run.summary is None or run.status is not JobStatus.SUCCEEDED:
            raise ConflictError(f"The run {run_id} is {run.status}, and only a run that has succeeded has a summary.")
        return unpacked(run.summary)

    def _require_names(self, space_id: str, overrides: RunOverrides) -> None:
        """Raises ValidationFailedError for a model, an action or a group that does not exist."""
        models = [each.model_id for each in overrides.actions if each.model_id]
        known = self._aliases.checkpoints(space_id, models)
        for index, each in enumerate(overrides.actions):
            if each.model_id and each.model_id not in known:
                raise ValidationFailedError.of(
                    f"body.overrides.actions[{index}].model_id",
                    "there is no such checkpoint or alias; GET /checkpoints lists them",
                )
        if overrides.policy is not None:
            limits = overrides.policy.contact_limits or []
            self._names.require_known(space_id, limits, overrides.policy.exempt, "body.overrides.policy")

    def _store(self, context: SpaceContext, request: DecisionRunCreate, idempotency: Idempotency | None) -> DecisionRun:
        space_id, run_id = context.space_id, new_id()
        moment = self._moments.read(space_id, request.actions)
        if request.overrides is not None:
            self._require_names(space_id, request.overrides)
            moment = changed(moment, request.overrides)
        _require_known(request.limits, moment)
        output = None
        if request.output is not None:
            output = self._empty_output(space_id, request.output, f"decisions/run={run_id}")
        inputs = self._inputs.find(space_id, request)
        _require_room(inputs, request, moment)
        checkpoints = self._aliases.checkpoints(space_id, references(moment))
        # Other requests compare no columns.
        from functions.decision_runs.columns import require_columns

        require_columns(checkpoints.values(), inputs.files)
        settings = kept(
            moment,
            checkpoints,
            self._insights.counts(space_id, [action.id for action in moment.actions]),
            dry_run=request.dry_run,
            limits=request.limits,
            wording=request.wording,
        )
        return self._save(
            context,
            request,
            idempotency,
            inputs,
            settings,
            rows_per_second=ROWS_A_SECOND,
            # Words explain one offer after the other, so their parts are smaller.
            part_rows=PART_ROWS if request.wording is Wording.NONE else max(PART_ROWS // 10, 1),
            id=run_id,
            created_at=moment.now,
            output=output,
            actions=sorted(action.id for action in moment.actions),
            decided_at=moment.now,
            dry_run=request.dry_run,
            limits=request.limits,
            overrides=request.overrides,
            policy_version=moment.policy.version,
            wording=request.wording,
        )

    def _require_current(self, space_id: str, run: DecisionRun, plan: RunPlan) -> None:
        settings = DecisionSettings.model_validate(plan.settings)
        ids = [each["id"] for each in settings.checkpoints.values()]
        known = {each.id for each in self._aliases.checkpoints(space_id, ids).values()}
        if gone := set(ids) - known:
            raise ConflictError(f"The checkpoint {min(gone)} was deleted. Start another run.")
        # A dry run makes no offers.
        offered = [Action.model_validate(each) for each in settings.actions if not run.dry_run]
        active = {each.id: each.name for each in offered if each.status is ActionStatus.ACTIVE}
        found = self._actions.get_many(space_id, list(active))
        for action_id, name in active.items():
            if action_id not in found or found[action_id].status is not ActionStatus.ACTIVE:
                raise ConflictError(f"The action '{name}' was deleted, or is not active any more. Start another run.")


def _require_known(limits: Sequence[OfferLimit], moment: Moment) -> None:
    """Raises ValidationFailedError for a limit of what the run does not offer."""
    ids = {action.id for action in moment.actions}
    channels = {channel_key(action.channel) for action in moment.actions if action.channel}
    for index, limit in enumerate(limits):
        if limit.action_id is not None and limit.action_id not in ids:
            raise ValidationFailedError.of(f"body.limits[{index}].action_id", "is no action that the run compares")
        if limit.channel is not None and channel_key(limit.channel) not in channels:
            raise ValidationFailedError.of(f"body.limits[{index}].channel", "is the channel of no action of the run")


def _require_room(inputs: RunInputs, request: DecisionRunCreate, moment: Moment) -> None:
    """Raises ValidationFailedError for more rows than one run takes."""
    if inputs.rows > MAX_ROWS:
        raise ValidationFailedError.of("body.files", f"have {inputs.rows:,} rows, and a run takes at most {MAX_ROWS:,}")
    channels = len({channel_key(action.channel) for action in moment.actions if action.channel}) or 1
    options = sum(1 if action.channel else channels for action in moment.actions)
    if request.limits and inputs.rows * options > MAX_SCORES:
        raise ValidationFailedError.of(
            "body.limits",
            f"allow at most {MAX_SCORES // max(options, 1):,} rows with these {options:,} options of action and "
            "channel: name fewer files or actions",
        )
