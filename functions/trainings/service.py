"""Rules of trainings: what may be asked for, what may change when, and how one is stopped."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from functions.trainings.costs import cost_of, similar
from functions.trainings.logs import JobLogs
from shared.aws.training_jobs import job_name_prefix
from shared.checkpoints.reports import CheckpointReports
from shared.clock import Clock, new_id
from shared.connectors.file_pins import FilePins, Pin
from shared.dynamodb.repository import Idempotency, Modification, Repository
from shared.dynamodb.table import Table
from shared.errors import ConflictError, JobFailedError, UnavailableError, ValidationFailedError
from shared.evaluations.due import DueEvaluations
from shared.jobs.failures import STOPPED_BY_MEMBER
from shared.jobs.instances import instance_types
from shared.jobs.launcher import JobLauncher
from shared.models.base import Deleted, Page
from shared.models.checkpoint import Checkpoint
from shared.models.connector_training import MAX_CONNECTORS, ConnectorTraining, ConnectorTrainingUpdate
from shared.models.job import JobReport
from shared.models.job_reference import JobKind, JobReference
from shared.models.job_status import JobStatus
from shared.models.training import Training, TrainingCreate, TrainingProgress, TrainingUpdate
from shared.models.training_log import TrainingLog
from shared.observability import logger
from shared.propensity.architectures.registry import check_hardware, validate_configuration
from shared.settings import Settings
from shared.space_usage.storage import StorageUsages
from shared.spaces.members import SpaceContext
from shared.trainings.availability import require_available
from shared.trainings.store import Trainings

# Among which a similar one is looked for.
EARLIER_TRAININGS = 20
DEFINITION = ("architecture", "configuration", "connector")


class TrainingService:
    def __init__(
        self,
        table: Table,
        due_evaluations: DueEvaluations,
        launcher: JobLauncher,
        pins: FilePins,
        clock: Clock,
        *,
        storage_usages: StorageUsages,
        logs: JobLogs,
        settings: Settings,
    ) -> None:
        self._trainings = Trainings(table, clock)
        self._storage_usages = storage_usages
        self._checkpoints = Repository(table, Checkpoint, kind="checkpoint")
        self._reports = CheckpointReports(table)
        self._due_evaluations = due_evaluations
        self._launcher = launcher
        self._pins = pins
        self._clock = clock
        self._logs = logs
        self._settings = settings

    def create(self, context: SpaceContext, request: TrainingCreate, idempotency: Idempotency | None) -> Training:
        """Stores a ``pending`` training with the present versions of its files, and starts its workflow.

        When the workflow can't be started the training stays ``pending``; the reconciler starts it within five
        minutes, or fails it after an hour of trying. Raises LimitReachedError.
        """
        validate_configuration(request.architecture, request.configuration)
        require_available(request.architecture, self._settings, context.accepted_licenses)
        _check_connectors(request.connectors)
        check_hardware(request.architecture, request.gpu_count, request.instance_count)
        limits = self._settings
        if request.gpu_count > limits.max_gpu_count:
            raise ValidationFailedError.of("body.gpu_count", f"at most {limits.max_gpu_count} GPUs are allowed here")
        if request.instance_count > limits.max_instance_count:
            raise ValidationFailedError.of(
                "body.instance_count", f"at most {limits.max_instance_count} instances are allowed here"
            )
        first = self._trainings.repository.answered(context.space_id, idempotency) if idempotency else None
        stored = first or self._store(context, request, idempotency)
        self._start(_job(context, stored))
        return self._with_costs(context, [stored])[0]

    def list_page(self, context: SpaceContext, page: int, page_size: int) -> Page[Training]:
        found = self._trainings.repository.list_page(context.space_id, page, page_size)
        return Page(count=found.count, data=self._with_checkpoints(context, found.data), has_more=found.has_more)

    def get(self, context: SpaceContext, training_id: str, *, include_deleted: bool = False) -> Training:
        """Returns the training with its checkpoints and the series its job has reported so far.

        With ``include_deleted`` also one deleted within the last month.
        """
        return self._complete(context, self._find(context, training_id, include_deleted=include_deleted))

    def report(self, context: SpaceContext, training_id: str) -> str:
        """Returns the report of a training, also of one deleted within the last month, as an HTML file."""
        # Other requests need nothing of it.
        from functions.trainings.report import training_report

        training = self.get(context, training_id, include_deleted=True)
        checkpoint_id = training.checkpoints[0].id if training.checkpoints else None
        report = self._reports.get(context.space_id, checkpoint_id) if checkpoint_id else None
        return training_report(training, report)

    def read_log(self, context: SpaceContext, training_id: str, after: str, limit: int) -> TrainingLog:
        training = self._find(context, training_id, include_deleted=True)
        return self._logs.read(job_name_prefix(JobKind.TRAINING, training.id), after, limit)

    def update(
        self, context: SpaceContext, training_id: str, request: TrainingUpdate, expected_version: int | None
    ) -> Training:
        """Changes the name and benchmarks at any time, and the definition until the training starts.

        Benchmarks that join a successful training are evaluated immediately.
        """
        changes = request.changes()
        joined: list[str] = []
        before: dict[str, str] = {}

        with self._pins.of_request(context.space_id) as pin:

            def decide(training: Training) -> Modification | None:
                joined[:] = [each for each in changes.get("benchmark_ids") or [] if each not in training.benchmark_ids]
                before.clear()
                before.update(training.pins)
                return self._decide(context, training, changes, joined, pin) if changes else None

            updated = self._trainings.change(context.space_id, training_id, decide, expected_version=expected_version)
        self._pins.replace(before, updated.pins)
        if joined and updated.checkpoint_ids:
            self._evaluate(context, updated, joined)
        return self._complete(context, updated)

    def stop(self, context: SpaceContext, training_id: str) -> Training:
        """Ends a training with what it has fitted: its job saves that, and the workflow makes it a checkpoint.

        One whose job does not exist yet ends without a checkpoint. Raises ConflictError if it has ended otherwise.
        """
        training = self._trainings.ask_to_stop(context.space_id, training_id)
        if not training.status.is_final:
            job = _job(context, training)
            try:
                if not self._launcher.end_early(job, STOPPED_BY_MEMBER):
                    values = {"error": STOPPED_BY_MEMBER}
                    training = self._trainings.end(context.space_id, training_id, JobStatus.STOPPED, values)
            except (ClientError, BotoCoreError):
                logger.exception("the job was not stopped: the reconciler will try again", extra=job.execution_input)
        return self._complete(context, training)

    def delete(self, context: SpaceContext, training_id: str, expected_version: int | None) -> Deleted:
        """Removes a training. Its checkpoints stay, because leaderboards may list them and insights may use them.

        A running training disappears for its users immediately, and its job is stopped. Its record, which
        ``get`` shows with ``include_deleted``, ends ``stopped`` when the job has.
        """
        training = self._trainings.delete(context.space_id, training_id, expected_version)
        if not training.status.is_final:
            self._stop(_job(context, training))
        return Deleted(id=training_id)

    def _store(self, context: SpaceContext, request: TrainingCreate, idempotency: Idempotency | None) -> Training:
        self._storage_usages.check(context.space_id)
        now = self._clock()
        with self._pins.of_request(context.space_id) as pin:
            pins = pin(request.connectors)
            training = Training(
                id=new_id(),
                created_at=now,
                updated_at=now,
                created_by=context.user_id,
                pins=pins,
                notes=_pinned_later(request.connectors, pins),
                **dict(request),
            )
            created = self._trainings.create(context.space_id, training, idempotency, self._storage_usages.stage)
        # It may be the one of an earlier request, with pins of its own.
        self._pins.replace(pins, created.pins)
        return created

    def _start(self, job: JobReference) -> None:
        try:
            self._launcher.start(job)
        except (ClientError, BotoCoreError):
            logger.exception("the workflow did not start: the reconciler will try again", extra=job.execution_input)

    def _stop(self, job: JobReference) -> None:
        try:
            if not self._launcher.stop(job, "The training was deleted."):
                self._trainings.finish_deleted(job.space_id, job.id)
        except (ClientError, BotoCoreError):
            logger.exception("the job was not stopped: the reconciler will try again", extra=job.execution_input)

    def _find(self, context: SpaceContext, training_id: str, *, include_deleted: bool) -> Training:
        if include_deleted:
            deleted = self._trainings.find_deleted(context.space_id, training_id)
            if deleted is not None:
                return deleted
        return self._trainings.get(context.space_id, training_id)

    def _evaluate(self, context: SpaceContext, training: Training, benchmark_ids: Sequence[str]) -> None:
        try:
            self._due_evaluations.create_due(context.space_id, training, benchmark_ids)
        except (ClientError, BotoCoreError, UnavailableError):
            job = _job(context, training)
            logger.exception("not all is evaluated: the reconciler will go on", extra=job.execution_input)

    def _decide(
        self, context: SpaceContext, training: Training, changes: dict[str, Any], joined: Sequence[str], pin: Pin
    ) -> Modification:
        values: dict[str, Any] = {
            name: changes[name] for name in ("name", "architecture", "configuration") if name in changes
        }
        also = []
        if "benchmark_ids" in changes:
            values["benchmark_ids"] = changes["benchmark_ids"] or []
            also += self._trainings.check_benchmarks(context.space_id, joined)
            also += self._trainings.fall_due(context.space_id, training, joined, context.user_id)
        defined = [name for name in DEFINITION if name in changes]
        if defined and training.status is not JobStatus.PENDING:
            raise ConflictError(
                f"The training is {training.status}: {', '.join(defined)} can change only before it starts. "
                "Create another training instead."
            )
        if "connector" in changes:
            connector_id = changes["connector"].connector_id
            values["connectors"] = _with_connector(training.connectors, changes["connector"])
            _check_connectors(values["connectors"], "body.connector")
            values["pins"] = _pinned_again(training, values["connectors"], connector_id, pin)
            values["notes"] = _pinned_later(values["connectors"], values["pins"])
            if len(values["connectors"]) > len(training.connectors):
                also.append(self._trainings.hold_connector(context.space_id, connector_id, "body.connector"))
        if defined:
            architecture = values.get("architecture", training.architecture)
            validate_configuration(architecture, values.get("configuration", training.configuration))
            require_available(architecture, self._settings, context.accepted_licenses)
            check_hardware(architecture, training.gpu_count, training.instance_count)
        return Modification(values, also)

    def _complete(self, context: SpaceContext, training: Training) -> Training:
        report = self._trainings.last_report(context.space_id, training.id)
        if report:
            metrics = [*report.points, *training.metrics]
            progress = _progress(report, self._clock()) if training.status is JobStatus.RUNNING else None
            training = training.model_copy(update={"metrics": metrics, "progress": progress})
        return self._with_checkpoints(context, [training])[0]

    def _with_costs(self, context: SpaceContext, trainings: Sequence[Training]) -> list[Training]:
        """Adds the costs. Only the expectation for a training that has reported no progress needs earlier trainings."""
        unknown = [each for each in trainings if not each.status.is_final and each.progress is None]
        earlier = self._trainings.repository.list_page(context.space_id, 1, EARLIER_TRAININGS).data if unknown else []
        now = self._clock()
        return [
            each.model_copy(update={"cost": cost_of(each, self._preferred(each), now, similar(each, earlier))})
            for each in trainings
        ]

    def _preferred(self, training: Training) -> str:
        try:
            return next(iter(instance_types(self._settings, training.gpu_count)), "")
        except JobFailedError:  # no instance of this deployment has so many GPUs
            return ""

    def _with_checkpoints(self, context: SpaceContext, trainings: Sequence[Training]) -> list[Training]:
        trainings = self._with_costs(context, trainings)
        wanted = [checkpoint_id for training in trainings for checkpoint_id in training.checkpoint_ids]
        found = self._checkpoints.get_many(context.space_id, wanted)
        return [
            training.model_copy(
                update={"checkpoints": [found[each] for each in training.checkpoint_ids if each in found]}
            )
            for training in trainings
        ]


def _progress(report: JobReport, now: datetime) -> TrainingProgress | None:
    """Returns the estimate of a report for now: some of the seconds have passed since."""
    if report.estimate is None:
        return None
    passed = (now - report.reported_at).total_seconds()
    left = max(report.estimate.seconds_left - passed, 0)
    return TrainingProgress(share_done=round(report.estimate.share_done, 3), seconds_left=round(left))


def _job(context: SpaceContext, training: Training) -> JobReference:
    return JobReference(JobKind.TRAINING, context.space_id, training.id, training.created_at)


def _pinned_again(
    training: Training, connectors: Sequence[ConnectorTraining], connector_id: str, pin: Pin
) -> dict[str, str]:
    """Returns the pins after a change of one connector's part."""
    others = {each: key for each, key in training.pins.items() if each != connector_id}
    return others | pin([each for each in connectors if each.connector_id == connector_id])


def _pinned_later(connectors: Sequence[ConnectorTraining], pins: Mapping[str, str]) -> list[str]:
    """Returns a note for each connector that the request could not list."""
    return [
        f"The request could not list the files of the connector {each.connector_id} in time. "
        "The training reads the files that are there when it starts."
        for each in connectors
        if each.connector_id not in pins
    ]


def _check_connectors(connectors: Sequence[ConnectorTraining], path: str = "body.connectors") -> None:
    """Checks that the connectors name one target column and at most one positive label."""
    targets = _distinct(connector.target for connector in connectors)
    if not targets:
        raise ValidationFailedError.of(path, "name the column to learn as target of at least one connector")
    if len(targets) > 1:
        raise ValidationFailedError.of(path, f"one training learns one target column, not {', '.join(targets)}")
    labels = _distinct(connector.positive_label for connector in connectors)
    if len(labels) > 1:
        raise ValidationFailedError.of(path, f"one training has one positive_label, not {', '.join(labels)}")


def _distinct(values: Iterable[str | None]) -> list[str]:
    return list(dict.fromkeys(value for value in values if value is not None))


def _with_connector(
    connectors: Sequence[ConnectorTraining], update: ConnectorTrainingUpdate
) -> list[ConnectorTraining]:
    """Returns the connectors after an upsert: a known one is changed, an unknown one is added."""
    sent = update.model_dump(exclude_unset=True)
    by_id = {connector.connector_id: connector for connector in connectors}
    known = by_id.get(update.connector_id)
    by_id[update.connector_id] = ConnectorTraining.model_validate({**(known.model_dump() if known else {}), **sent})
    if len(by_id) > MAX_CONNECTORS:
        raise ValidationFailedError.of("body.connector", f"a training reads at most {MAX_CONNECTORS} connectors")
    return list(by_id.values())
