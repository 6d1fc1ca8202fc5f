"""Starts, stops and describes the execution and the SageMaker job of an entity."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from shared.aws.executions import Execution, Executions
from shared.aws.training_jobs import SageMakerJob, SageMakerJobs, job_name_prefix
from shared.errors import UnavailableError
from shared.models.job_reference import JobKind, JobReference

if TYPE_CHECKING:
    from mypy_boto3_sagemaker import SageMakerClient
    from mypy_boto3_stepfunctions import SFNClient


class JobLauncher:
    """A launcher of all kinds of jobs. ``state_machine_arns`` has ``None`` for kinds without a state machine."""

    def __init__(
        self,
        step_functions: "SFNClient",
        sagemaker: "SageMakerClient",
        state_machine_arns: Mapping[JobKind, str | None],
    ) -> None:
        self._step_functions = step_functions
        self._training_jobs = SageMakerJobs(sagemaker)
        self._state_machine_arns = state_machine_arns

    def start(self, job: JobReference) -> None:
        """Starts the job's execution, unless an earlier call has started it."""
        self._executions(job.kind).start(job.id, job.execution_input)

    def stop(self, job: JobReference, reason: str) -> bool:
        """Stops the execution and the SageMaker job, and returns whether one of them was running."""
        executions = self._executions(job.kind)
        execution = executions.describe(job.id)
        is_executing = execution is not None and not execution.status.is_over
        if is_executing:
            executions.stop(job.id, reason)
        return self.stop_training_job(job) or is_executing

    def end_early(self, job: JobReference, reason: str) -> bool:
        """Stops the SageMaker job, so that the execution goes on with what it leaves. Without a job, it stops itself.

        Returns whether there is an execution, or a job that still runs without one.
        """
        execution = self.execution(job)
        if execution is None:
            return self.stop_training_job(job)
        if self.training_job(job) is not None:
            self.stop_training_job(job)
        elif not execution.status.is_over:
            self._executions(job.kind).stop(job.id, reason)
        return True

    def stop_training_job(self, job: JobReference) -> bool:
        """Stops the SageMaker job alone, and returns whether it was running."""
        return job.kind.runs_on_sagemaker and self._training_jobs.stop_latest(job_name_prefix(job.kind, job.id))

    def execution(self, job: JobReference) -> Execution | None:
        """Returns the job's execution, or ``None`` if it has none."""
        return self._executions(job.kind).describe(job.id)

    def training_job(self, job: JobReference) -> SageMakerJob | None:
        """Returns the newest SageMaker job of the job, or ``None``."""
        return self._training_jobs.latest(job_name_prefix(job.kind, job.id)) if job.kind.runs_on_sagemaker else None

    def _executions(self, kind: JobKind) -> Executions:
        arn = self._state_machine_arns[kind]
        if arn is None:
            raise UnavailableError(
                f"This deployment has no state machine for {kind}s. Set {kind.upper()}_STATE_MACHINE_ARN."
            )
        return Executions(self._step_functions, arn)
