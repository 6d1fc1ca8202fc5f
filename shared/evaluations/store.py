"""Stores evaluations. A status only moves forward, and a result counts exactly once.

The service, the workflow, webhooks and the reconciler write evaluations at the same time. So each write is a
transaction with a condition on the current status. If another writer has changed the status, the write is repeated
with the new status.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from boto3.dynamodb.conditions import Attr, ConditionBase
from pydantic import TypeAdapter

from shared.clock import Clock, new_id, utc_now
from shared.dynamodb.cleanup_list import CleanupList
from shared.dynamodb.repository import Idempotency, Repository
from shared.dynamodb.table import Key, Table, TransactionFailedError, Write, check, delete, put, repeat_on_conflict
from shared.errors import ConflictError, NotFoundError, ValidationFailedError
from shared.evaluations.benchmarks import Benchmarks
from shared.evaluations.scores import Scores, Uncertainty, finite
from shared.jobs.store import Jobs
from shared.models.base import Entity, Page
from shared.models.checkpoint import Checkpoint
from shared.models.evaluation import Evaluation, EvaluationCreate, EvaluationOutcome
from shared.models.job import CalibrationMeasurement, CurvePoint, EvaluationResult, JobFile, ReportedFile
from shared.models.job_limits import UNLIMITED, JobLimits
from shared.models.job_reference import JobKind
from shared.models.job_status import JobStatus
from shared.space_usage.jobs import TOO_MANY_AT_ONCE, JobPlace, JobUsages, seconds_between

NO_PINS: Mapping[str, str] = {}
NOTHING: Mapping[str, Any] = {}
_curve = TypeAdapter(list[CurvePoint])
_BUSY = "Too many requests change the same evaluation now."

Also = Callable[[Evaluation], Sequence[Write]]


class BenchmarkChangedError(ConflictError):
    """Error raised when a benchmark has changed while an evaluation of it was prepared."""


class Evaluations:
    """A store of the evaluations of all spaces. ``limits`` are those of spaces without their own."""

    def __init__(self, table: Table, clock: Clock = utc_now, limits: JobLimits = UNLIMITED) -> None:
        self.repository = Repository(table, Evaluation, kind="evaluation", clock=clock)
        self.checkpoints = Repository(table, Checkpoint, kind="checkpoint", clock=clock)
        self.benchmarks = Benchmarks(table, clock)
        self.scores = Scores(table)
        self.jobs = Jobs(table, clock)
        # Files of these evaluations are to be removed.
        self.purges = CleanupList(table, "evaluation", clock)
        self._usages = JobUsages(table, clock)
        self._limits = limits
        # Small entries for each user, so that a user's own evaluations can be listed and counted.
        self._own = Repository(table, Entity, kind="evaluation", clock=clock)
        self._table = table
        self._clock = clock

    def create(
        self,
        space_id: str,
        user_id: str,
        request: EvaluationCreate,
        idempotency: Idempotency | None = None,
        *,
        evaluation_id: str | None = None,
        pins: Mapping[str, str] = NO_PINS,
        pinned_revision: int | None = None,
    ) -> Evaluation:
        """Creates an evaluation and its open job.

        ``pins`` are those of the files of the benchmark's ``pinned_revision``.

        If an evaluation with the same benchmark, checkpoint and GPUs is running, it returns this evaluation, unless the
        benchmark has changed since the run began. If an evaluation with ``evaluation_id`` exists, it returns this
        evaluation. Raises ValidationFailedError for an
        unknown benchmark or checkpoint, NotFoundError for a deleted benchmark, and LimitReachedError.
        """
        if evaluation_id and (known := self.repository.get_many(space_id, [evaluation_id])):
            return known[evaluation_id]
        benchmark = self.benchmarks.known(space_id, [request.benchmark_id]).get(request.benchmark_id)
        if benchmark is None:
            raise ValidationFailedError.of("body.benchmark_id", "there is no benchmark with this id in the space")
        deleted = NotFoundError("The benchmark was deleted, so it cannot have new evaluations.")
        if benchmark.is_deleted:
            raise deleted
        unknown = ValidationFailedError.of("body.checkpoint_id", "there is no checkpoint with this id in the space")
        checkpoint = self.checkpoints.get_many(space_id, [request.checkpoint_id]).get(request.checkpoint_id)
        if checkpoint is None:
            raise unknown
        now = self._clock()
        evaluation = Evaluation(
            id=evaluation_id or new_id(),
            created_at=now,
            created_by=user_id,
            updated_at=now,
            updated_by=user_id,
            result=EvaluationOutcome(benchmark_revision=benchmark.revision),
            training_id=checkpoint.training_id,
            pins=dict(pins),
            pinned_revision=pinned_revision,
            **request.model_dump(),
        )
        exists = Attr("PK").exists()
        also = [
            check(self.benchmarks.repository.key(space_id, benchmark.id), exists, deleted),
            check(self.checkpoints.key(space_id, checkpoint.id), exists, unknown),
            *self._note_creator(space_id, evaluation),
            *self.jobs.open(JobKind.EVALUATION, space_id, evaluation.id),
        ]

        def step() -> Evaluation:
            unchanged: ConditionBase = Attr("PK").not_exists()
            if running := self._table.get(_running_key(space_id, evaluation)):
                found = self.repository.get(space_id, running["evaluation_id"])
                if not _is_outdated(found, benchmark.revision):
                    return self.repository.remember(space_id, found, idempotency) if idempotency else found
                unchanged = Attr("evaluation_id").eq(found.id)
            listed = put(_running_key(space_id, evaluation), {"evaluation_id": evaluation.id}, unchanged)
            reservation = self._usages.reserve(_place(space_id, evaluation), self._limits)
            writes = [*also, listed, reservation]
            return self.repository.create(space_id, evaluation, idempotency=idempotency, also=writes)

        try:
            return repeat_on_conflict(step, TOO_MANY_AT_ONCE, (TransactionFailedError,))
        except ConflictError:
            if evaluation_id is None:
                raise
            return self.repository.get(space_id, evaluation_id)

    def get(self, space_id: str, evaluation_id: str) -> Evaluation:
        """Returns an evaluation with its curve and its calibration."""
        evaluation = self.repository.get(space_id, evaluation_id)
        if evaluation.result.status is JobStatus.SUCCEEDED:
            found = self._table.get(_curve_key(space_id, evaluation_id))
            evaluation.result.curve = _curve.validate_json(found["points"]) if found else []
            for name in ("calibration", "raw_calibration"):
                if found and name in found:
                    setattr(evaluation.result, name, CalibrationMeasurement.model_validate(found[name]))
            files = found.get("files", ()) if found else ()
            evaluation.result.files = [ReportedFile.model_validate(each) for each in files]
        return evaluation

    def list_after(self, space_id: str, after: str, limit: int) -> Page[Evaluation]:
        return self.repository.list_after(space_id, after, limit)

    def list_own(self, space_id: str, user_id: str, after: str, limit: int) -> Page[Evaluation]:
        """Returns the evaluations that the user created."""
        page = self._own.list_after(_own_partition(space_id, user_id), after, limit)
        found = self.repository.get_many(space_id, [entry.id for entry in page.data])
        data = [found[entry.id] for entry in page.data if entry.id in found]
        return Page(count=page.count, data=data, has_more=page.has_more)

    def advance(self, space_id: str, evaluation_id: str, status: JobStatus, **outcome: Any) -> Evaluation:
        """Sets the status and the outcome, unless the evaluation already has this status or a later one."""
        return self._move(space_id, evaluation_id, status, outcome)

    def note_waiting(self, space_id: str, evaluation_id: str, waiting: str | None) -> None:
        """Notes what an unfinished evaluation waits for, or that it does not. Raises NotFoundError."""

        def step() -> None:
            result = self.repository.get(space_id, evaluation_id).result
            if result.status.is_final or result.waiting == waiting:
                return
            noted = result.model_copy(update={"waiting": waiting})
            same = Attr("result.status").eq(result.status)
            write = self.repository.update_write(space_id, evaluation_id, {"result": noted}, condition=same)
            self._table.transact([write])

        repeat_on_conflict(step, _BUSY, (TransactionFailedError,))

    def start(self, space_id: str, evaluation: Evaluation, revision: int) -> Evaluation:
        """Sets the status to ``running`` at a revision of the benchmark, unless the evaluation runs or has ended.

        Raises BenchmarkChangedError if the benchmark has another revision by now: who asked since expects that one.
        """
        key = self.benchmarks.repository.key(space_id, evaluation.benchmark_id)
        changed = BenchmarkChangedError("The benchmark has changed.")
        is_current = check(key, Attr("revision").eq(revision), changed)
        outcome = {"benchmark_revision": revision}
        return self._move(space_id, evaluation.id, JobStatus.RUNNING, outcome, lambda _: [is_current])

    def end(self, space_id: str, evaluation_id: str, status: JobStatus, error: str) -> Evaluation:
        """Sets the status to ``failed`` or ``stopped`` with the reason, unless the evaluation has already ended."""
        return self._move(space_id, evaluation_id, status, {"error": error})

    def succeed(
        self, space_id: str, evaluation_id: str, result: EvaluationResult, artifact: JobFile | None = None
    ) -> Evaluation:
        """Stores the result and its score in one transaction, unless the evaluation has already ended.

        ``artifact`` is where the job left the scores of single rows.
        """
        measured = result.measurement

        metrics = finite(measured.metrics)
        outcome = {
            "metrics": metrics,
            "reasons": measured.reasons,
            "intervals": measured.intervals,
            "rows": measured.rows,
            "positives": measured.positives,
            "threshold": result.threshold,
            "file_count": result.file_count,
            "excluded_training_rows": result.excluded_training_rows,
            "dropped_rows": result.dropped_rows,
            "warnings": result.warnings,
            "error": None,
        }

        def also(evaluation: Evaluation) -> Sequence[Write]:
            return [
                put(
                    _curve_key(space_id, evaluation_id),
                    {
                        "points": _curve.dump_json(measured.curve).decode(),
                        "calibration": measured.calibration,
                        "raw_calibration": measured.raw_calibration,
                        "files": result.files,
                    },
                ),
                *self.scores.record(
                    space_id,
                    self.checkpoints.get(space_id, evaluation.checkpoint_id),
                    evaluation.benchmark_id,
                    evaluation.result.benchmark_revision,
                    evaluation_id,
                    metrics,
                    result.warnings,
                    Uncertainty(measured.intervals, result.resamples),
                ),
            ]

        return self._move(space_id, evaluation_id, JobStatus.SUCCEEDED, outcome, also, {"artifact": artifact})

    def _move(
        self,
        space_id: str,
        evaluation_id: str,
        status: JobStatus,
        outcome: dict[str, Any],
        also: Also = lambda _: (),
        values: Mapping[str, Any] = NOTHING,
    ) -> Evaluation:
        def step() -> Evaluation:
            current = self.repository.get(space_id, evaluation_id)
            if not current.result.status.may_become(status):
                return current
            now = self._clock()
            result = current.result.model_copy(update={**outcome, "status": status})
            if status is JobStatus.RUNNING:
                result.started_at = now
            if status.is_final:
                result.finished_at, result.waiting = now, None
            same = Attr("result.status").eq(current.result.status)
            actions = [
                self.repository.update_write(space_id, evaluation_id, {"result": result, **values}, condition=same),
                *(self._close(space_id, current) if status.is_final else ()),
                *([self.purges.note(space_id, evaluation_id)] if status.is_final else ()),
                *also(current),
            ]
            self._table.transact(actions)
            return self.repository.get(space_id, evaluation_id)

        return repeat_on_conflict(step, _BUSY, (TransactionFailedError,))

    def _close(self, space_id: str, evaluation: Evaluation) -> list[Write]:
        seconds = seconds_between(evaluation.result.started_at, self._clock())
        key = _running_key(space_id, evaluation)
        # An evaluation at a later revision of the benchmark may have taken its place.
        is_listed = (self._table.get(key) or {}).get("evaluation_id") == evaluation.id
        return [
            *([delete(key, Attr("evaluation_id").eq(evaluation.id))] if is_listed else ()),
            self.jobs.close(evaluation.id),
            *self._usages.release(_place(space_id, evaluation), seconds),
        ]

    def _note_creator(self, space_id: str, evaluation: Evaluation) -> list[Write]:
        partition = _own_partition(space_id, evaluation.created_by)
        values = {name: getattr(evaluation, name) for name in Entity.model_fields}
        return [
            put(self._own.key(partition, evaluation.id), values),
            *self._own.count_writes(partition, evaluation.id, +1),
        ]


def _is_outdated(evaluation: Evaluation, revision: int) -> bool:
    """Returns whether the evaluation runs at an earlier revision. One that waits will run at the present one."""
    return evaluation.result.status is JobStatus.RUNNING and evaluation.result.benchmark_revision < revision


def _place(space_id: str, evaluation: Evaluation) -> JobPlace:
    return JobPlace(space_id, JobKind.EVALUATION, evaluation.id, evaluation.gpu_count)


def _own_partition(space_id: str, user_id: str) -> str:
    return f"{space_id}#creator#{user_id}"


def _running_key(space_id: str, evaluation: Evaluation) -> Key:
    triple = (evaluation.benchmark_id, evaluation.checkpoint_id, str(evaluation.gpu_count))
    return Key(f"evaluation#{space_id}#running", "#".join(triple))


def _curve_key(space_id: str, evaluation_id: str) -> Key:
    return Key(f"evaluation#{space_id}#curve", evaluation_id)
