"""Fixtures of a SageMaker endpoint with an emulated S3."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from moto import mock_aws

from infra.local.sagemaker.job import TERMINAL
from infra.local.sagemaker.server import SageMakerServer
from infra.local.sagemaker.training_jobs import EmulatedTrainingJobs

BUCKET = "data-of-tests"
WAIT_SECONDS = 30.0


def channel(uri: str, name: str = "job") -> dict[str, Any]:
    return {"ChannelName": name, "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": uri}}}


class Endpoint:
    """A SageMaker endpoint with its jobs, its bucket and its published events."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.s3: Any = boto3.client("s3", region_name="us-east-1")
        self.logs: Any = boto3.client("logs", region_name="us-east-1")
        self.s3.create_bucket(Bucket=BUCKET)
        self.events: list[dict[str, Any]] = []
        self.jobs = self.open()

    def open(self, **options: Any) -> EmulatedTrainingJobs:
        """Loads the jobs of the directory, like a new process."""
        self.jobs = EmulatedTrainingJobs(
            self.directory,
            s3=self.s3,
            logs=self.logs,
            publish=self.events.append,
            **{"stop_grace_seconds": 1.0, "poll_seconds": 0.02, **options},
        )
        return self.jobs

    def put(self, key: str, body: bytes | str) -> None:
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=body)

    def read(self, key: str) -> bytes:
        body: bytes = self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return body

    def keys(self, prefix: str = "") -> list[str]:
        listing = self.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix)
        return [entry["Key"] for entry in listing.get("Contents", [])]

    def script(self, text: str) -> None:
        """Stores a program."""
        self.put("code/run.py", text)

    def request(self, name: str = "training-1", **changes: Any) -> dict[str, Any]:
        """Returns a CreateTrainingJob request for the stored program."""
        return {
            "TrainingJobName": name,
            "RoleArn": "arn:aws:iam::000000000000:role/training",
            "AlgorithmSpecification": {
                "TrainingImage": "image",
                "TrainingInputMode": "File",
                "ContainerEntrypoint": ["python3", "/opt/ml/input/data/code/run.py"],
            },
            "InputDataConfig": [channel(f"s3://{BUCKET}/code/", "code")],
            "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/out/"},
            "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10},
            "StoppingCondition": {"MaxRuntimeInSeconds": 60},
            **changes,
        }

    def run(self, name: str = "training-1", **changes: Any) -> dict[str, Any]:
        """Creates a job and waits for its end."""
        self.jobs.create(self.request(name, **changes))
        return self.wait(name)

    def wait(self, name: str, reached: Callable[[dict[str, Any]], bool] | None = None) -> dict[str, Any]:
        """Waits until the job has ended, or until ``reached`` accepts its description, and returns the description."""
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            description = self.jobs.describe({"TrainingJobName": name})
            ended = description["TrainingJobStatus"] in TERMINAL
            if ended if reached is None else reached(description):
                return description
            time.sleep(0.02)
        raise AssertionError(f"waited {WAIT_SECONDS} s for {name}: {description}")

    def statuses(self, name: str = "training-1") -> list[str]:
        """Returns the published secondary statuses in order."""
        details = [json.loads(event["Detail"]) for event in self.events]
        return [detail["SecondaryStatus"] for detail in details if detail["TrainingJobName"] == name]


@pytest.fixture
def endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with mock_aws():
        opened = Endpoint(tmp_path / "sagemaker")
        try:
            yield opened
        finally:
            opened.jobs.close()


@contextmanager
def served(*jobs: Any) -> Iterator[Any]:
    """Yields a SageMaker client of boto3 for an HTTP server with these jobs."""
    server = SageMakerServer(0, *jobs)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield boto3.client(
            "sagemaker",
            region_name="us-east-1",
            endpoint_url=f"http://127.0.0.1:{server.server_address[1]}",
            config=Config(retries={"total_max_attempts": 1}),
        )
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def client(endpoint: Endpoint) -> Iterator[Any]:
    with served(endpoint.jobs) as client:
        yield client
