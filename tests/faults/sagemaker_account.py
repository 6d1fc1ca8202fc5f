"""SageMaker of one account, with quotas. Its jobs run until the scenario ends them."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Job = dict[str, Any]
ENDED = {"Completed", "Failed", "Stopped"}


class RefusedError(Exception):
    """Error that SageMaker returns, by its code."""


@dataclass
class SageMakerAccount:
    """``quotas`` are by instance type, the same for spot. ``events`` wait to be delivered; ``broken`` are promises.

    ``may_stop`` decides whether it is right to stop a job.
    """

    quotas: Mapping[str, int]
    may_stop: Callable[[Job], bool]
    jobs: dict[str, Job] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def answer(self, operation: str, body: Any) -> tuple[int, Any]:
        """Returns the status and the body of the response to a call."""
        calls: dict[str, Callable[[Any], Any]] = {
            "CreateTrainingJob": self._create,
            "DescribeTrainingJob": self._describe,
            "StopTrainingJob": self._stop,
            "ListTrainingJobs": self._list,
            "ListProcessingJobs": lambda _: {"ProcessingJobSummaries": []},
        }
        try:
            return 200, calls[operation](body)
        except RefusedError as error:
            code, message = error.args
            return 400, {"__type": code, "message": message}

    @property
    def running(self) -> list[Job]:
        return [job for job in self.jobs.values() if job["TrainingJobStatus"] == "InProgress"]

    def end(self, job: Job, status: str, **more: Any) -> None:
        job.update(more, TrainingJobStatus=status)
        self._publish(job)

    def _create(self, body: Any) -> dict[str, Any]:
        name, wanted = body["TrainingJobName"], (body["ResourceConfig"], body["EnableManagedSpotTraining"])
        if name in self.jobs:
            raise RefusedError("ResourceInUse", "Training job names must be unique within an AWS account.")
        using = [job for job in self.jobs.values() if job["TrainingJobStatus"] not in ENDED]
        used = sum((job["ResourceConfig"], job["EnableManagedSpotTraining"]) == wanted for job in using)
        instance_type = body["ResourceConfig"]["InstanceType"]
        if used >= (quota := self.quotas[instance_type]):
            raise RefusedError(
                "ResourceLimitExceeded",
                f"The account-level service limit '{instance_type} for training job usage' is {quota} Instances, with "
                f"current utilization of {used} Instances and a request delta of 1 Instances.",
            )
        prefix = name.rpartition("-")[0]
        if any(job["TrainingJobName"].rpartition("-")[0] == prefix for job in using):
            self.broken.append(f"{name} was created beside another job of the same record")
        folder = body["OutputDataConfig"]["S3OutputPath"]
        self.jobs[name] = {
            **{key: body[key] for key in ("TrainingJobName", "ResourceConfig", "EnableManagedSpotTraining")},
            "TrainingJobArn": f"arn:aws:sagemaker:us-east-1:123456789012:training-job/{name}",
            "TrainingJobStatus": "InProgress",
            "SecondaryStatus": "Starting",
            "ModelArtifacts": {"S3ModelArtifacts": f"{folder}job/output/model.tar.gz"},
            "CreationTime": time.time(),
        }
        self._publish(self.jobs[name])
        return {"TrainingJobArn": self.jobs[name]["TrainingJobArn"]}

    def _describe(self, body: Any) -> Job:
        """Returns a job as it is. One that is being stopped has stopped when it is described again."""
        job = self._find(body["TrainingJobName"])
        found = dict(job)
        if job["TrainingJobStatus"] == "Stopping":
            self.end(job, "Stopped")
        return found

    def _stop(self, body: Any) -> dict[str, Any]:
        job = self._find(body["TrainingJobName"])
        if job["TrainingJobStatus"] != "InProgress":
            raise RefusedError("ValidationException", f"The job is in status {job['TrainingJobStatus']}.")
        if not self.may_stop(job):
            self.broken.append(f"the healthy job {job['TrainingJobName']} was stopped")
        self.end(job, "Stopping")
        return {}

    def _list(self, body: Any) -> dict[str, Any]:
        found = [job for job in self.jobs.values() if job["TrainingJobStatus"] == body["StatusEquals"]]
        names = ("TrainingJobName", "TrainingJobArn", "TrainingJobStatus", "CreationTime")
        return {"TrainingJobSummaries": [{name: job[name] for name in names} for job in found]}

    def _find(self, name: str) -> Job:
        if name not in self.jobs:
            raise RefusedError("ValidationException", "Requested resource not found.")
        return self.jobs[name]

    def _publish(self, job: Job) -> None:
        detail = {"TrainingJobName": job["TrainingJobName"], "TrainingJobStatus": job["TrainingJobStatus"]}
        self.events.append({"source": "aws.sagemaker", "detail": detail})
