"""What AWS says of a job decides: statuses that differ from it are brought in line.

Both the events that AWS sends and the reconciler's round come here, so that nothing depends on an event, a webhook or
a workflow's own last step having arrived.
"""

from dataclasses import dataclass
from datetime import timedelta

from shared.aws.executions import ExecutionStatus
from shared.errors import NotFoundError
from shared.jobs.failures import STOPPED_BY_MEMBER, Failure, explain
from shared.models.job_reference import JobKind, JobReference
from shared.models.job_status import JobStatus
from shared.models.training import Training
from shared.observability import count, logger
from shared.resources import Resources
from shared.runs.kinds import runs_of_all_kinds
from shared.space_usage.jobs import JobUsages
from shared.spaces.store import Spaces
from shared.trainings.store import Trainings

# The request that created the job may be starting it this very moment.
START_GRACE = timedelta(minutes=1)
START_LIMIT = timedelta(hours=1)

_NEVER_STARTED = "AWS could not start it for an hour. Start it again."
_GONE = "The workflow behind it is gone without a result. Start it again."
_SPACE_DELETED = "Its space was deleted."
_NO_RESULT = "Its workflow ended without a result. Start it again. If that fails too, send its id to support."


@dataclass(frozen=True)
class Running:
    """The job's container runs."""


@dataclass(frozen=True)
class Waiting:
    """State of a job without news."""


JobFinding = Running | Waiting | Failure


class Convergence:
    """Compares trainings, evaluations, scans and runs with their executions and SageMaker jobs."""

    def __init__(self, resources: Resources) -> None:
        self._launcher = resources.job_launcher
        self._trainings = Trainings(resources.table, resources.clock)
        self._connector_scans = resources.connector_scans
        self._evaluations = resources.evaluations
        self._due_evaluations = resources.due_evaluations
        self._runs = runs_of_all_kinds(resources.table, resources.clock)
        self._publisher = resources.run_publisher
        self._job_usages = JobUsages(resources.table, resources.clock)
        self._spaces = Spaces(resources.table, resources.clock)
        self._table = resources.table
        self._clock = resources.clock

    def converge(self, job: JobReference) -> None:
        """Updates the status of one job from AWS. It is safe to repeat."""
        if job.kind is not JobKind.SCAN and self._spaces.is_deleted(job.space_id):
            self._stop_in_deleted_space(job)
        elif job.kind is JobKind.TRAINING:
            self._converge_training(job)
        elif job.kind is JobKind.EVALUATION:
            self._converge_evaluation(job)
        elif job.kind in self._runs:
            self._converge_run(job)
        else:
            self._converge_scan(job)

    def _stop_in_deleted_space(self, job: JobReference) -> None:
        """What runs in a deleted space is stopped, as often as it takes; then its record ends ``stopped``."""
        if self._launcher.stop(job, _SPACE_DELETED):
            return
        try:
            if job.kind is JobKind.TRAINING:
                ended = self._trainings.end(job.space_id, job.id, JobStatus.STOPPED, {"error": _SPACE_DELETED})
                has_due = bool(ended.checkpoint_ids)
            elif job.kind in self._runs:
                self._end_run(job, Failure(JobStatus.STOPPED, _SPACE_DELETED))
                has_due = False
            else:
                self._evaluations.end(job.space_id, job.id, JobStatus.STOPPED, _SPACE_DELETED)
                has_due = False
        except NotFoundError:  # deleted before its space was
            self._trainings.finish_deleted(job.space_id, job.id)
        else:
            # Due evaluations wait until the space is restored, or purged with them.
            if not has_due:
                self._table.write(self._trainings.jobs.close(job.id))

    def _converge_training(self, job: JobReference) -> None:
        try:
            training = self._trainings.get(job.space_id, job.id)
        except NotFoundError:
            self._converge_deleted(job)
            return
        if training.checkpoint_ids:
            self._follow(job, training)
            return
        if training.status.is_final:
            self._put_away(job)
            return
        finding = self._find_stopped(job, training) if training.stop_requested_at else self._find(job, training.status)
        if isinstance(finding, Running):
            self._trainings.advance(job.space_id, job.id, JobStatus.RUNNING)
        elif isinstance(finding, Failure):
            self._trainings.end(job.space_id, job.id, finding.status, {"error": finding.error})
            self._report(job, finding)

    def _follow(self, job: JobReference, training: Training) -> None:
        """What is to follow a training with a checkpoint is for its workflow to do, as long as that goes on."""
        self._launcher.stop_training_job(job)
        execution = self._launcher.execution(job)
        if execution is None or execution.status.is_over:
            self._due_evaluations.create_due(job.space_id, training, training.benchmark_ids)

    def _converge_deleted(self, job: JobReference) -> None:
        """A deleted training's job is stopped, as often as it takes; then its record ends ``stopped``."""
        if not self._launcher.stop(job, "The training was deleted."):
            self._trainings.finish_deleted(job.space_id, job.id)

    def _converge_evaluation(self, job: JobReference) -> None:
        try:
            status = self._evaluations.repository.get(job.space_id, job.id).result.status
        except NotFoundError:
            self._put_away(job)
            return
        if status.is_final:
            self._put_away(job)
            return
        finding = self._find(job, status)
        if isinstance(finding, Running):
            self._evaluations.advance(job.space_id, job.id, JobStatus.RUNNING)
        elif isinstance(finding, Failure):
            self._evaluations.end(job.space_id, job.id, finding.status, finding.error)
            self._report(job, finding)

    def _converge_run(self, job: JobReference) -> None:
        try:
            status = self._runs[job.kind].repository.get(job.space_id, job.id).status
        except NotFoundError:
            self._put_away(job)
            return
        if status.is_final:
            self._launcher.stop(job, "The run has ended.")
            self._put_away(job)
            return
        finding = self._find(job, status)
        if isinstance(finding, Failure):
            self._end_run(job, finding)
            self._report(job, finding)

    def _end_run(self, job: JobReference, failure: Failure) -> None:
        run = self._runs[job.kind].repository.get(job.space_id, job.id)
        if not run.status.is_final:
            # Before the end, which gives the folder back.
            self._publisher.withdraw(job.space_id, run)
            self._runs[job.kind].end(job.space_id, job.id, failure.status, {"error": failure.error})

    def _converge_scan(self, job: JobReference) -> None:
        if job.parent_id is None:
            raise ValueError(f"the scan {job.id} belongs to no connector")
        try:
            status = self._connector_scans.scans.get(job.space_id, job.id).status
        except NotFoundError:
            self._put_away(job)
            return
        if status.is_final:
            # What follows a scan's end may have been cut off.
            self._connector_scans.succeed(job.space_id, job.parent_id, job.id, {})
            return
        finding = self._find(job, status)
        if isinstance(finding, Failure):
            self._connector_scans.fail(job.space_id, job.parent_id, job.id, finding.error)
            self._report(job, finding)

    def _find(self, job: JobReference, status: JobStatus) -> JobFinding:
        """Returns the state of a job that has not ended in our table, by its execution and its SageMaker job."""
        execution = self._launcher.execution(job)
        if execution is None:
            return self._never_started(job, status)
        if not execution.status.is_over:
            training_job = self._launcher.training_job(job)
            return Running() if training_job is not None and training_job.has_started else Waiting()
        # Its own steps would have ended the job; an execution that was aborted ran none of them.
        self._launcher.stop_training_job(job)
        if execution.status is ExecutionStatus.ABORTED:
            return Failure(JobStatus.STOPPED, f"Its workflow was stopped from outside. {execution.cause}".strip())
        if execution.status is ExecutionStatus.SUCCEEDED:
            return Failure(JobStatus.FAILED, _NO_RESULT)
        return explain(execution.error or execution.status, execution.cause)

    def _find_stopped(self, job: JobReference, training: Training) -> JobFinding:
        """Does what a request to stop may not have done, and returns the state of the training."""
        if not self._launcher.end_early(job, STOPPED_BY_MEMBER):
            return Failure(JobStatus.STOPPED, STOPPED_BY_MEMBER)
        return self._find(job, training.status)

    def _never_started(self, job: JobReference, status: JobStatus) -> JobFinding:
        if status is not JobStatus.PENDING:
            self._launcher.stop_training_job(job)
            return Failure(JobStatus.FAILED, _GONE)
        age = self._clock() - job.opened_at
        if age > START_LIMIT:
            return Failure(JobStatus.FAILED, _NEVER_STARTED)
        if age > START_GRACE:
            logger.warning("starting a job that was not started when it was created", extra=job.execution_input)
            self._launcher.start(job)
        return Waiting()

    def _put_away(self, job: JobReference) -> None:
        """Closes an ended job, stops its machine and gives back its place."""
        self._launcher.stop_training_job(job)
        # Only a job whose record is gone still has a place.
        self._job_usages.free(job.space_id, job.kind, job.id)
        self._table.write(self._trainings.jobs.close(job.id))

    def _report(self, job: JobReference, finding: Failure) -> None:
        count("JobsReconciled", kind=job.kind)
        logger.warning(
            "a job ended without its workflow saying so", extra={**job.execution_input, "why": finding.error}
        )
