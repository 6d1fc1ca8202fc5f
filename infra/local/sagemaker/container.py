"""The container of a training job: its folders, its command and environment variables, and its results.

A job finds the same as in AWS: the folders of ``/opt/ml``, which are below ``SAGEMAKER_BASE_DIR`` here, and its input
channels from S3. Its model folder is packed into ``model.tar.gz``.
"""

import json
import os
import sys
import tarfile
from pathlib import Path, PurePosixPath
from typing import Any

from infra.local.sagemaker.job import EmulatedTrainingJob
from infra.local.sagemaker.s3_files import download, split_uri

MAX_FAILURE_REASON = 1024


def fill_folders(job: EmulatedTrainingJob, s3: Any) -> None:
    """Makes the folders of one instance of a job, and downloads its channels and last checkpoints."""
    base = job.base
    for name in ("input/config", "input/data", "model", "output/data", "output/intermediate"):
        (base / name).mkdir(parents=True)
    configuration: dict[str, Any] = {
        "hyperparameters": job.description.get("HyperParameters", {}),
        "inputdataconfig": {
            channel["ChannelName"]: {"TrainingInputMode": "File", "RecordWrapperType": "None"}
            for channel in job.channels
        },
        "resourceconfig": {
            "current_host": job.host_names[job.instance],
            "hosts": job.host_names,
            "network_interface_name": "lo",
        },
    }
    for name, content in configuration.items():
        (base / "input/config" / f"{name}.json").write_text(json.dumps(content))
    for channel in job.channels:
        source = channel["DataSource"]["S3DataSource"]
        target = base / "input/data" / channel["ChannelName"]
        target.mkdir(parents=True, exist_ok=True)
        if download(s3, source["S3Uri"], target) == 0:
            raise FileNotFoundError(
                f"Data download failed: no S3 objects found under S3 URL {source['S3Uri']} "
                f"for channel {channel['ChannelName']}"
            )
    if checkpoints := job.checkpoint_folder:
        checkpoints.mkdir(parents=True, exist_ok=True)
        download(s3, job.description["CheckpointConfig"]["S3Uri"], checkpoints)


def command(job: EmulatedTrainingJob) -> list[str]:
    """Returns the command of a job, with the paths of this machine. Raises ValueError if it names no entrypoint."""
    algorithm = job.description["AlgorithmSpecification"]
    if "ContainerEntrypoint" not in algorithm:
        raise ValueError("the local endpoint has no images, so a job needs a ContainerEntrypoint")
    parts = [*algorithm["ContainerEntrypoint"], *algorithm.get("ContainerArguments", [])]
    return [part.replace("/opt/ml", str(job.base)) for part in parts]


def environment(job: EmulatedTrainingJob, region: str, common: dict[str, str]) -> dict[str, str]:
    """Returns the environment variables of a job: SageMaker's, the ``common`` ones of all jobs, and its own."""
    inherited = ("HOME", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT", "LD_LIBRARY_PATH")
    return {
        **{name: os.environ[name] for name in inherited if name in os.environ},
        # The image of a job is this Python environment.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "PYTHONUNBUFFERED": "1",
        "AWS_REGION": region,
        **common,
        "SAGEMAKER_BASE_DIR": str(job.base),
        "TRAINING_JOB_NAME": job.name,
        "TRAINING_JOB_ARN": job.description["TrainingJobArn"],
        **job.description.get("Environment", {}),
    }


def failure_reason(job: EmulatedTrainingJob, code: int) -> str:
    """Returns the reason that the program wrote, with its exit code."""
    failure = job.base / "output/failure"
    text = failure.read_text(errors="replace").strip() if failure.is_file() else ""
    # A container reports a process that a signal has ended as 128 + signal.
    code = 128 - code if code < 0 else code
    return f"AlgorithmError: {text[: MAX_FAILURE_REASON - 40]}, exit code: {code}"


def upload_results(job: EmulatedTrainingJob, s3: Any) -> None:
    """Uploads the packed model and output folders. A job always has a model; an empty output folder is omitted.

    The files of all instances come together.
    """
    bucket, prefix = split_uri(job.description["OutputDataConfig"]["S3OutputPath"])
    folder = PurePosixPath(prefix) / job.name / "output"
    for name, source in (("model", "model"), ("output", "output/data")):
        entries = {entry.name: entry for each in job.instances for entry in (each.base / source).iterdir()}
        if name != "model" and not entries:
            continue
        packed = job.base / f"{name}.tar.gz"
        with tarfile.open(packed, "w:gz") as tar:
            for entry in sorted(entries.values()):
                tar.add(entry, arcname=entry.name)
        key = str(folder / packed.name)
        s3.upload_file(str(packed), bucket, key)
        if name == "model":
            job.description["ModelArtifacts"] = {"S3ModelArtifacts": f"s3://{bucket}/{key}"}
