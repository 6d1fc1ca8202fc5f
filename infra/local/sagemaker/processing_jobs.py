"""Processing jobs of SageMaker's API. A machine of a job is a process with the files and variables of a container."""

import contextlib
import json
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import botocore.loaders
import botocore.model
import botocore.validate

from infra.local.sagemaker.job import ACCOUNT, SageMakerError
from infra.local.sagemaker.s3_files import download, split_uri

logger = logging.getLogger(__name__)

ROOT = "/opt/ml"
MAX_MESSAGE = 1024
STOP_SECONDS = 120.0
POLL_SECONDS = 0.1
_COPIED = (
    "ProcessingJobName",
    "ProcessingInputs",
    "ProcessingResources",
    "StoppingCondition",
    "AppSpecification",
    "Environment",
    "NetworkConfig",
    "RoleArn",
)


class EmulatedProcessingJobs:
    """The processing jobs of one folder, which forgets them at its end. The machines of a job run at the same time."""

    def __init__(self, directory: Path, *, s3: Any, region: str, environment: dict[str, str]) -> None:
        self._directory = directory
        self._s3 = s3
        self._region = region
        self._environment = environment
        self._lock = threading.RLock()
        self._jobs: dict[str, dict[str, Any]] = {}
        self._stops: dict[str, threading.Event] = {}

    def create(self, request: dict[str, Any]) -> dict[str, Any]:
        """CreateProcessingJob: checks the request and starts the job."""
        report = botocore.validate.ParamValidator().validate(request, _create_shape())
        if report.has_errors():
            raise SageMakerError("ValidationException", report.generate_report())
        name = request["ProcessingJobName"]
        with self._lock:
            if name in self._jobs:
                raise SageMakerError("ResourceInUse", "Job name must be unique within an AWS account and region")
            arn = f"arn:aws:sagemaker:{self._region}:{ACCOUNT}:processing-job/{name}"
            self._jobs[name] = {
                **{key: request[key] for key in _COPIED if key in request},
                "ProcessingJobArn": arn,
                "ProcessingJobStatus": "InProgress",
                "CreationTime": time.time(),
            }
            self._stops[name] = threading.Event()
        threading.Thread(target=self._run, args=[name], name=name, daemon=True).start()
        return {"ProcessingJobArn": arn}

    def describe(self, request: dict[str, Any]) -> dict[str, Any]:
        """DescribeProcessingJob."""
        with self._lock:
            found: dict[str, Any] = json.loads(json.dumps(self._find(request)))
        return found

    def stop(self, request: dict[str, Any]) -> dict[str, Any]:
        """StopProcessingJob: sends SIGTERM to each machine's process, and SIGKILL two minutes later."""
        with self._lock:
            job = self._find(request)
            if job["ProcessingJobStatus"] == "InProgress":
                job["ProcessingJobStatus"] = "Stopping"
            self._stops[job["ProcessingJobName"]].set()
        return {}

    def close(self) -> None:
        """Stops all machines."""
        for stop in self._stops.values():
            stop.set()

    def _find(self, request: dict[str, Any]) -> dict[str, Any]:
        job = self._jobs.get(str(request.get("ProcessingJobName")))
        if job is None:
            raise SageMakerError("ResourceNotFound", "Could not find requested job")
        return job

    def _run(self, name: str) -> None:
        job = self._jobs[name]
        count = job["ProcessingResources"]["ClusterConfig"]["InstanceCount"]
        folders = [self._directory / name / f"algo-{number + 1}" for number in range(count)]
        try:
            for number, folder in enumerate(folders):
                self._fill(job, folder, number, count)
            job["ProcessingStartTime"] = time.time()
            with ThreadPoolExecutor(count) as pool:
                codes = list(pool.map(lambda folder: self._work(job, folder), folders))
            self._end(job, codes, folders)
        except Exception:
            # This function is the top of its thread, so nothing else would report the error.
            logger.exception("Processing job %s failed because of an error of the endpoint", name)
            job.update(ProcessingJobStatus="Failed", FailureReason="InternalServerError: see the endpoint's log.")
        finally:
            for folder in folders:
                shutil.rmtree(folder / "ml", ignore_errors=True)

    def _fill(self, job: dict[str, Any], folder: Path, number: int, count: int) -> None:
        """Downloads the inputs of a machine. Of a sharded one, it gets every ``count``-th object."""
        hosts = [f"algo-{each + 1}" for each in range(count)]
        configuration = folder / "ml/config"
        configuration.mkdir(parents=True)
        resources = {"current_host": hosts[number], "hosts": hosts}
        (configuration / "resourceconfig.json").write_text(json.dumps(resources))
        for each in job.get("ProcessingInputs", []):
            source = each["S3Input"]
            target = _local(source["LocalPath"], folder)
            target.mkdir(parents=True)
            if source.get("S3DataDistributionType") == "ShardedByS3Key":
                self._download_share(source["S3Uri"], target, number, count)
            else:
                download(self._s3, source["S3Uri"], target)

    def _download_share(self, uri: str, target: Path, number: int, count: int) -> None:
        bucket, prefix = split_uri(uri)
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        keys = sorted(entry["Key"] for page in pages for entry in page.get("Contents", []))
        for key in keys[number::count]:
            self._s3.download_file(bucket, key, str(target / key.rpartition("/")[2]))

    def _work(self, job: dict[str, Any], folder: Path) -> int:
        """Runs the process of one machine, and returns its exit code."""
        specification = job["AppSpecification"]
        command = [*specification["ContainerEntrypoint"], *specification.get("ContainerArguments", [])]
        stop, deadline = self._stops[job["ProcessingJobName"]], float("inf")
        inherited = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
        with (folder / "log.txt").open("ab") as log:
            process = subprocess.Popen(
                [part.replace(ROOT, str(folder / "ml")) for part in command],
                cwd=folder / "ml",
                env={
                    **inherited,
                    "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
                    "AWS_REGION": self._region,
                    **self._environment,
                    **{name: value.replace(ROOT, str(folder / "ml")) for name, value in job["Environment"].items()},
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            while process.poll() is None:
                if stop.is_set() and deadline == float("inf"):
                    process.terminate()
                    deadline = time.monotonic() + STOP_SECONDS
                if time.monotonic() > deadline:
                    process.kill()
                time.sleep(POLL_SECONDS)
        return process.returncode

    def _end(self, job: dict[str, Any], codes: list[int], folders: list[Path]) -> None:
        with self._lock:
            job["ProcessingEndTime"] = time.time()
            if job["ProcessingJobStatus"] == "Stopping":
                job["ProcessingJobStatus"] = "Stopped"
                return
            failed = next((place for place, code in enumerate(codes) if code), None)
            if failed is not None:
                with contextlib.suppress(OSError):
                    message = (folders[failed] / "ml/output/message").read_text(errors="replace")
                    job["ExitMessage"] = message[:MAX_MESSAGE]
                code = 128 - codes[failed] if codes[failed] < 0 else codes[failed]
                job["FailureReason"] = f"AlgorithmError: See job logs for more information, exit code: {code}"
            job["ProcessingJobStatus"] = "Completed" if failed is None else "Failed"


def _local(path: str, folder: Path) -> Path:
    return folder / "ml" / Path(path).relative_to(ROOT)


def _create_shape() -> botocore.model.Shape:
    loaded = botocore.loaders.Loader().load_service_model("sagemaker", "service-2")
    shape = botocore.model.ServiceModel(loaded, "sagemaker").operation_model("CreateProcessingJob").input_shape
    assert shape is not None  # noqa: S101 - botocore's data contains it
    return shape
