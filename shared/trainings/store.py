"""Stores trainings. Statuses only move forward, and each reference is removed exactly once.

The service, the steps of the workflow, webhooks and the reconciler may write a training at the same time. Each write is
a transaction on condition that the training is unchanged since it was read; otherwise it is read and decided again.

A deleted training disappears immediately and is kept for a month under ``training#<space>#deleted``. While its job
still runs, that record has the unfinished status, until the job has stopped. No step of the workflow finds the training
any more, so none can revive it.

The series of metrics that a job reports while it runs is stored under ``training#<space>#series``:
lists stay light, and a training's ETag does not change with every report.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from boto3.dynamodb.conditions import Attr

from shared.clock import Clock, new_id, utc_now
from shared.dynamodb.cleanup_list import CleanupList
from shared.dynamodb.reference_counts import add_reference, remove_reference
from shared.dynamodb.repository import ConditionNotMetError, Idempotency, Modification, Repository
from shared.dynamodb.table import (
    Key,
    Table,
    TransactionFailedError,
    Write,
    check,
    delete,
    put,
    repeat_on_conflict,
    update,
)
from shared.errors import ApiError, ConflictError, PreconditionFailedError, ValidationFailedError
from shared.jobs.failures import STOPPED_BY_MEMBER
from shared.jobs.store import Jobs
from shared.models.evaluation import DueEvaluation
from shared.models.job import JobEstimate, JobReport, SeriesPoint
from shared.models.job_limits import UNLIMITED, JobLimits
from shared.models.job_reference import JobKind
from shared.models.job_status import JobStatus
from shared.models.training import Training
from shared.space_usage.jobs import TOO_MANY_AT_ONCE, JobPlace, JobUsages, seconds_between

KEPT_AFTER_DELETION = timedelta(days=30)
# The beginning of a note that does not outlast its reason.
_WAITING = "Waiting for "


TrainingDecision = Callable[[Training], Modification | None]
Commit = Callable[[list[Write]], Any]


class Trainings:
    """The trainings of all spaces."""

    def __init__(self, table: Table, clock: Clock = utc_now) -> None:
        self.repository = Repository(table, Training, kind="training", paged=True, clock=clock)
        self.jobs = Jobs(table, clock)
        # Files of these trainings are to be removed.
        self.purges = CleanupList(table, "training", clock)
        self._usages = JobUsages(table, clock)
        self._table = table
        self._clock = clock

    def create(
        self, space_id: str, training: Training, idempotency: Idempotency | None, limits: JobLimits = UNLIMITED
    ) -> Training:
        """Stores a training with its references and opens its job.

        Raises ValidationFailedError naming a connector, data model or benchmark that is not in the space, and
        LimitReachedError.
        """
        also = [
            self._hold_data_model(space_id, training.data_model_id),
            *(self.hold_connector(space_id, each.connector_id) for each in training.connectors),
            *self.check_benchmarks(space_id, training.benchmark_ids),
            *self.jobs.open(JobKind.TRAINING, space_id, training.id),
        ]

        def step() -> Training:
            reservation = self._usages.reserve(_place(space_id, training), limits)
            return self.repository.create(space_id, training, idempotency=idempotency, also=[*also, reservation])

        return repeat_on_conflict(step, TOO_MANY_AT_ONCE, (TransactionFailedError,))

    def get(self, space_id: str, training_id: str) -> Training:
        return self.repository.get(space_id, training_id)

    def change(
        self,
        space_id: str,
        training_id: str,
        decide: TrainingDecision,
        *,
        expected_version: int | None = None,
        commit: Commit | None = None,
    ) -> Training:
        """Writes what ``decide`` makes of the training; ``None`` leaves it as it is.

        ``commit`` carries the actions out, by default as a transaction. Raises NotFoundError,
        PreconditionFailedError when ``expected_version`` is not the current one, and what ``decide`` raises.
        """
        return self.repository.modify(space_id, training_id, decide, expected_version=expected_version, commit=commit)

    def advance(self, space_id: str, training_id: str, status: JobStatus) -> Training:
        """Moves to ``status``, unless the training is there or beyond already."""

        def decide(training: Training) -> Modification | None:
            if not training.status.may_become(status):
                return None
            started = {"started_at": self._clock()} if status is JobStatus.RUNNING else {}
            return Modification({"status": status, **started})

        return self.change(space_id, training_id, decide)

    def ask_to_stop(self, space_id: str, training_id: str) -> Training:
        """Notes that a training is to end with what it has fitted. Raises ConflictError if it has ended otherwise."""

        def decide(training: Training) -> Modification | None:
            if training.status.is_final and training.status is not JobStatus.STOPPED:
                raise ConflictError(f"The training has {training.status} already.")
            is_known = training.status.is_final or training.stop_requested_at
            return None if is_known else Modification({"stop_requested_at": self._clock()})

        return self.change(space_id, training_id, decide)

    def pin(self, space_id: str, training_id: str, pins: Mapping[str, str]) -> None:
        """Stores the pins of connectors that have none yet. Raises NotFoundError."""
        self.change(space_id, training_id, lambda training: Modification({"pins": {**pins, **training.pins}}))

    def note_waiting(
        self, space_id: str, training_id: str, waiting: str | None, instance_type: str | None = None
    ) -> None:
        """Notes what an unfinished training waits for ("Waiting for …"), or that it does not, and what it runs on.

        Raises NotFoundError.
        """

        def decide(training: Training) -> Modification | None:
            notes = [*_lasting(training.notes), *([waiting] if waiting else [])]
            noted = {"notes": notes, "instance_type": instance_type or training.instance_type}
            is_known = (notes, noted["instance_type"]) == (training.notes, training.instance_type)
            return None if training.status.is_final or is_known else Modification(noted)

        self.change(space_id, training_id, decide)

    def end(
        self,
        space_id: str,
        training_id: str,
        status: JobStatus,
        values: dict[str, Any],
        *,
        commit: Commit | None = None,
    ) -> Training:
        """Moves to the final ``status`` and removes the training's references, unless it has ended already.

        With a checkpoint its evaluations on its benchmarks fall due. A deleted training's record ends ``stopped``,
        for any ``status``. Raises NotFoundError.
        """

        def decide(training: Training) -> Modification | None:
            if training.status.is_final:
                return None
            ended = training.model_copy(update={**values, "status": status})
            if status is JobStatus.STOPPED and training.stop_requested_at:
                ended.error = None if ended.checkpoint_ids else STOPPED_BY_MEMBER
            due = self.fall_due(space_id, ended, training.benchmark_ids, training.created_by)
            now = self._clock()
            seconds = values.get("training_seconds") or seconds_between(training.started_at, now)
            also = [
                *self._releases(space_id, training),
                *self._usages.release(_place(space_id, training), seconds),
                self.purges.note(space_id, training_id),
                *(due or [self.jobs.close(training_id)]),
            ]
            notes = _lasting(training.notes)
            written = {"status": status, "ended_at": now, "notes": notes, **values, "error": ended.error}
            return Modification(written, also)

        return self.change(space_id, training_id, decide, commit=commit)

    def fall_due(self, space_id: str, training: Training, benchmark_ids: Sequence[str], user_id: str) -> list[Write]:
        """Returns the write by which evaluations on these benchmarks are to follow a training, if it has a checkpoint.

        The caller then calls ``DueEvaluations.create_due``.
        """
        due = [
            DueEvaluation(id=new_id(), benchmark_id=benchmark_id, checkpoint_id=checkpoint_id, created_by=user_id)
            for benchmark_id in benchmark_ids
            for checkpoint_id in training.checkpoint_ids
        ]
        if not due:
            return []
        others = [each for each in self.jobs.due(training.id) if each.benchmark_id in training.benchmark_ids]
        return [self.jobs.leave_due(space_id, training.id, [*others, *due])]

    def delete(self, space_id: str, training_id: str, expected_version: int | None) -> Training:
        """Deletes the training, removes its references, and returns it as it was.

        One that had not ended leaves its job open: ``finish_deleted`` is to be called when the job has stopped.
        """

        def step() -> Training:
            training = self.repository.get(space_id, training_id)
            if expected_version not in (None, training.version):
                raise _changed_meanwhile()
            now = self._clock()
            record = training.model_copy(update={"deleted_at": now, "updated_at": now})
            values = {name: getattr(record, name) for name in Training.model_fields}
            expires_at = int((now + KEPT_AFTER_DELETION).timestamp())
            also = [put(_deleted_key(space_id, training_id), {**values, "expires_at": expires_at})]
            also.append(delete(_series_key(space_id, training_id)))
            if training.status.is_final:
                also += self.jobs.retire(training_id, now + KEPT_AFTER_DELETION)
                also.append(self.purges.note(space_id, training_id))
            else:
                also += self._releases(space_id, training)
            condition = Attr("version").eq(training.version)
            self.repository.delete(space_id, training_id, condition=condition, also=also)
            return training

        return repeat_on_conflict(step, "The training changes too often just now.", (ConditionNotMetError,))

    def find_deleted(self, space_id: str, training_id: str) -> Training | None:
        """Returns the record of a training deleted within the last month."""
        item = self._table.get(_deleted_key(space_id, training_id))
        return self.repository.load(item) if item else None

    def finish_deleted(self, space_id: str, training_id: str) -> None:
        """The job of a deleted training has stopped: its record ends ``stopped``."""
        now = self._clock()
        values = {"status": JobStatus.STOPPED, "ended_at": now, "updated_at": now}
        unfinished = Attr("status").is_in([status for status in JobStatus if not status.is_final])
        record = update(_deleted_key(space_id, training_id), values, condition=unfinished)
        deleted = self.find_deleted(space_id, training_id)
        places = (
            self._usages.release(_place(space_id, deleted), seconds_between(deleted.started_at, now)) if deleted else []
        )
        try:
            ended = [*self.jobs.retire(training_id, now + KEPT_AFTER_DELETION), self.purges.note(space_id, training_id)]
            self._table.transact([record, *places, *ended])
        except TransactionFailedError:  # it has been finished before, or the record is gone
            self._usages.free(space_id, JobKind.TRAINING, training_id)
            self._table.write(self.jobs.close(training_id))

    def report(
        self,
        space_id: str,
        training_id: str,
        at: datetime,
        series: list[SeriesPoint] | None,
        estimate: JobEstimate | None = None,
        also: Sequence[Write] = (),
    ) -> bool:
        """Stores a job's report of a time: that it runs, its series, and when it expects to be done.

        Whether it was news: a report that is older than the last one, or about a training that has ended, changes
        nothing but what is in ``also``. Raises NotFoundError, and the errors of ``also``.
        """
        training = self.repository.get(space_id, training_id)
        key = _series_key(space_id, training_id)
        running = Attr("status").is_in([JobStatus.RUNNING])
        actions = list(also)
        if training.status.may_become(JobStatus.RUNNING):
            training = self.advance(space_id, training_id, JobStatus.RUNNING)
        if training.status is JobStatus.RUNNING and series is not None:
            newer = Attr("reported_at").not_exists() | Attr("reported_at").lte(at)
            try:
                self._table.transact(
                    [
                        *actions,
                        check(self.repository.key(space_id, training_id), running),
                        put(key, {"reported_at": at, "points": series, "estimate": estimate}, newer),
                    ]
                )
            except TransactionFailedError:
                pass
            else:
                return True
        if actions:
            self._table.transact(actions)
        return False

    def last_report(self, space_id: str, training_id: str) -> JobReport | None:
        item = self._table.get(_series_key(space_id, training_id))
        return JobReport.model_validate(item) if item else None

    def keep_series(self, space_id: str, training_id: str, series: Sequence[SeriesPoint]) -> Write:
        """Returns the write that sets the final series."""
        return put(_series_key(space_id, training_id), {"reported_at": self._clock(), "points": list(series)})

    def hold_connector(self, space_id: str, connector_id: str, path: str = "body.connectors") -> Write:
        missing = f"there is no connector '{connector_id}' in the space"
        return add_reference(_connector_key(space_id, connector_id), ValidationFailedError.of(path, missing))

    def check_benchmarks(self, space_id: str, benchmark_ids: Sequence[str]) -> list[Write]:
        """That these benchmarks exist, or else a ValidationFailedError."""
        return [
            check(
                Key(f"benchmark#{space_id}", benchmark_id),
                Attr("PK").exists(),
                ValidationFailedError.of("body.benchmark_ids", f"there is no benchmark '{benchmark_id}' in the space"),
            )
            for benchmark_id in benchmark_ids
        ]

    def _hold_data_model(self, space_id: str, data_model_id: str) -> Write:
        missing = f"there is no data model '{data_model_id}' in the space"
        return add_reference(
            _data_model_key(space_id, data_model_id), ValidationFailedError.of("body.data_model_id", missing)
        )

    def _releases(self, space_id: str, training: Training) -> list[Write]:
        keys = [_connector_key(space_id, each.connector_id) for each in training.connectors]
        return [remove_reference(key) for key in (_data_model_key(space_id, training.data_model_id), *keys)]


def _place(space_id: str, training: Training) -> JobPlace:
    return JobPlace(space_id, JobKind.TRAINING, training.id, training.gpu_count * training.instance_count)


def _lasting(notes: Sequence[str]) -> list[str]:
    return [note for note in notes if not note.startswith(_WAITING)]


def _connector_key(space_id: str, connector_id: str) -> Key:
    return Key(f"connector#{space_id}", connector_id)


def _data_model_key(space_id: str, data_model_id: str) -> Key:
    return Key(f"data_model#{space_id}", data_model_id)


def _deleted_key(space_id: str, training_id: str) -> Key:
    return Key(f"training#{space_id}#deleted", training_id)


def _changed_meanwhile() -> ApiError:
    return PreconditionFailedError("The training was changed since you read it. Get it again and use its new ETag.")


def _series_key(space_id: str, training_id: str) -> Key:
    return Key(f"training#{space_id}#series", training_id)
