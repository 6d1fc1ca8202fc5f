"""Training jobs of SageMaker's API. Each job is a process with the files and variables of SageMaker's container."""

import contextlib
import json
import logging
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, Literal

from botocore.exceptions import BotoCoreError, ClientError

from infra.local.sagemaker import container
from infra.local.sagemaker.faults import Fault, FaultKind, PlannedFaults
from infra.local.sagemaker.job import TERMINAL, EmulatedTrainingJob, JobDescription, SageMakerError, new_description
from infra.local.sagemaker.log_streams import LogStream
from infra.local.sagemaker.s3_files import snapshot, upload_changed

logger = logging.getLogger(__name__)

# AWS uses exactly this text, and workflows recognise capacity errors by it.
CAPACITY_ERROR = (
    "CapacityError: Unable to provision requested ML compute capacity. "
    "Please retry using a different ML instance type or after some time."
)
RESTARTED = "InternalServerError: the local SageMaker endpoint was restarted while the job ran. Start the job again."
SYNC_SECONDS = 1.0

JobOutcome = Literal["finished", "stopped", "out_of_time", "interrupted"]


class EmulatedTrainingJobs:
    """The training jobs of one folder. At most ``slots`` jobs run at the same time; other jobs wait.

    ``publish`` receives an EventBridge entry for each change of a status. Jobs fail if they ran when the last process
    of the endpoint ended.
    """

    def __init__(
        self,
        directory: Path,
        *,
        s3: Any,
        logs: Any,
        publish: Callable[[dict[str, Any]], None],
        region: str = "us-east-1",
        slots: int = 1,
        stop_grace_seconds: float = 120.0,
        environment: dict[str, str] | None = None,
        poll_seconds: float = 0.1,
    ) -> None:
        self.faults = PlannedFaults()
        self._directory = directory
        self._s3 = s3
        self._logs = logs
        self._publish = publish
        self._region = region
        self._stop_grace_seconds = stop_grace_seconds
        self._environment = environment or {}
        self._poll_seconds = poll_seconds
        self._lock = threading.RLock()
        self._jobs: dict[str, EmulatedTrainingJob] = {}
        self._closing = threading.Event()
        self._pool = ThreadPoolExecutor(max_workers=slots, thread_name_prefix="training-job")
        directory.mkdir(parents=True, exist_ok=True)
        self._load()

    def create(self, request: dict[str, Any]) -> dict[str, Any]:
        """CreateTrainingJob: checks the request, stores the job and starts it when a slot is free."""
        description = new_description(request, self._region)
        job = EmulatedTrainingJob(description, self._directory / description["TrainingJobName"])
        with self._lock:
            if job.name in self._jobs:
                raise SageMakerError("ResourceInUse", "Training job names must be unique within an AWS account")
            if self.faults.take(FaultKind.THROTTLE, job):
                raise SageMakerError("ThrottlingException", "Rate exceeded")
            if self.faults.take(FaultKind.LIMIT, job):
                raise SageMakerError(
                    "ResourceLimitExceeded",
                    f"The account-level service limit '{job.instance_type} for training job usage' is 0 Instances, "
                    "with current utilization of 0 Instances and a request delta of 1 Instances.",
                )
            job.directory.mkdir(parents=True, exist_ok=True)
            self._jobs[job.name] = job
            self._change(job, "InProgress", "Starting", "Preparing the instances for training")
        self._pool.submit(self._run, job)
        return {"TrainingJobArn": description["TrainingJobArn"]}

    def describe(self, request: dict[str, Any]) -> JobDescription:
        """DescribeTrainingJob."""
        with self._lock:
            description: JobDescription = json.loads(json.dumps(self._find(request).description))
        return description

    def stop(self, request: dict[str, Any]) -> dict[str, Any]:
        """StopTrainingJob: sends SIGTERM, then SIGKILL after the grace period. A finished job cannot be stopped."""
        job = self._find(request)
        with self._lock:
            if job.status in TERMINAL:
                raise SageMakerError(
                    "ValidationException",
                    f"The request was rejected because the training job is in status {job.status}.",
                )
            if job.status != "Stopping":
                self._change(job, "Stopping", "Stopping", "Stopping the training job")
            job.stop.set()
        return {}

    def list_jobs(self, request: dict[str, Any]) -> dict[str, Any]:
        """ListTrainingJobs with ``NameContains`` and ``StatusEquals``, newest first. ``NextToken`` is a position."""
        limit = int(request.get("MaxResults", 10))
        try:
            start = int(request.get("NextToken", "0"))
        except ValueError:
            raise SageMakerError("ValidationException", "Invalid NextToken") from None
        with self._lock:
            found = [
                job.description
                for job in self._jobs.values()
                if request.get("NameContains", "") in job.name and request.get("StatusEquals") in (None, job.status)
            ]
        found.sort(key=lambda description: (description["CreationTime"], description["TrainingJobName"]), reverse=True)
        keys = ("TrainingJobName", "TrainingJobArn", "CreationTime", "TrainingEndTime", "LastModifiedTime")
        summaries = [
            {key: each[key] for key in (*keys, "TrainingJobStatus", "SecondaryStatus") if key in each}
            for each in found[start : start + limit]
        ]
        response: dict[str, Any] = {"TrainingJobSummaries": summaries}
        if start + limit < len(found):
            response["NextToken"] = str(start + limit)
        return response

    def plan_fault(self, fault: Fault) -> None:
        """Plans a fault. ``kill`` also applies to jobs that run already."""
        with self._lock:
            self.faults.add(fault)
            for job in self._jobs.values():
                if job.status == "InProgress" and self.faults.take(FaultKind.KILL, job):
                    job.kill.set()

    def close(self) -> None:
        """Stops the running processes. Their jobs fail at the next start."""
        self._closing.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _run(self, job: EmulatedTrainingJob) -> None:
        try:
            if self.faults.take(FaultKind.CAPACITY, job):
                self._end(job, "Failed", "Failed", CAPACITY_ERROR)
                return
            while self._attempt(job) == "interrupted":
                pass
        except (ClientError, BotoCoreError, ValueError, FileNotFoundError) as error:
            self._end(job, "Failed", "Failed", f"ClientError: {error}")
        except Exception:
            # This function is the top of its thread, so nothing else would report the error.
            logger.exception("Training job %s failed because of an error of the endpoint", job.name)
            self._end(job, "Failed", "Failed", "InternalServerError: see the log of the local SageMaker endpoint.")
        finally:
            _remove_folders(job)

    def _attempt(self, job: EmulatedTrainingJob) -> JobOutcome:
        if self._closing.is_set():
            return "stopped"
        if job.stop.is_set():
            self._end(job, "Stopped", "Stopped")
            return "stopped"
        self._change(job, "InProgress", "Downloading", "Downloading input data")
        _remove_folders(job)
        for instance in job.instances:
            container.fill_folders(instance, self._s3)
        self._change(job, "InProgress", "Training", "Training image download completed. Training in progress.")
        started = time.time()
        job.description.setdefault("TrainingStartTime", started)
        outcome, failed, code = self._train(job)
        seconds = job.description.get("TrainingTimeInSeconds", 0) + max(1, round(time.time() - started))
        job.description.update(TrainingTimeInSeconds=seconds, BillableTimeInSeconds=seconds)
        if self._closing.is_set():
            return "stopped"
        if outcome == "interrupted":
            self._change(job, "InProgress", "Interrupted", "The spot instance was reclaimed. The job starts again.")
            self._change(job, "InProgress", "Starting", "Preparing the instances for training")
        elif outcome == "finished" and code != 0:
            self._end(job, "Failed", "Failed", container.failure_reason(failed, code))
        else:
            self._change(job, job.status, "Uploading", "Uploading generated training model")
            container.upload_results(job, self._s3)
            ends = {"finished": ("Completed", "Completed"), "stopped": ("Stopped", "Stopped")}
            self._end(job, *ends.get(outcome, ("Stopped", "MaxRuntimeExceeded")))
        return outcome

    def _train(self, job: EmulatedTrainingJob) -> tuple[JobOutcome, EmulatedTrainingJob, int]:
        """Runs the process of each instance. Returns why they ended, and the one that failed first with its exit code.

        As in AWS, a failure of one instance ends the job.
        """
        limit = job.description["StoppingCondition"].get("MaxRuntimeInSeconds", 86_400)
        used = job.description.get("TrainingTimeInSeconds", 0)
        deadline = time.monotonic() + max(limit - used, 0)
        is_spot = job.description.get("EnableManagedSpotTraining", False)
        interrupt = is_spot and self.faults.take(FaultKind.INTERRUPT, job)
        if self.faults.take(FaultKind.KILL, job):
            job.kill.set()
        uploaded = snapshot(job.checkpoint_folder)

        def upload_checkpoints() -> bool:
            uri = job.description.get("CheckpointConfig", {}).get("S3Uri", "")
            return upload_changed(self._s3, job.checkpoint_folder, uri, uploaded)

        outcome: JobOutcome = "finished"
        lines = LogStream(self._logs, job.name, job.directory / "log.txt")
        with (job.directory / "log.txt").open("ab") as log:
            running = [self._start(instance, log) for instance in job.instances]
            (job.directory / "pids").write_text(" ".join(str(process.pid) for process in running))
            next_upload = time.monotonic() + SYNC_SECONDS
            try:
                while None in (codes := [process.poll() for process in running]) and not any(codes):
                    if job.kill.is_set():
                        _signal_group(running[-1].pid, signal.SIGKILL)
                    elif self._closing.is_set() or job.stop.is_set():
                        outcome = "stopped"
                    elif time.monotonic() > deadline:
                        outcome = "out_of_time"
                    elif time.monotonic() > next_upload:
                        lines.send()
                        has_new_checkpoint = upload_checkpoints()
                        next_upload = time.monotonic() + SYNC_SECONDS
                        if interrupt and has_new_checkpoint:
                            outcome = "interrupted"
                    if outcome != "finished":
                        self._terminate(running)
                        break
                    time.sleep(self._poll_seconds)
            finally:
                codes = [process.poll() for process in running]
                for process in running:
                    _signal_group(process.pid, signal.SIGKILL)
                    process.wait()
                (job.directory / "pids").unlink(missing_ok=True)
        lines.send(all_lines=True)
        upload_checkpoints()
        first, code = next(((index, code) for index, code in enumerate(codes) if code), (0, 0))
        return outcome, job.instances[first], code

    def _start(self, instance: EmulatedTrainingJob, log: IO[bytes]) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            container.command(instance),
            cwd=instance.base,
            env=container.environment(instance, self._region, self._environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def _terminate(self, running: Sequence["subprocess.Popen[bytes]"]) -> None:
        # As in AWS, only the first process of each container gets the signal.
        for process in running:
            process.terminate()
        grace = min(self._stop_grace_seconds, 5.0) if self._closing.is_set() else self._stop_grace_seconds
        deadline = time.monotonic() + grace
        for process in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))

    def _find(self, request: dict[str, Any]) -> EmulatedTrainingJob:
        with self._lock:
            job = self._jobs.get(str(request.get("TrainingJobName")))
        if job is None:
            raise SageMakerError("ValidationException", "Requested resource not found.")
        return job

    def _end(self, job: EmulatedTrainingJob, status: str, secondary: str, failure_reason: str | None = None) -> None:
        now = time.time()
        with self._lock:
            if failure_reason is not None:
                job.description["FailureReason"] = failure_reason[: container.MAX_FAILURE_REASON]
            job.description["TrainingEndTime"] = now
            self._change(job, status, secondary, failure_reason or "Training job completed")

    def _change(self, job: EmulatedTrainingJob, status: str, secondary: str, message: str) -> None:
        """Changes the status of a job, stores the job and publishes the change."""
        now = time.time()
        with self._lock:
            before = job.description.get("TrainingJobStatus")
            if before in TERMINAL or (before == "Stopping" and status == "InProgress"):
                return
            transitions = job.description["SecondaryStatusTransitions"]
            if transitions:
                transitions[-1].setdefault("EndTime", now)
            transitions.append({"Status": secondary, "StartTime": now, "StatusMessage": message})
            if status in TERMINAL:
                transitions[-1]["EndTime"] = now
            job.description.update(TrainingJobStatus=status, SecondaryStatus=secondary, LastModifiedTime=now)
            job.store()
            event = job.state_change()
        self._publish(event)

    def _load(self) -> None:
        for path in sorted(self._directory.glob("*/job.json")):
            job = EmulatedTrainingJob(json.loads(path.read_text()), path.parent)
            self._jobs[job.name] = job
            if job.status in TERMINAL:
                continue
            pids = path.parent / "pids"
            if pids.is_file():
                for instance, pid in zip(job.instances, pids.read_text().split(), strict=False):
                    _kill_process_of(instance, int(pid))
                pids.unlink()
            _remove_folders(job)
            if job.status == "Stopping":
                self._end(job, "Stopped", "Stopped")
            else:
                self._end(job, "Failed", "Failed", RESTARTED)


def _remove_folders(job: EmulatedTrainingJob) -> None:
    for instance in job.instances:
        shutil.rmtree(instance.base, ignore_errors=True)


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _kill_process_of(job: EmulatedTrainingJob, pid: int) -> None:
    """Kills the process group of a job, unless another process has got its id."""
    environment = Path(f"/proc/{pid}/environ")
    with contextlib.suppress(OSError):
        if str(job.base).encode() in environment.read_bytes():
            _signal_group(pid, signal.SIGKILL)
