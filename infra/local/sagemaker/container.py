"""The container of a training job: its folders, its command and environment variables, and its results.

A job finds the same as in AWS: the folders of ``/opt/ml`` below ``SAGEMAKER_BASE_DIR``, the ``SM_*`` variables of the
training toolkit, and its input channels from S3. Its model folder is packed into ``model.tar.gz``.
"""

import json
import os
import re
import sys
import tarfile
from pathlib import Path, PurePosixPath
from typing import Any

from infra.local.sagemaker.job import EmulatedTrainingJob, JobDescription
from infra.local.sagemaker.s3_files import download, split_uri

MAX_FAILURE_REASON = 1024


def fill_folders(job: EmulatedTrainingJob, s3: Any) -> None:
    """Makes the folders of a job, and downloads its channels, source archive and last checkpoints."""
    base = job.base
    for name in ("input/config", "input/data", "model", "output/data", "output/intermediate", "code"):
        (base / name).mkdir(parents=True)
    configuration: dict[str, Any] = {
        "hyperparameters": job.description.get("HyperParameters", {}),
        "inputdataconfig": {
            channel["ChannelName"]: {"TrainingInputMode": "File", "RecordWrapperType": "None"}
            for channel in job.channels
        },
        "resourceconfig": {"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "lo"},
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
    archive = _hyperparameter(job.description, "sagemaker_submit_directory")
    if archive is not None:
        packed = base / "code.tar.gz"
        bucket, key = split_uri(archive)
        s3.download_file(bucket, key, str(packed))
        with tarfile.open(packed) as tar:
            tar.extractall(base / "code", filter="data")
        packed.unlink()
    if checkpoints := job.checkpoint_folder:
        checkpoints.mkdir(parents=True, exist_ok=True)
        download(s3, job.description["CheckpointConfig"]["S3Uri"], checkpoints)


def command(job: EmulatedTrainingJob) -> list[str]:
    """Returns the command of a job. Raises FileNotFoundError if its program is missing."""
    algorithm = job.description["AlgorithmSpecification"]
    if entrypoint := algorithm.get("ContainerEntrypoint"):
        return [*entrypoint, *algorithm.get("ContainerArguments", [])]
    program = _hyperparameter(job.description, "sagemaker_program")
    if program is None:
        raise FileNotFoundError("the job names no program: set the hyperparameter sagemaker_program")
    if not (job.base / "code" / program).is_file():
        raise FileNotFoundError(f"the program {program} is not in the source archive")
    # Like the training toolkit, this runs the script in the root of the archive, which is not on the module path.
    return [sys.executable, program, *_user_arguments(job.description)]


def environment(job: EmulatedTrainingJob, region: str, common: dict[str, str]) -> dict[str, str]:
    """Returns the environment variables of a job: SageMaker's, the ``common`` ones of all jobs, and its own."""
    description, base = job.description, job.base
    channels = [channel["ChannelName"] for channel in job.channels]
    hyperparameters = _user_hyperparameters(description)
    inherited = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT", "LD_LIBRARY_PATH")
    instance_type = job.instance_type or ""
    return {
        **{name: os.environ[name] for name in inherited if name in os.environ},
        "PYTHONUNBUFFERED": "1",
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        **common,
        "SAGEMAKER_BASE_DIR": str(base),
        "SAGEMAKER_JOB_NAME": job.name,
        "TRAINING_JOB_NAME": job.name,
        "TRAINING_JOB_ARN": description["TrainingJobArn"],
        "SAGEMAKER_REGION": region,
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


def failure_reason(job: EmulatedTrainingJob, code: int) -> str:
    """Returns the reason that the program wrote, with its exit code."""
    failure = job.base / "output/failure"
    text = failure.read_text(errors="replace").strip() if failure.is_file() else ""
    # A container reports a process that a signal has ended as 128 + signal.
    code = 128 - code if code < 0 else code
    return f"AlgorithmError: {text[: MAX_FAILURE_REASON - 40]}, exit code: {code}"


def upload_results(job: EmulatedTrainingJob, s3: Any) -> None:
    """Uploads the packed model and output folders. A job always has a model; an empty output folder is omitted."""
    bucket, prefix = split_uri(job.description["OutputDataConfig"]["S3OutputPath"])
    folder = PurePosixPath(prefix) / job.name / "output"
    for name, source in (("model", job.base / "model"), ("output", job.base / "output/data")):
        if name != "model" and not any(source.iterdir()):
            continue
        packed = job.base / f"{name}.tar.gz"
        with tarfile.open(packed, "w:gz") as tar:
            for entry in sorted(source.iterdir()):
                tar.add(entry, arcname=entry.name)
        key = str(folder / packed.name)
        s3.upload_file(str(packed), bucket, key)
        if name == "model":
            job.description["ModelArtifacts"] = {"S3ModelArtifacts": f"s3://{bucket}/{key}"}


def _hyperparameter(description: JobDescription, name: str) -> str | None:
    value = description.get("HyperParameters", {}).get(name)
    return None if value is None else _text(_decoded(value))


def _user_hyperparameters(description: JobDescription) -> dict[str, Any]:
    return {
        name: _decoded(value)
        for name, value in description.get("HyperParameters", {}).items()
        if not name.startswith("sagemaker_")
    }


def _user_arguments(description: JobDescription) -> list[str]:
    arguments: list[str] = []
    for name, value in sorted(_user_hyperparameters(description).items()):
        arguments += [f"--{name}" if len(name) > 1 else f"-{name}", _text(value)]
    return arguments


def _decoded(value: str) -> Any:
    """Decodes a hyperparameter: the SageMaker SDK writes JSON, other clients write plain text."""
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _gpu_count() -> int:
    return sum(1 for path in Path("/dev").glob("nvidia*") if re.fullmatch(r"nvidia\d+", path.name))
