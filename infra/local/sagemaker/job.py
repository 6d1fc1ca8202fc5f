"""A training job: its description as DescribeTrainingJob returns it, its files and its event."""

import functools
import json
import re
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import botocore.loaders
import botocore.model
import botocore.validate

from infra.local.sagemaker.s3_files import split_uri

ACCOUNT = "000000000000"
TERMINAL = frozenset({"Completed", "Failed", "Stopped"})
_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
# A description contains these fields of the request.
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

JobDescription = dict[str, Any]


class SageMakerError(Exception):
    """Error of the API. ``code`` is the error code of AWS."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass
class EmulatedTrainingJob:
    """A job: its description, its folder, and the events that stop or kill its process."""

    description: JobDescription
    directory: Path
    stop: threading.Event = field(default_factory=threading.Event)
    kill: threading.Event = field(default_factory=threading.Event)
    # Which of the job's instances.
    instance: int = 0

    @property
    def name(self) -> str:
        return str(self.description["TrainingJobName"])

    @property
    def status(self) -> str:
        return str(self.description["TrainingJobStatus"])

    @property
    def instance_type(self) -> str | None:
        instance_type: str | None = self.description["ResourceConfig"].get("InstanceType")
        return instance_type

    @property
    def channels(self) -> list[dict[str, Any]]:
        channels: list[dict[str, Any]] = self.description.get("InputDataConfig", [])
        return channels

    @property
    def base(self) -> Path:
        """Returns the folder that is ``/opt/ml`` in AWS."""
        return self.directory / f"ml-{self.instance + 1}"

    @property
    def instances(self) -> list["EmulatedTrainingJob"]:
        """Returns the job as each of its instances sees it."""
        return [replace(self, instance=number) for number in range(self.description["ResourceConfig"]["InstanceCount"])]

    @property
    def host_names(self) -> list[str]:
        """Returns the names of the instances: several have addresses of this machine that other jobs do not use."""
        count = self.description["ResourceConfig"]["InstanceCount"]
        if count == 1:
            return ["algo-1"]
        network = zlib.crc32(self.name.encode())
        return [f"127.{1 + network % 250}.{network // 250 % 250}.{number + 1}" for number in range(count)]

    @property
    def checkpoint_folder(self) -> Path | None:
        configuration = self.description.get("CheckpointConfig")
        if not configuration:
            return None
        relative = PurePosixPath(configuration.get("LocalPath", "/opt/ml/checkpoints"))
        return self.base / relative.relative_to("/opt/ml")

    def store(self) -> None:
        path = self.directory / "job.json"
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(self.description))
        temporary.replace(path)

    def state_change(self) -> dict[str, Any]:
        """Returns the EventBridge entry that SageMaker sends after a change of the status."""
        detail = _in_milliseconds(self.description)
        del detail["SecondaryStatusTransitions"]
        detail.pop("Environment", None)
        detail["SecondaryStatusTransitions"] = [
            _in_milliseconds(transition) for transition in self.description["SecondaryStatusTransitions"]
        ]
        return {
            "Source": "aws.sagemaker",
            "DetailType": "SageMaker Training Job State Change",
            "Resources": [self.description["TrainingJobArn"]],
            "Detail": json.dumps(detail),
        }


def new_description(request: dict[str, Any], region: str) -> JobDescription:
    """Checks a CreateTrainingJob request and returns the description of its job. Raises SageMakerError."""
    report = botocore.validate.ParamValidator().validate(request, _create_shape())
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
        try:
            split_uri(uri)
        except ValueError as error:
            raise SageMakerError("ValidationException", str(error)) from None
    return {
        **{key: request[key] for key in _COPIED if key in request},
        "TrainingJobArn": f"arn:aws:sagemaker:{region}:{ACCOUNT}:training-job/{name}",
        "CreationTime": time.time(),
        "SecondaryStatusTransitions": [],
        "EnableNetworkIsolation": request.get("EnableNetworkIsolation", False),
        "EnableInterContainerTrafficEncryption": request.get("EnableInterContainerTrafficEncryption", False),
        "EnableManagedSpotTraining": request.get("EnableManagedSpotTraining", False),
    }


@functools.cache
def _create_shape() -> botocore.model.Shape:
    loaded = botocore.loaders.Loader().load_service_model("sagemaker", "service-2")
    shape = botocore.model.ServiceModel(loaded, "sagemaker").operation_model("CreateTrainingJob").input_shape
    assert shape is not None  # noqa: S101 - botocore's data contains it
    return shape


def _uris(request: dict[str, Any]) -> Iterator[str]:
    yield request["OutputDataConfig"]["S3OutputPath"]
    for channel in request.get("InputDataConfig", []):
        source = channel["DataSource"].get("S3DataSource")
        if source is None or source["S3DataType"] != "S3Prefix":
            raise SageMakerError(
                "ValidationException", "the local endpoint only reads channels with the S3DataType S3Prefix"
            )
        yield source["S3Uri"]
    if "CheckpointConfig" in request:
        yield request["CheckpointConfig"]["S3Uri"]


def _in_milliseconds(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: round(value * 1000) if key.endswith("Time") else value for key, value in fields.items()}
