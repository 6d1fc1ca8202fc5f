"""Names of checkpoints, ``checkpoint_alias#<space>``, ``<alias>``; each names one checkpoint at a time."""

from boto3.dynamodb.conditions import Attr

from shared.clock import Clock, utc_now
from shared.dynamodb.repository import Repository, is_identifier
from shared.dynamodb.table import (
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
from shared.errors import ConflictError, NotFoundError, PreconditionFailedError, ValidationFailedError
from shared.evaluations.benchmarks import Benchmarks
from shared.evaluations.scores import Scores
from shared.models.base import Deleted, Page
from shared.models.checkpoint import Checkpoint
from shared.models.checkpoint_alias import CheckpointAlias, CheckpointAliasPut

MAX_ALIASES = 100


class PromotionRefusedError(ConflictError):
    """The checkpoint was not measured on what the alias requires."""

    code = "promotion_refused"


class CheckpointAliases:
    def __init__(self, table: Table, clock: Clock = utc_now) -> None:
        self._checkpoints = Repository(table, Checkpoint, kind="checkpoint", clock=clock)
        self._benchmarks = Benchmarks(table, clock)
        self._scores = Scores(table)
        self._table = table
        self._clock = clock

    def all(self, space_id: str) -> Page[CheckpointAlias]:
        """Returns every alias, by name."""
        items = self._table.query(f"checkpoint_alias#{space_id}", newest_first=False, limit=MAX_ALIASES)
        data = [CheckpointAlias.model_validate(item) for item in items]
        return Page(count=len(data), data=data, has_more=False)

    def get(self, space_id: str, alias: str) -> CheckpointAlias:
        """Raises NotFoundError."""
        item = self._table.get(_key(space_id, alias))
        if item is None:
            raise _unknown()
        return CheckpointAlias.model_validate(item)

    def checkpoint(self, space_id: str, reference: str) -> Checkpoint | None:
        """Returns the checkpoint of an id or an alias, if there is one."""
        return self.checkpoints(space_id, [reference]).get(reference)

    def checkpoints(self, space_id: str, references: list[str]) -> dict[str, Checkpoint]:
        """Returns the existing checkpoints, by the requested id or alias."""
        names = [each for each in dict.fromkeys(references) if not is_identifier(each)]
        aliases = self._table.get_many([_key(space_id, name) for name in names])
        named = {key.sk: item["checkpoint_id"] for key, item in aliases.items()}
        wanted = {each: named.get(each, each) for each in references}
        found = self._checkpoints.get_many(space_id, set(wanted.values()))
        return {each: found[checkpoint_id] for each, checkpoint_id in wanted.items() if checkpoint_id in found}

    def promote(
        self, space_id: str, user_id: str, alias: str, request: CheckpointAliasPut, expected_version: int | None
    ) -> CheckpointAlias:
        """Points ``alias`` to the checkpoint, and checks all gates in the same transaction.

        Raises ValidationFailedError for a checkpoint or benchmark that is not of the space, PromotionRefusedError when
        the checkpoint lacks a result that the alias requires, and PreconditionFailedError.
        """
        before = self._table.get(_key(space_id, alias))
        if expected_version not in (None, before and before["version"]):
            raise _changed_meanwhile()
        if before is None and self.all(space_id).count >= MAX_ALIASES:
            raise ConflictError(f"A space has at most {MAX_ALIASES} aliases. Delete one, or move one.")
        required = request.required_benchmark_ids
        if required is None:
            required = before["required_benchmark_ids"] if before else []
        now = self._clock()
        promoted = CheckpointAlias(
            id=alias,
            checkpoint_id=request.checkpoint_id,
            required_benchmark_ids=required,
            created_at=before["created_at"] if before else now,
            updated_at=now,
            updated_by=user_id,
            version=before["version"] + 1 if before else 1,
        )
        values = {name: getattr(promoted, name) for name in CheckpointAlias.model_fields}
        unchanged = Attr("version").eq(before["version"]) if before else Attr("PK").not_exists()
        try:
            self._table.transact(
                [
                    put(
                        _key(space_id, alias), {**values, WRITE_MARKER: write_marker()}, unchanged, _changed_meanwhile()
                    ),
                    *self._gates(space_id, request.checkpoint_id, required),
                ]
            )
        except TransactionFailedError:
            raise PromotionRefusedError("The results that the alias requires have just changed. Try again.") from None
        return promoted

    def delete(self, space_id: str, alias: str, expected_version: int | None) -> Deleted:
        """Forgets the name; the checkpoint stays. Raises NotFoundError and PreconditionFailedError."""

        def step() -> Deleted:
            current = self._table.get(_key(space_id, alias))
            if current is None:
                raise _unknown()
            if expected_version not in (None, current["version"]):
                raise _changed_meanwhile()
            self._table.transact([delete(_key(space_id, alias), as_written(current)), removal(current, self._clock)])
            return Deleted(id=alias)

        return repeat_on_conflict(step, "The alias changes too often just now.", (TransactionFailedError,))

    def _gates(self, space_id: str, checkpoint_id: str, required: list[str]) -> list[Write]:
        """Returns the checks that checkpoint, benchmarks and results are unchanged."""
        if checkpoint_id not in self._checkpoints.get_many(space_id, [checkpoint_id]):
            raise ValidationFailedError.of(
                "body.checkpoint_id", "there is no such checkpoint; GET /checkpoints lists them"
            )
        benchmarks = self._benchmarks.known(space_id, required)
        unknown = [each for each in required if each not in benchmarks or benchmarks[each].is_deleted]
        if unknown:
            raise ValidationFailedError.of(
                "body.required_benchmark_ids", f"there is no benchmark {', '.join(unknown)}; GET /benchmarks lists them"
            )
        scores = self._scores.get_many(space_id, [(checkpoint_id, each) for each in required])
        missing = [
            each
            for each in required
            if (checkpoint_id, each) not in scores or scores[checkpoint_id, each].revision != benchmarks[each].revision
        ]
        if missing:
            raise PromotionRefusedError(
                f"The checkpoint has no result on the current revision of the required benchmark {', '.join(missing)}. "
                "Evaluate it with POST /evaluations first."
            )
        exists = Attr("PK").exists()
        return [
            check(self._checkpoints.key(space_id, checkpoint_id), exists),
            *(
                check(self._benchmarks.repository.key(space_id, each), Attr("revision").eq(benchmarks[each].revision))
                for each in required
            ),
            *(
                check(Scores.key(space_id, checkpoint_id, each), Attr("revision").eq(benchmarks[each].revision))
                for each in required
            ),
        ]


def _key(space_id: str, alias: str) -> Key:
    return Key(f"checkpoint_alias#{space_id}", alias)


def _unknown() -> NotFoundError:
    return NotFoundError("There is no checkpoint alias of this name in the space.")


def _changed_meanwhile() -> PreconditionFailedError:
    return PreconditionFailedError("The alias was changed since you read it. Get it again and use its new ETag.")
