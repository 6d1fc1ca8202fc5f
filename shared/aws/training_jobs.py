"""SageMaker's training jobs, which run trainings and evaluations alike."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from mypy_boto3_sagemaker import SageMakerClient

# A search for a machine makes fewer jobs than this: at most two for each instance type, on spot and on demand.
MAX_JOBS = 80
# Numbers may be missing between two jobs: AWS may have deleted old ones, and a refused request once used its number up.
MAX_GAP = 6


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
    """The jobs that were made for an entity: ``<kind>-<id>-<number>``. Only the one with the largest number may run."""

    def __init__(self, client: "SageMakerClient") -> None:
        self._client = client

    def latest(self, prefix: str) -> SageMakerJob | None:
        """Returns the newest job, or ``None`` before the first."""
        latest, found = None, 0
        for number in range(1, MAX_JOBS + 1):
            if job := self._job(f"{prefix}-{number}"):
                latest, found = job, number
            elif number - found > MAX_GAP:
                break
        return latest

    def stop_latest(self, prefix: str) -> bool:
        """Stops the newest job if it runs, and returns whether it did."""
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

    def describe(self, name: str) -> Mapping[str, Any] | None:
        """Returns AWS's description of a job, or ``None`` if no job has this name."""
        try:
            return self._client.describe_training_job(TrainingJobName=name)
        except ClientError as error:
            if error.response["Error"]["Code"] in ("ValidationException", "ResourceNotFound"):
                return None
            raise

    def _job(self, name: str) -> SageMakerJob | None:
        found = self.describe(name)
        if found is None:
            return None
        return SageMakerJob(
            name=name,
            status=SageMakerJobStatus(found["TrainingJobStatus"]),
            has_started="TrainingStartTime" in found,
            failure_reason=found.get("FailureReason", ""),
        )


def job_name_prefix(kind: str, entity_id: str) -> str:
    """Returns the prefix of the names of all jobs of an entity, and of their numbers."""
    return f"{kind}-{entity_id}"
