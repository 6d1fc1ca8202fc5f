"""Promotes checkpoints to aliases, through gates that owners set.

A gate, ``checkpoint_gate#<space>``, ``<alias>``, is an item of its own: it may be there before the alias, and stays
when the alias is deleted. All that a promotion depends on is checked again in its transaction.
"""

from boto3.dynamodb.conditions import Attr

from functions.checkpoints.comparisons import Paired, PairedTests, gain
from shared.checkpoints.aliases import CheckpointAliases, alias_key, unknown_alias
from shared.clock import Clock
from shared.dynamodb.repository import Repository
from shared.dynamodb.table import (
    Item,
    Key,
    Table,
    TransactionFailedError,
    Write,
    check,
    delete,
    put,
    repeat_on_conflict,
)
from shared.dynamodb.write_markers import WRITE_MARKER, as_written, removal, write_marker
from shared.errors import ConflictError, PermissionDeniedError, PreconditionFailedError, ValidationFailedError
from shared.evaluations.benchmarks import Benchmarks, KnownBenchmark
from shared.evaluations.scores import Score, Scores
from shared.models.base import Deleted
from shared.models.checkpoint import Checkpoint
from shared.models.checkpoint_alias import (
    MAX_ALIASES,
    PROTECTED_ALIAS,
    CheckpointAlias,
    CheckpointAliasPut,
    Comparison,
    ComparisonTest,
    NotWorse,
    PromotionGate,
    PromotionGatePut,
)
from shared.models.evaluation import Evaluation
from shared.models.job import MetricName
from shared.space_binding import BoundThreads
from shared.spaces.members import SpaceContext

# Scores of two evaluations have 14 MB, read.
COMPARED_AT_ONCE = 4
_EXISTS = Attr("PK").exists()


class PromotionRefusedError(ConflictError):
    """The checkpoint does not meet the gate of the alias."""

    code = "promotion_refused"


class Promotions:
    def __init__(self, table: Table, aliases: CheckpointAliases, tests: PairedTests, clock: Clock) -> None:
        self._aliases = aliases
        self._tests = tests
        self._checkpoints = Repository(table, Checkpoint, kind="checkpoint", clock=clock)
        self._evaluations = Repository(table, Evaluation, kind="evaluation", clock=clock)
        self._benchmarks = Benchmarks(table, clock)
        self._scores = Scores(table)
        self._table = table
        self._clock = clock

    def gate(self, space_id: str, alias: str) -> PromotionGate:
        """Returns the gate of an alias. Raises NotFoundError if there is neither a gate nor the alias."""
        gate = self._gate(space_id, alias)
        if not gate.version:
            self._aliases.get(space_id, alias)
        return gate

    def _gate(self, space_id: str, alias: str) -> PromotionGate:
        """Returns the gate of an alias; one that was never set has the version 0 and asks for nothing."""
        item = self._table.get(_gate_key(space_id, alias))
        if item is not None:
            return PromotionGate.model_validate(item)
        # Gates of earlier versions are in the alias.
        old = self._table.get(alias_key(space_id, alias)) or {}
        now = self._clock()
        return PromotionGate(
            id=alias,
            required_benchmark_ids=old.get("required_benchmark_ids", []),
            created_at=now,
            updated_at=now,
            updated_by=old.get("updated_by", ""),
            version=0,
        )

    def set_gate(
        self, context: SpaceContext, alias: str, request: PromotionGatePut, expected_version: int | None
    ) -> PromotionGate:
        """Replaces the gate. Raises ValidationFailedError for unknown benchmarks, and PreconditionFailedError."""
        self._known(context.space_id, request.required_benchmark_ids)
        before = self._gate(context.space_id, alias)
        if expected_version not in (None, before.version):
            raise _changed_meanwhile("gate")
        gate, write = self._gate_write(context, before, request)
        self._table.transact([write])
        return gate

    def promote(
        self, context: SpaceContext, alias: str, request: CheckpointAliasPut, expected_version: int | None
    ) -> CheckpointAlias:
        """Points ``alias`` to the checkpoint, if it meets the gate.

        Raises PermissionDeniedError for a gate in the request of another caller than an owner, and for the protected
        alias without a gate; ValidationFailedError for a checkpoint or benchmark that is not of the space;
        PromotionRefusedError if the checkpoint does not meet the gate; and PreconditionFailedError.
        """
        space_id = context.space_id
        before = self._table.get(alias_key(space_id, alias))
        if expected_version not in (None, before and before["version"]):
            raise _changed_meanwhile("alias")
        if before is None and self._aliases.all(space_id).count >= MAX_ALIASES:
            raise ConflictError(f"A space has at most {MAX_ALIASES} aliases. Delete one, or move one.")
        gate, gate_write = self._gate_of(context, alias, request)
        if request.checkpoint_id not in self._checkpoints.get_many(space_id, [request.checkpoint_id]):
            raise ValidationFailedError.of(
                "body.checkpoint_id", "there is no such checkpoint; GET /checkpoints lists them"
            )
        comparisons, checks = self._passed(space_id, alias, request.checkpoint_id, gate)
        now = self._clock()
        promoted = CheckpointAlias(
            id=alias,
            checkpoint_id=request.checkpoint_id,
            required_benchmark_ids=gate.required_benchmark_ids,
            comparisons=comparisons,
            created_at=before["created_at"] if before else now,
            updated_at=now,
            updated_by=context.user_id,
            version=before["version"] + 1 if before else 1,
        )
        values = {name: getattr(promoted, name) for name in CheckpointAlias.model_fields}
        unchanged = Attr("version").eq(before["version"]) if before else Attr("PK").not_exists()
        written = {**values, WRITE_MARKER: write_marker()}
        try:
            self._table.transact(
                [
                    put(alias_key(space_id, alias), written, unchanged, _changed_meanwhile("alias")),
                    gate_write,
                    check(self._checkpoints.key(space_id, request.checkpoint_id), _EXISTS),
                    *checks,
                ]
            )
        except TransactionFailedError:
            raise PromotionRefusedError("The results that the alias requires have just changed. Try again.") from None
        return promoted

    def delete(self, context: SpaceContext, alias: str, expected_version: int | None) -> Deleted:
        """Forgets the name; the checkpoint and the gate stay.

        Raises NotFoundError, PermissionDeniedError for a protected alias or one with a gate, and
        PreconditionFailedError.
        """
        key = alias_key(context.space_id, alias)
        # Who could delete an alias would have nothing to match at the next promotion.
        owners = PermissionDeniedError(
            f"Only an owner of the space may delete the alias {PROTECTED_ALIAS}, or one that has a gate."
        )
        if alias == PROTECTED_ALIAS and not context.is_owner:
            raise owners
        no_gate = check(_gate_key(context.space_id, alias), Attr("PK").not_exists(), owners)
        also = [] if context.is_owner else [no_gate]

        def step() -> Deleted:
            current = self._table.get(key)
            if current is None:
                raise unknown_alias()
            if expected_version not in (None, current["version"]):
                raise _changed_meanwhile("alias")
            self._table.transact([delete(key, as_written(current)), removal(current, self._clock), *also])
            return Deleted(id=alias)

        return repeat_on_conflict(step, "The alias changes too often just now.", (TransactionFailedError,))

    def _gate_of(
        self, context: SpaceContext, alias: str, request: CheckpointAliasPut
    ) -> tuple[PromotionGatePut, Write]:
        """Returns the gate, and the write that changes it or checks that it is unchanged."""
        gate, sent = self._gate(context.space_id, alias), request.required_benchmark_ids
        if sent is not None and sent != gate.required_benchmark_ids:
            if not context.is_owner:
                raise PermissionDeniedError(
                    "Only an owner of the space may change what an alias requires. Leave required_benchmark_ids out."
                )
            values = {**gate.model_dump(), "required_benchmark_ids": sent}
            changed = PromotionGatePut.model_validate(values) if _fits(gate, sent) else None
            if changed is None:
                raise ValidationFailedError.of(
                    "body.required_benchmark_ids", "the thresholds of the gate name others; change the gate first"
                )
            return self._gate_write(context, gate, changed)
        if alias == PROTECTED_ALIAS and not gate.required_benchmark_ids and not context.is_owner:
            raise PermissionDeniedError(
                f"{PROTECTED_ALIAS} has no gate, and without one only an owner of the space may move it. "
                f"An owner sets the gate with PUT /checkpoints/aliases/{PROTECTED_ALIAS}/gate."
            )
        unchanged = Attr("version").eq(gate.version) if gate.version else Attr("PK").not_exists()
        return gate, check(_gate_key(context.space_id, alias), unchanged)

    def _gate_write(
        self, context: SpaceContext, before: PromotionGate, request: PromotionGatePut
    ) -> tuple[PromotionGate, Write]:
        gate = PromotionGate(
            **{name: getattr(request, name) for name in PromotionGatePut.model_fields},
            id=before.id,
            created_at=before.created_at,
            updated_at=self._clock(),
            updated_by=context.user_id,
            version=before.version + 1,
        )
        values = {**gate.model_dump(mode="json"), "version": gate.version, WRITE_MARKER: write_marker()}
        unchanged = Attr("version").eq(before.version) if before.version else Attr("PK").not_exists()
        return gate, put(_gate_key(context.space_id, gate.id), values, unchanged, _changed_meanwhile("gate"))

    def _known(self, space_id: str, required: list[str]) -> dict[str, KnownBenchmark]:
        found = self._benchmarks.known(space_id, required)
        unknown = [each for each in required if each not in found or found[each].is_deleted]
        if unknown:
            raise ValidationFailedError.of(
                "body.required_benchmark_ids", f"there is no benchmark {', '.join(unknown)}; GET /benchmarks lists them"
            )
        return found

    def _passed(
        self, space_id: str, alias: str, checkpoint_id: str, gate: PromotionGatePut
    ) -> tuple[list[Comparison], list[Write]]:
        """Returns the comparisons that the gate asks for, and checks that what it depends on is unchanged."""
        required = gate.required_benchmark_ids
        benchmarks = self._known(space_id, required)
        than, than_check = self._than(space_id, alias, checkpoint_id, gate.not_worse)
        ids = [checkpoint_id, *([than] if than else [])]
        found = self._scores.get_many(space_id, [(one, each) for one in ids for each in required])
        scores = {key: score for key, score in found.items() if score.revision == benchmarks[key[1]].revision}
        missing = [each for each in required if (checkpoint_id, each) not in scores]
        if missing:
            raise PromotionRefusedError(
                f"The checkpoint has no result on the current revision of the required benchmark {', '.join(missing)}. "
                "Evaluate it with POST /evaluations first."
            )
        _require_thresholds(gate, {each: scores[checkpoint_id, each] for each in required})
        comparisons = self._compared(space_id, checkpoint_id, than, gate.not_worse, required, scores)
        used = [*scores] if than else [(checkpoint_id, each) for each in required]
        return comparisons, [
            *than_check,
            *(
                check(self._benchmarks.repository.key(space_id, each), Attr("revision").eq(benchmarks[each].revision))
                for each in required
            ),
            *(
                check(Scores.key(space_id, *each), Attr("evaluation_id").eq(scores[each].evaluation_id))
                for each in used
            ),
        ]

    def _than(
        self, space_id: str, alias: str, checkpoint_id: str, rule: NotWorse | None
    ) -> tuple[str | None, list[Write]]:
        """Returns the checkpoint that has to be matched, if there is one, and the check that it stays so."""
        if rule is None:
            return None, []
        key = alias_key(space_id, rule.than or alias)
        item: Item | None = self._table.get(key)
        than = item["checkpoint_id"] if item else None
        # The promotion's own write has this condition for the alias itself.
        is_other = rule.than not in (None, alias)
        unchanged = Attr("checkpoint_id").eq(than) if than else Attr("PK").not_exists()
        return None if than == checkpoint_id else than, [check(key, unchanged)] if is_other else []

    def _compared(
        self,
        space_id: str,
        checkpoint_id: str,
        than: str | None,
        rule: NotWorse | None,
        required: list[str],
        scores: dict[tuple[str, str], Score],
    ) -> list[Comparison]:
        """Raises PromotionRefusedError for a checkpoint that is worse, and if one of them was not measured."""
        if rule is None or than is None:
            return []
        ids = {score.evaluation_id for score in scores.values()}
        evaluations = self._evaluations.get_many(space_id, ids)
        for each in required:
            if any(_value(scores.get((one, each)), rule.metric) is None for one in (checkpoint_id, than)):
                raise PromotionRefusedError(
                    f"The checkpoint can't be compared with {than}: on the benchmark {each} one of them has no "
                    f"{rule.metric}. Evaluate both with POST /evaluations first."
                )

        def compared(benchmark_id: str) -> Comparison:
            both = [scores[one, benchmark_id] for one in (checkpoint_id, than)]
            mine, theirs = (evaluations.get(score.evaluation_id) for score in both)
            value, against = (float(score.metrics[rule.metric] or 0) for score in both)
            paired = self._tests.compare(rule.metric, mine, theirs)
            return _comparison(benchmark_id, rule, (value, against), than, paired)

        with BoundThreads(COMPARED_AT_ONCE) as pool:
            comparisons = list(pool.map(compared, required))
        for comparison in comparisons:
            _require_not_worse(comparison, rule)
        return comparisons


def _value(score: Score | None, metric: MetricName) -> float | None:
    return score.metrics.get(metric) if score else None


def _comparison(
    benchmark_id: str, rule: NotWorse, values: tuple[float, float], than: str, paired: Paired | None
) -> Comparison:
    lowest, highest = paired.bounds(rule.confidence) if paired else (None, None)
    return Comparison(
        benchmark_id=benchmark_id,
        metric=rule.metric,
        value=values[0],
        against=values[1],
        against_checkpoint_id=than,
        test=paired.test if paired else ComparisonTest.VALUES,
        p_value=paired.p_value if paired else None,
        difference=paired.difference if paired else gain(rule.metric, *values),
        lowest_difference=lowest,
        highest_difference=highest,
        rows=paired.rows if paired else None,
    )


def _fits(gate: PromotionGate, required: list[str]) -> bool:
    """Returns whether the rest of a gate fits these benchmarks."""
    named = {each.benchmark_id for each in gate.thresholds} - {None}
    return named <= set(required) and bool(required or not (gate.thresholds or gate.not_worse))


def _require_thresholds(gate: PromotionGatePut, scores: dict[str, Score]) -> None:
    for threshold in gate.thresholds:
        for benchmark_id in [threshold.benchmark_id] if threshold.benchmark_id else gate.required_benchmark_ids:
            value = scores[benchmark_id].metrics.get(threshold.metric)
            if value is None or not threshold.is_met(value):
                raise PromotionRefusedError(
                    f"The gate requires {threshold} on the benchmark {benchmark_id}; the checkpoint has "
                    f"{'no value' if value is None else value}."
                )


def _require_not_worse(comparison: Comparison, rule: NotWorse) -> None:
    difference = comparison.difference or 0.0
    drop_allowed = rule.largest_drop if rule.largest_drop is not None else (0 if comparison.p_value is None else None)
    is_worse = comparison.p_value is not None and comparison.p_value < 1 - rule.confidence
    if is_worse or (drop_allowed is not None and -difference > drop_allowed):
        details = ""
        if comparison.p_value is not None:
            bounds = f"between {comparison.lowest_difference:.5f} and {comparison.highest_difference:.5f}"
            details = f" on {comparison.rows} common rows: {difference:.5f}, {bounds}, p = {comparison.p_value:.4f}"
        raise PromotionRefusedError(
            f"The checkpoint is worse than {comparison.against_checkpoint_id} on the benchmark "
            f"{comparison.benchmark_id}: {rule.metric} is {comparison.value}, against {comparison.against} "
            f"(test: {comparison.test}{details})."
        )


def _gate_key(space_id: str, alias: str) -> Key:
    return Key(f"checkpoint_gate#{space_id}", alias)


def _changed_meanwhile(what: str) -> PreconditionFailedError:
    return PreconditionFailedError(f"The {what} was changed since you read it. Get it again and use its new ETag.")
