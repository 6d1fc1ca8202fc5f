"""SageMaker's training jobs, which run trainings and evaluations alike."""

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from mypy_boto3_sagemaker import SageMakerClient

# A state machine tries every instance type twice, which is fewer attempts than this.
MAX_ATTEMPTS = 40


class SageMakerJobStatus(StrEnum):
    IN_PROGRESS = "InProgress"
    STOPPING = "Stopping"
    COMPLETED = "Completed"
    FAILED = "Failed"
    STOPPED = "Stopped"
    DELETING = "Deleting"

    @property
    def is_over(self) -> bool:
        return self not in (SageMakerJobStatus.IN_PROGRESS, SageMakerJobStatus.STOPPING)


@dataclass(frozen=True)
class SageMakerJob:
    """State of a job. ``has_started``: the container runs or ran; ``failure_reason`` is a text of AWS."""

    name: str
    status: SageMakerJobStatus
    has_started: bool = False
    failure_reason: str = ""


class SageMakerJobs:
    """The jobs that were made for an entity: ``<kind>-<id>-<attempt>``, the attempts counted from 1."""

    def __init__(self, client: "SageMakerClient") -> None:
        self._client = client

    def latest(self, prefix: str) -> SageMakerJob | None:
        """Returns the newest attempt, or ``None`` before the first."""
        latest = None
        for attempt in range(1, MAX_ATTEMPTS + 1):
            job = self._describe(f"{prefix}-{attempt}")
            if job is None:
                break
            latest = job
        return latest

    def stop_latest(self, prefix: str) -> bool:
        """Stops the newest attempt if it runs, and returns whether it did."""
        job = self.latest(prefix)
        if job is None or job.status.is_over:
            return False
        if job.status is SageMakerJobStatus.IN_PROGRESS:
            try:
                self._client.stop_training_job(TrainingJobName=job.name)
            except ClientError as error:
                # It has ended in between.
                if error.response["Error"]["Code"] not in ("ValidationException", "ResourceNotFound"):
                    raise
        return True

    def _describe(self, name: str) -> SageMakerJob | None:
        try:
            found = self._client.describe_training_job(TrainingJobName=name)
        except ClientError as error:
            if error.response["Error"]["Code"] in ("ValidationException", "ResourceNotFound"):
                return None
            raise
        return SageMakerJob(
            name=name,
            status=SageMakerJobStatus(found["TrainingJobStatus"]),
            has_started="TrainingStartTime" in found,
            failure_reason=found.get("FailureReason", ""),
        )


def job_name_prefix(kind: str, entity_id: str) -> str:
    """Returns the prefix of the names of all attempts."""
    return f"{kind}-{entity_id}"
