"""Manages the experiment of a space and reports its results."""

from boto3.dynamodb.conditions import Attr

from functions.insights.statistics import difference_interval, fit_probability, rate_interval
from shared.checkpoints.aliases import CheckpointAliases
from shared.clock import Clock, new_id
from shared.dynamodb.table import ConditionFailedError, Table, put
from shared.dynamodb.write_markers import WRITE_MARKER, has_write_marker, write_marker
from shared.errors import PreconditionFailedError, ValidationFailedError
from shared.insights.exposures import ArmCounts, Exposures, experiments_key
from shared.insights.policy_names import PolicyNames
from shared.models.experiment import (
    ArmResult,
    ExperimentArm,
    Experiments,
    ExperimentsUpdate,
    SampleRatio,
    Uplift,
)
from shared.spaces.members import SpaceContext

# A mismatch of samples is a fault of the set-up, so it is reported only if chance hardly explains it.
_MISMATCH = 0.001


class ExperimentService:
    def __init__(self, table: Table, clock: Clock) -> None:
        self._table = table
        self._exposures = Exposures(table)
        self._names = PolicyNames(table, clock)
        self._checkpoints = CheckpointAliases(table, clock)
        self._clock = clock

    def get(self, context: SpaceContext) -> Experiments:
        return Experiments.model_validate(self._table.get(experiments_key(context.space_id)) or {})

    def replace(self, context: SpaceContext, request: ExperimentsUpdate, expected_version: int | None) -> Experiments:
        """Replaces the experiment. Other arms or another salt begin a new one, with no customers.

        Raises ValidationFailedError for unknown checkpoints, actions and groups, and PreconditionFailedError.
        """
        self._require_references(context, request)
        current = self.get(context)
        if expected_version is not None and expected_version != current.version:
            raise PreconditionFailedError("The experiment has changed since you read it. Get it again.")
        salt = request.salt or current.salt or new_id()
        is_same = (request.arms, salt) == (current.arms, current.salt)
        experiments = Experiments(
            arms=request.arms,
            explore=request.explore,
            id=current.id if is_same else new_id() if request.arms else None,
            salt=salt,
            updated_at=self._clock(),
            updated_by=context.user_id,
            version=current.version + 1,
        )
        values = {name: getattr(experiments, name) for name in Experiments.model_fields}
        values[WRITE_MARKER] = write_marker()
        unchanged = Attr("version").eq(current.version) if current.version else Attr("PK").not_exists()
        try:
            self._table.write(put(experiments_key(context.space_id), values, unchanged))
        except ConditionFailedError as failed:
            if not has_write_marker(failed.item, values[WRITE_MARKER]):
                raise PreconditionFailedError("The experiment was changed at the same time. Get it again.") from None
        return experiments

    def uplift(self, context: SpaceContext) -> Uplift:
        """Returns the results of the running experiment."""
        experiments = self.get(context)
        counts = self._exposures.counts(context.space_id, experiments.id) if experiments.id else {}
        of = {arm.name: counts.get(arm.name, ArmCounts()) for arm in experiments.arms}
        baseline = next((arm for arm in experiments.arms if arm.control), next(iter(experiments.arms), None))
        customers = [each.customers for each in of.values()]
        p_value = None
        if len(of) > 1 and any(customers):
            p_value = fit_probability(customers, [float(arm.percentage) for arm in experiments.arms])
        return Uplift(
            arms=[result_of(arm, of[arm.name], of[baseline.name]) for arm in experiments.arms if baseline],
            baseline=baseline.name if baseline else None,
            experiment_id=experiments.id,
            sample_ratio=SampleRatio(mismatch=p_value is not None and p_value < _MISMATCH, p_value=p_value),
        )

    def _require_references(self, context: SpaceContext, request: ExperimentsUpdate) -> None:
        for index, arm in enumerate(request.arms):
            for name in ("checkpoint", "replaces"):
                reference = getattr(arm, name)
                if reference and not self._checkpoints.checkpoint(context.space_id, reference):
                    raise ValidationFailedError.of(
                        f"body.arms[{index}].{name}",
                        "there is no such checkpoint or alias; GET /checkpoints lists them",
                    )
            if arm.policy is not None:
                limits, exempt = arm.policy.contact_limits or [], arm.policy.exempt
                self._names.require_known(context.space_id, limits, exempt, f"body.arms[{index}].policy")


def result_of(arm: ExperimentArm, counts: ArmCounts, baseline: ArmCounts) -> ArmResult:
    """Returns the result of an arm. The counts of the baseline are compared with no others."""
    rate = low = high = uplift = uplift_low = uplift_high = None
    if counts.customers:
        rate = counts.conversions / counts.customers
        low, high = rate_interval(counts.conversions, counts.customers)
    if rate is not None and baseline.customers and counts is not baseline:
        uplift = rate - baseline.conversions / baseline.customers
        uplift_low, uplift_high = difference_interval(
            (counts.conversions, counts.customers), (baseline.conversions, baseline.customers)
        )
    return ArmResult(
        arm=arm.name,
        conversions=counts.conversions,
        customers=counts.customers,
        high=high,
        is_significant=None if uplift_low is None or uplift_high is None else uplift_low > 0 or uplift_high < 0,
        low=low,
        percentage=arm.percentage,
        rate=rate,
        uplift=uplift,
        uplift_high=uplift_high,
        uplift_low=uplift_low,
    )
