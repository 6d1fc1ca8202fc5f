"""SageMaker training jobs on this machine: each job is a process under SageMaker's container contract.

What a job sees is what it would see in AWS: the directory tree of ``/opt/ml`` below ``SAGEMAKER_BASE_DIR``, the
``SM_*`` variables of the training toolkit, its input channels downloaded from S3, its checkpoints copied to S3 while
it runs and restored when it starts again, its model directory packed into ``model.tar.gz`` when it ends well.
"""

import contextlib
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import urlsplit

import botocore.loaders
import botocore.model
import botocore.validate
from botocore.exceptions import BotoCoreError, ClientError

logger = logging.getLogger(__name__)

ACCOUNT = "000000000000"
TERMINAL = frozenset({"Completed", "Failed", "Stopped"})
# What AWS says word for word; workflows tell capacity errors from others by this text.
CAPACITY_ERROR = (
    "CapacityError: Unable to provision requested ML compute capacity. "
    "Please retry using a different ML instance type or after some time."
)
RESTARTED = "InternalServerError: the local SageMaker endpoint was restarted while the job ran. Start it again."
MAX_FAILURE_REASON = 1024
_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
_COPIED = (
    "TrainingJobName",
    "HyperParameters",
    "AlgorithmSpecification",
    "RoleArn",
    "InputDataConfig",
    "OutputDataConfig",
    "ResourceConfig",
    "VpcConfig",
    "StoppingCondition",
    "CheckpointConfig",
    "Environment",
    "RetryStrategy",
)

Description = dict[str, Any]


class SageMakerError(Exception):
    """An answer of the API other than success: ``code`` is AWS's error code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class FaultKind(StrEnum):
    """What can be made to go wrong.

    ``capacity``: the job fails for want of instances. ``limit`` and ``throttle``: CreateTrainingJob is refused.
    ``interrupt``: a spot instance is taken away after the job's next checkpoint (a spot job only). ``kill``: the job's
    process dies at once, as when memory runs out.
    """

    CAPACITY = "capacity"
    LIMIT = "limit"
    THROTTLE = "throttle"
    INTERRUPT = "interrupt"
    KILL = "kill"


@dataclass
class Fault:
    """One planned fault for the next ``count`` jobs whose name and instance type fit."""

    kind: FaultKind
    job_name_prefix: str = ""
    instance_type: str | None = None
    count: int = 1

    def fits(self, kind: FaultKind, description: Description) -> bool:
        """Whether this fault still applies to that job."""
        return (
            self.kind is kind
            and self.count > 0
            and description["TrainingJobName"].startswith(self.job_name_prefix)
            and self.instance_type in (None, description["ResourceConfig"].get("InstanceType"))
        )


@dataclass
class Job:
    """A job's description, as DescribeTrainingJob answers it, and what is needed to steer its process."""

    description: Description
    directory: Path
    stop: threading.Event = field(default_factory=threading.Event)
    kill: threading.Event = field(default_factory=threading.Event)

    @property
    def name(self) -> str:
        """The job's name."""
        return str(self.description["TrainingJobName"])

    @property
    def status(self) -> str:
        """The primary status."""
        return str(self.description["TrainingJobStatus"])

    @property
    def base(self) -> Path:
        """What ``/opt/ml`` is in AWS."""
        return self.directory / "ml"


Outcome = Literal["finished", "stopped", "out_of_time", "interrupted"]


class TrainingJobs:
    """Runs jobs, at most ``slots`` at once; the others wait with status InProgress and secondary status Starting.

    ``publish`` gets each change as an EventBridge entry. Jobs that ran when the last process ended are failed.
    """

    def __init__(
        self,
        directory: Path,
        *,
        s3: Any,
        publish: Callable[[dict[str, Any]], None],
        region: str = "us-east-1",
        slots: int = 1,
        stop_grace_seconds: float = 120.0,
        environment: dict[str, str] | None = None,
        poll_seconds: float = 0.1,
    ) -> None:
        self._directory = directory
        self._s3 = s3
        self._publish = publish
        self._region = region
        self._stop_grace_seconds = stop_grace_seconds
        self._environment = environment or {}
        self._poll_seconds = poll_seconds
        self._lock = threading.RLock()
        self._jobs: dict[str, Job] = {}
        self._faults: list[Fault] = []
        self._closing = threading.Event()
        self._pool = ThreadPoolExecutor(max_workers=slots, thread_name_prefix="training-job")
        self._create_shape = _input_shape("CreateTrainingJob")
        directory.mkdir(parents=True, exist_ok=True)
        self._load()

    # --- the API -----------------------------------------------------------------------------------------------

    def create(self, request: dict[str, Any]) -> dict[str, Any]:
        """CreateTrainingJob: checks the request, stores the job and lets it wait for a slot."""
        report = botocore.validate.ParamValidator().validate(request, self._create_shape)
        if report.has_errors():
            raise SageMakerError("ValidationException", report.generate_report())
        name = request["TrainingJobName"]
        if not _NAME.fullmatch(name):
            raise SageMakerError(
                "ValidationException",
                f"Value '{name}' at 'trainingJobName' failed to satisfy constraint: "
                f"Member must satisfy regular expression pattern: {_NAME.pattern}",
            )
        for uri in _uris(request):
            _split_uri(uri)
        description = self._describe_new(request)
        with self._lock:
            if name in self._jobs:
                raise SageMakerError("ResourceInUse", "Training job names must be unique within an AWS account")
            if self._take_fault(FaultKind.THROTTLE, description):
                raise SageMakerError("ThrottlingException", "Rate exceeded")
            if self._take_fault(FaultKind.LIMIT, description):
                kind = description["ResourceConfig"].get("InstanceType")
                raise SageMakerError(
                    "ResourceLimitExceeded",
                    f"The account-level service limit '{kind} for training job usage' is 0 Instances, with current "
                    "utilization of 0 Instances and a request delta of 1 Instances.",
                )
            job = Job(description, self._directory / name)
            job.directory.mkdir(parents=True, exist_ok=True)
            self._jobs[name] = job
            self._change(job, "InProgress", "Starting", "Preparing the instances for training")
        self._pool.submit(self._run, job)
        return {"TrainingJobArn": description["TrainingJobArn"]}

    def describe(self, request: dict[str, Any]) -> Description:
        """DescribeTrainingJob."""
        with self._lock:
            description: Description = json.loads(json.dumps(self._find(request).description))
        return description

    def stop(self, request: dict[str, Any]) -> dict[str, Any]:
        """StopTrainingJob: SIGTERM, then SIGKILL after the grace period. A finished job cannot be stopped."""
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
        """ListTrainingJobs by ``NameContains`` and ``StatusEquals``, newest first; ``NextToken`` is a position."""
        limit = int(request.get("MaxResults", 10))
        try:
            start = int(request.get("NextToken", "0"))
        except ValueError:
            raise SageMakerError("ValidationException", "Invalid NextToken") from None
        with self._lock:
            found = [
                job.description
                for job in self._jobs.values()
                if request.get("NameContains", "") in job.name
                and request.get("StatusEquals") in (None, job.description["TrainingJobStatus"])
            ]
        found.sort(key=lambda description: (description["CreationTime"], description["TrainingJobName"]), reverse=True)
        keys = ("TrainingJobName", "TrainingJobArn", "CreationTime", "TrainingEndTime", "LastModifiedTime")
        summaries = [
            {key: each[key] for key in (*keys, "TrainingJobStatus", "SecondaryStatus") if key in each}
            for each in found[start : start + limit]
        ]
        answer: dict[str, Any] = {"TrainingJobSummaries": summaries}
        if start + limit < len(found):
            answer["NextToken"] = str(start + limit)
        return answer

    # --- control, for fault tests ------------------------------------------------------------------------------

    def plan(self, fault: Fault) -> None:
        """Makes the fault happen; ``kill`` reaches jobs that run already."""
        with self._lock:
            self._faults.append(fault)
            for job in self._jobs.values():
                if job.status == "InProgress" and self._take_fault(FaultKind.KILL, job.description):
                    job.kill.set()

    def clear_faults(self) -> None:
        """Forgets every planned fault."""
        with self._lock:
            self._faults.clear()

    def close(self) -> None:
        """Ends the running processes; their jobs are failed at the next start."""
        self._closing.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    # --- one job -----------------------------------------------------------------------------------------------

    def _run(self, job: Job) -> None:
        try:
            with self._lock:
                no_capacity = self._take_fault(FaultKind.CAPACITY, job.description)
            if no_capacity:
                self._end(job, "Failed", "Failed", CAPACITY_ERROR)
                return
            while self._attempt(job) == "interrupted":
                pass
        except (ClientError, BotoCoreError, tarfile.TarError, FileNotFoundError) as error:
            self._end(job, "Failed", "Failed", f"ClientError: {error}")
        except Exception:
            # The boundary of the job's own thread: nobody else would see it.
            logger.exception("training job %s ended by an error of the endpoint", job.name)
            self._end(job, "Failed", "Failed", "InternalServerError: see the log of the local SageMaker endpoint.")
        finally:
            shutil.rmtree(job.base, ignore_errors=True)

    def _attempt(self, job: Job) -> Outcome:
        if self._closing.is_set():
            return "stopped"
        if job.stop.is_set():
            self._end(job, "Stopped", "Stopped")
            return "stopped"
        self._prepare(job)
        self._change(job, "InProgress", "Training", "Training image download completed. Training in progress.")
        started = time.time()
        job.description.setdefault("TrainingStartTime", started)
        outcome, code = self._train(job)
        self._count_seconds(job, started)
        if self._closing.is_set():
            return "stopped"
        if outcome == "interrupted":
            self._change(job, "InProgress", "Interrupted", "The spot instance was reclaimed; the job starts again.")
            self._change(job, "InProgress", "Starting", "Preparing the instances for training")
        elif outcome == "finished" and code != 0:
            self._end(job, "Failed", "Failed", self._failure_reason(job, code))
        else:
            self._upload(job)
            ends = {"finished": ("Completed", "Completed"), "stopped": ("Stopped", "Stopped")}
            self._end(job, *ends.get(outcome, ("Stopped", "MaxRuntimeExceeded")))
        return outcome

    def _prepare(self, job: Job) -> None:
        """Lays the tree out and fills it: channels, configuration, source archive, the last checkpoints."""
        description, base = job.description, job.base
        self._change(job, "InProgress", "Downloading", "Downloading input data")
        shutil.rmtree(base, ignore_errors=True)
        for name in ("input/config", "input/data", "model", "output/data", "output/intermediate", "code"):
            (base / name).mkdir(parents=True)
        configuration: dict[str, Any] = {
            "hyperparameters": description.get("HyperParameters", {}),
            "inputdataconfig": {
                channel["ChannelName"]: {"TrainingInputMode": "File", "RecordWrapperType": "None"}
                for channel in description.get("InputDataConfig", [])
            },
            "resourceconfig": {"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "lo"},
        }
        for name, content in configuration.items():
            (base / "input/config" / f"{name}.json").write_text(json.dumps(content))
        for channel in description.get("InputDataConfig", []):
            source = channel["DataSource"]["S3DataSource"]
            target = base / "input/data" / channel["ChannelName"]
            target.mkdir(parents=True, exist_ok=True)
            if self._download(source["S3Uri"], target) == 0:
                raise FileNotFoundError(
                    f"Data download failed: no S3 objects found under S3 URL {source['S3Uri']} "
                    f"for channel {channel['ChannelName']}"
                )
        archive = _hyperparameter(description, "sagemaker_submit_directory")
        if archive is not None:
            packed = base / "code.tar.gz"
            bucket, key = _split_uri(archive)
            self._s3.download_file(bucket, key, str(packed))
            with tarfile.open(packed) as tar:
                tar.extractall(base / "code", filter="data")
            packed.unlink()
        if checkpoints := self._checkpoint_path(job):
            checkpoints.mkdir(parents=True, exist_ok=True)
            self._download(description["CheckpointConfig"]["S3Uri"], checkpoints)

    def _train(self, job: Job) -> tuple[Outcome, int]:
        """Runs the entry point to its end; why it ended, and its exit code."""
        limit = job.description["StoppingCondition"].get("MaxRuntimeInSeconds", 86_400)
        used = job.description.get("TrainingTimeInSeconds", 0)
        deadline = time.monotonic() + max(limit - used, 0)
        with self._lock:
            interrupt = job.description.get("EnableManagedSpotTraining", False) and self._take_fault(
                FaultKind.INTERRUPT, job.description
            )
            if self._take_fault(FaultKind.KILL, job.description):
                job.kill.set()
        synced = _snapshot(self._checkpoint_path(job))
        outcome: Outcome = "finished"
        with (job.directory / "log.txt").open("ab") as log:
            process = subprocess.Popen(
                self._command(job),
                cwd=job.base / "code",
                env=self._job_environment(job),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            (job.directory / "pid").write_text(str(process.pid))
            next_sync = time.monotonic() + 1.0
            try:
                while process.poll() is None:
                    if job.kill.is_set():
                        _signal_group(process.pid, signal.SIGKILL)
                    elif self._closing.is_set() or job.stop.is_set():
                        outcome = "stopped"
                    elif time.monotonic() > deadline:
                        outcome = "out_of_time"
                    elif time.monotonic() > next_sync:
                        changed = self._sync_checkpoints(job, synced)
                        next_sync = time.monotonic() + 1.0
                        if interrupt and changed:
                            outcome = "interrupted"
                    if outcome != "finished":
                        self._terminate(process)
                        break
                    time.sleep(self._poll_seconds)
            finally:
                _signal_group(process.pid, signal.SIGKILL)
                process.wait()
                (job.directory / "pid").unlink(missing_ok=True)
        self._sync_checkpoints(job, synced)
        return outcome, process.returncode

    def _command(self, job: Job) -> list[str]:
        entrypoint = job.description["AlgorithmSpecification"].get("ContainerEntrypoint")
        if entrypoint:
            arguments = job.description["AlgorithmSpecification"].get("ContainerArguments", [])
            return [*entrypoint, *arguments]
        program = _hyperparameter(job.description, "sagemaker_program")
        if program is None:
            raise FileNotFoundError("the job names no program: set the hyperparameter sagemaker_program")
        path = job.base / "code" / program
        if not path.is_file():
            raise FileNotFoundError(f"the program {program} is not in the source archive")
        # As the training toolkit does: the script itself, with the archive's root as working directory only.
        return [sys.executable, program, *_user_arguments(job.description)]

    def _job_environment(self, job: Job) -> dict[str, str]:
        description, base = job.description, job.base
        channels = [channel["ChannelName"] for channel in description.get("InputDataConfig", [])]
        hyperparameters = _user_hyperparameters(description)
        inherited = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT", "LD_LIBRARY_PATH")
        instance_type = description["ResourceConfig"].get("InstanceType", "")
        values: dict[str, str] = {
            **{name: os.environ[name] for name in inherited if name in os.environ},
            "PYTHONUNBUFFERED": "1",
            "AWS_REGION": self._region,
            "AWS_DEFAULT_REGION": self._region,
            **self._environment,
            "SAGEMAKER_BASE_DIR": str(base),
            "SAGEMAKER_JOB_NAME": job.name,
            "TRAINING_JOB_NAME": job.name,
            "TRAINING_JOB_ARN": description["TrainingJobArn"],
            "SAGEMAKER_REGION": self._region,
            "SM_MODEL_DIR": str(base / "model"),
            "SM_OUTPUT_DIR": str(base / "output"),
            "SM_OUTPUT_DATA_DIR": str(base / "output/data"),
            "SM_OUTPUT_INTERMEDIATE_DIR": str(base / "output/intermediate"),
            "SM_INPUT_DIR": str(base / "input"),
            "SM_INPUT_CONFIG_DIR": str(base / "input/config"),
            "SM_MODULE_DIR": _hyperparameter(description, "sagemaker_submit_directory") or "",
            "SM_MODULE_NAME": (_hyperparameter(description, "sagemaker_program") or "").removesuffix(".py"),
            "SM_USER_ENTRY_POINT": _hyperparameter(description, "sagemaker_program") or "",
            "SM_CHANNELS": json.dumps(channels),
            "SM_HOSTS": '["algo-1"]',
            "SM_CURRENT_HOST": "algo-1",
            "SM_NETWORK_INTERFACE_NAME": "lo",
            "SM_NUM_CPUS": str(os.cpu_count() or 1),
            "SM_NUM_GPUS": str(_gpu_count() if re.match(r"ml\.[gp]\d", instance_type) else 0),
            "SM_CURRENT_INSTANCE_TYPE": instance_type,
            "SM_LOG_LEVEL": "20",
            "SM_HPS": json.dumps(hyperparameters),
            "SM_USER_ARGS": json.dumps(_user_arguments(description)),
            **{f"SM_HP_{name.upper()}": _text(value) for name, value in hyperparameters.items()},
            **{f"SM_CHANNEL_{name.upper()}": str(base / "input/data" / name) for name in channels},
            **description.get("Environment", {}),
        }
        return values

    def _failure_reason(self, job: Job, code: int) -> str:
        failure = job.base / "output/failure"
        text = failure.read_text(errors="replace").strip() if failure.is_file() else ""
        # A process ended by a signal is 128 + signal for the container that held it.
        code = 128 - code if code < 0 else code
        return f"AlgorithmError: {text[: MAX_FAILURE_REASON - 40]}, exit code: {code}"

    def _upload(self, job: Job) -> None:
        """Packs the model and output directories; an empty one is left out, but a finished job always has a model."""
        self._change(job, job.status, "Uploading", "Uploading generated training model")
        bucket, prefix = _split_uri(job.description["OutputDataConfig"]["S3OutputPath"])
        folder = PurePosixPath(prefix) / job.name / "output"
        for name, source in (("model", job.base / "model"), ("output", job.base / "output/data")):
            if name != "model" and not any(source.iterdir()):
                continue
            packed = job.base / f"{name}.tar.gz"
            with tarfile.open(packed, "w:gz") as tar:
                for entry in sorted(source.iterdir()):
                    tar.add(entry, arcname=entry.name)
            key = str(folder / packed.name)
            self._s3.upload_file(str(packed), bucket, key)
            if name == "model":
                job.description["ModelArtifacts"] = {"S3ModelArtifacts": f"s3://{bucket}/{key}"}

    def _terminate(self, process: subprocess.Popen[bytes]) -> None:
        _signal_group(process.pid, signal.SIGTERM)
        grace = min(self._stop_grace_seconds, 5.0) if self._closing.is_set() else self._stop_grace_seconds
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace)

    # --- S3 ----------------------------------------------------------------------------------------------------

    def _download(self, uri: str, target: Path) -> int:
        """All objects whose key starts with the URI's, below the last folder of it; how many there were."""
        bucket, prefix = _split_uri(uri)
        root = prefix.rsplit("/", 1)[0] + "/" if "/" in prefix else ""
        count = 0
        for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for entry in page.get("Contents", []):
                key = entry["Key"]
                relative = PurePosixPath(key.removeprefix(prefix if prefix.endswith("/") else root))
                if key.endswith("/") or ".." in relative.parts:
                    continue
                path = target.joinpath(*relative.parts)
                path.parent.mkdir(parents=True, exist_ok=True)
                self._s3.download_file(bucket, key, str(path))
                count += 1
        return count

    def _checkpoint_path(self, job: Job) -> Path | None:
        configuration = job.description.get("CheckpointConfig")
        if not configuration:
            return None
        relative = PurePosixPath(configuration.get("LocalPath", "/opt/ml/checkpoints"))
        return job.base / relative.relative_to("/opt/ml")

    def _sync_checkpoints(self, job: Job, synced: dict[Path, tuple[int, int]]) -> bool:
        """Copies new and changed checkpoint files to S3; whether there were any."""
        path = self._checkpoint_path(job)
        current = _snapshot(path)
        changed = [file for file, stamp in current.items() if synced.get(file) != stamp]
        if path is None or not changed:
            return False
        bucket, prefix = _split_uri(job.description["CheckpointConfig"]["S3Uri"])
        for file in changed:
            with contextlib.suppress(FileNotFoundError):  # replaced meanwhile; the next round sees it
                key = PurePosixPath(prefix) / file.relative_to(path).as_posix()
                self._s3.upload_file(str(file), bucket, str(key))
                synced[file] = current[file]
        return True

    # --- state -------------------------------------------------------------------------------------------------

    def _describe_new(self, request: dict[str, Any]) -> Description:
        now = time.time()
        name = request["TrainingJobName"]
        return {
            **{key: request[key] for key in _COPIED if key in request},
            "TrainingJobArn": f"arn:aws:sagemaker:{self._region}:{ACCOUNT}:training-job/{name}",
            "CreationTime": now,
            "SecondaryStatusTransitions": [],
            "EnableNetworkIsolation": request.get("EnableNetworkIsolation", False),
            "EnableInterContainerTrafficEncryption": request.get("EnableInterContainerTrafficEncryption", False),
            "EnableManagedSpotTraining": request.get("EnableManagedSpotTraining", False),
        }

    def _find(self, request: dict[str, Any]) -> Job:
        with self._lock:
            job = self._jobs.get(str(request.get("TrainingJobName")))
        if job is None:
            raise SageMakerError("ValidationException", "Requested resource not found.")
        return job

    def _take_fault(self, kind: FaultKind, description: Description) -> bool:
        for fault in self._faults:
            if fault.fits(kind, description):
                fault.count -= 1
                return True
        return False

    def _count_seconds(self, job: Job, started: float) -> None:
        used = job.description.get("TrainingTimeInSeconds", 0) + max(1, round(time.time() - started))
        job.description["TrainingTimeInSeconds"] = used
        job.description["BillableTimeInSeconds"] = used

    def _end(self, job: Job, status: str, secondary: str, failure_reason: str | None = None) -> None:
        now = time.time()
        with self._lock:
            if failure_reason is not None:
                job.description["FailureReason"] = failure_reason[:MAX_FAILURE_REASON]
            job.description["TrainingEndTime"] = now
            self._change(job, status, secondary, failure_reason or "Training job completed")

    def _change(self, job: Job, status: str, secondary: str, message: str) -> None:
        """Moves the job on, stores it, and tells EventBridge."""
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
            self._store(job)
            event = _event(job.description)
        self._publish(event)

    def _store(self, job: Job) -> None:
        path = job.directory / "job.json"
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(job.description))
        temporary.replace(path)

    def _load(self) -> None:
        for path in sorted(self._directory.glob("*/job.json")):
            job = Job(json.loads(path.read_text()), path.parent)
            self._jobs[job.name] = job
            if job.status in TERMINAL:
                continue
            pid = path.parent / "pid"
            if pid.is_file():
                _kill_orphan(int(pid.read_text()), job.base)
                pid.unlink()
            shutil.rmtree(job.base, ignore_errors=True)
            if job.status == "Stopping":
                self._end(job, "Stopped", "Stopped")
            else:
                self._end(job, "Failed", "Failed", RESTARTED)


def _input_shape(operation: str) -> botocore.model.Shape:
    loaded = botocore.loaders.Loader().load_service_model("sagemaker", "service-2")
    shape = botocore.model.ServiceModel(loaded, "sagemaker").operation_model(operation).input_shape
    assert shape is not None  # noqa: S101 - a fact of botocore's own data
    return shape


def _uris(request: dict[str, Any]) -> Iterator[str]:
    yield request["OutputDataConfig"]["S3OutputPath"]
    for channel in request.get("InputDataConfig", []):
        source = channel["DataSource"].get("S3DataSource")
        if source is None or source["S3DataType"] != "S3Prefix":
            raise SageMakerError("ValidationException", "the local endpoint reads channels of S3DataType S3Prefix only")
        yield source["S3Uri"]
    if "CheckpointConfig" in request:
        yield request["CheckpointConfig"]["S3Uri"]


def _split_uri(uri: str) -> tuple[str, str]:
    """Bucket and key of ``s3://bucket/key``, or of the ``https://s3.region.host/bucket/key`` that the CDK renders."""
    parts = urlsplit(uri)
    if parts.scheme == "s3" and parts.netloc:
        return parts.netloc, parts.path.lstrip("/")
    if parts.scheme == "https" and parts.netloc.startswith("s3"):
        bucket, _, key = parts.path.lstrip("/").partition("/")
        if bucket:
            return bucket, key
    raise SageMakerError("ValidationException", f"'{uri}' is not an S3 URI; write s3://bucket/key")


def _hyperparameter(description: Description, name: str) -> str | None:
    """A hyperparameter as text; the SageMaker SDK writes them JSON-encoded, others plainly."""
    value = description.get("HyperParameters", {}).get(name)
    return None if value is None else _text(_decoded(value))


def _user_hyperparameters(description: Description) -> dict[str, Any]:
    return {
        name: _decoded(value)
        for name, value in description.get("HyperParameters", {}).items()
        if not name.startswith("sagemaker_")
    }


def _user_arguments(description: Description) -> list[str]:
    arguments: list[str] = []
    for name, value in sorted(_user_hyperparameters(description).items()):
        arguments += [f"--{name}" if len(name) > 1 else f"-{name}", _text(value)]
    return arguments


def _decoded(value: str) -> Any:
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _gpu_count() -> int:
    return sum(1 for path in Path("/dev").glob("nvidia*") if re.fullmatch(r"nvidia\d+", path.name))


def _snapshot(path: Path | None) -> dict[Path, tuple[int, int]]:
    if path is None or not path.is_dir():
        return {}
    found: dict[Path, tuple[int, int]] = {}
    for file in path.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            if file.is_file():
                status = file.stat()
                found[file] = (status.st_mtime_ns, status.st_size)
    return found


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _kill_orphan(pid: int, base: Path) -> None:
    """Ends the process group of a job whose endpoint died, unless the id belongs to somebody else by now."""
    environment = Path(f"/proc/{pid}/environ")
    with contextlib.suppress(OSError):
        if str(base).encode() in environment.read_bytes():
            _signal_group(pid, signal.SIGKILL)


def _event(description: Description) -> dict[str, Any]:
    detail = {
        key: round(value * 1000) if key.endswith("Time") else value
        for key, value in description.items()
        if key not in ("SecondaryStatusTransitions", "Environment")
    }
    detail["SecondaryStatusTransitions"] = [
        {key: round(value * 1000) if key.endswith("Time") else value for key, value in transition.items()}
        for transition in description["SecondaryStatusTransitions"]
    ]
    return {
        "Source": "aws.sagemaker",
        "DetailType": "SageMaker Training Job State Change",
        "Resources": [description["TrainingJobArn"]],
        "Detail": json.dumps(detail),
    }
