"""Starts, stops and describes the long work behind an entity: its execution and its SageMaker job."""

from shared.aws.executions import Execution, Executions
from shared.aws.training_jobs import TrainingJob, TrainingJobs, job_name_prefix
from shared.errors import UnavailableError
from shared.models.job_reference import JobKind, JobReference
from shared.resources import Resources


class JobLauncher:
    """One for all kinds of jobs; which state machines there are, the settings say."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    def start(self, job: JobReference) -> None:
        """Start the job's execution, unless it has been started before."""
        self._executions(job.kind).start(job.id, job.execution_input)

    def stop(self, job: JobReference, reason: str) -> bool:
        """Ask the execution and the SageMaker job to stop; whether either was still at work."""
        executions = self._executions(job.kind)
        execution = executions.describe(job.id)
        is_executing = execution is not None and not execution.status.is_over
        if is_executing:
            executions.stop(job.id, reason)
        return self.stop_training_job(job) or is_executing

    def stop_training_job(self, job: JobReference) -> bool:
        """Stop the SageMaker job alone; whether it was still at work."""
        return job.kind.runs_on_sagemaker and self._training_jobs.stop_latest(job_name_prefix(job.kind, job.id))

    def execution(self, job: JobReference) -> Execution | None:
        """The job's execution, or ``None`` when there is none."""
        return self._executions(job.kind).describe(job.id)

    def training_job(self, job: JobReference) -> TrainingJob | None:
        """The newest SageMaker job made for it, or ``None`` before the first."""
        return self._training_jobs.latest(job_name_prefix(job.kind, job.id)) if job.kind.runs_on_sagemaker else None

    @property
    def _training_jobs(self) -> TrainingJobs:
        return TrainingJobs(self._resources.sagemaker)

    def _executions(self, kind: JobKind) -> Executions:
        settings = self._resources.settings
        arns = {
            JobKind.TRAINING: settings.training_state_machine_arn,
            JobKind.EVALUATION: settings.evaluation_state_machine_arn,
            JobKind.SCAN: settings.scan_state_machine_arn,
        }
        arn = arns[kind]
        if arn is None:
            raise UnavailableError(
                f"This deployment has no state machine for {kind}s: set {kind.upper()}_STATE_MACHINE_ARN."
            )
        return Executions(self._resources.step_functions, arn)
