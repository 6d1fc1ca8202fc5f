"""Processing jobs of the local SageMaker endpoint run as processes, one for each machine."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, ParamValidationError

from infra.local import emulator
from infra.local.sagemaker.processing_jobs import EmulatedProcessingJobs
from tests.unit.local.conftest import BUCKET, WAIT_SECONDS, Endpoint, served
from tests.unit.local.test_emulator import TaskFailedError

INPUT = "/opt/ml/processing/input/data"


@pytest.fixture
def sagemaker(endpoint: Endpoint, tmp_path: Path) -> Iterator[Any]:
    """Yields a client of boto3 for a server with processing jobs."""
    environment = {"COMMON": "to all jobs"}
    jobs = EmulatedProcessingJobs(tmp_path / "processing", s3=endpoint.s3, region="us-east-1", environment=environment)
    try:
        with served(endpoint.jobs, jobs) as client:
            yield client
    finally:
        jobs.close()


def request(script: str, name: str = "prediction-1", machines: int = 2) -> dict[str, Any]:
    def channel(channel_name: str, distribution: str) -> dict[str, Any]:
        return {
            "InputName": channel_name,
            "S3Input": {
                "S3Uri": f"s3://{BUCKET}/{channel_name}/",
                "LocalPath": f"{INPUT}/{channel_name}",
                "S3DataType": "S3Prefix",
                "S3InputMode": "File",
                "S3DataDistributionType": distribution,
            },
        }

    return {
        "ProcessingJobName": name,
        "RoleArn": "arn:aws:iam::000000000000:role/processing",
        "AppSpecification": {"ImageUri": "image", "ContainerEntrypoint": ["/bin/bash", "-c", script]},
        "Environment": {"FAILURE_FILE": "/opt/ml/output/message"},
        "ProcessingInputs": [channel("tasks", "ShardedByS3Key"), channel("code", "FullyReplicated")],
        "ProcessingResources": {
            "ClusterConfig": {"InstanceCount": machines, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 10}
        },
    }


def wait(sagemaker: Any, name: str = "prediction-1") -> dict[str, Any]:
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        found: dict[str, Any] = sagemaker.describe_processing_job(ProcessingJobName=name)
        if found["ProcessingJobStatus"] in ("Completed", "Failed", "Stopped"):
            return found
        time.sleep(0.02)
    raise AssertionError(found)


def lines(folder: Path, machine: int, name: str = "prediction-1") -> list[str]:
    return (folder / "processing" / name / f"algo-{machine}" / "log.txt").read_text().splitlines()


@pytest.mark.row("BD-5")
def test_machines_share_objects_and_each_gets_the_code(endpoint: Endpoint, sagemaker: Any, tmp_path: Path) -> None:
    for number in range(3):
        endpoint.put(f"tasks/{number}.json", "{}")
    endpoint.put("code/run.py", "print()")

    sagemaker.create_processing_job(**request(f'ls {INPUT}/tasks {INPUT}/code; echo "$COMMON"'))

    assert wait(sagemaker)["ProcessingJobStatus"] == "Completed"
    for machine, tasks in ((1, ["0.json", "2.json"]), (2, ["1.json"])):
        shown = lines(tmp_path, machine)
        assert [each for each in shown if each.endswith(".json")] == tasks
        assert "run.py" in shown
        assert shown[-1] == "to all jobs"


def test_a_machine_that_fails_ends_the_job_with_its_reason(endpoint: Endpoint, sagemaker: Any) -> None:
    endpoint.put("tasks/0.json", "{}")
    endpoint.put("code/run.py", "")
    fails = 'mkdir -p "$(dirname $FAILURE_FILE)"; [ -e /opt/ml/processing/input/data/tasks/0.json ] || exit 0'
    sagemaker.create_processing_job(**request(f"{fails}; echo 'The disk is full.' > $FAILURE_FILE; exit 3"))

    ended = wait(sagemaker)

    assert ended["ProcessingJobStatus"] == "Failed"
    assert ended["ExitMessage"].strip() == "The disk is full."
    assert "exit code: 3" in ended["FailureReason"]
    run = emulator.job_task(lambda: sagemaker, TaskFailedError, kind="Processing", poll_seconds=0.02)
    again = request(f"{fails}; echo 'The disk is full.' > $FAILURE_FILE; exit 3", "prediction-2")
    with pytest.raises(TaskFailedError) as caught:
        run(f"{emulator.CREATE_PROCESSING_JOB}.sync", again)
    assert json.loads(caught.value.cause)["ExitMessage"].strip() == "The disk is full."


def test_a_stop_reaches_every_machine(endpoint: Endpoint, sagemaker: Any) -> None:
    endpoint.put("tasks/0.json", "{}")
    endpoint.put("code/run.py", "")
    sagemaker.create_processing_job(**request("exec sleep 60"))
    sagemaker.stop_processing_job(ProcessingJobName="prediction-1")
    assert wait(sagemaker)["ProcessingJobStatus"] == "Stopped"


def test_a_wrong_or_repeated_request_is_refused(endpoint: Endpoint, sagemaker: Any) -> None:
    endpoint.put("tasks/0.json", "{}")
    endpoint.put("code/run.py", "")
    sagemaker.create_processing_job(**request("true"))
    with pytest.raises(ClientError, match="unique"):
        sagemaker.create_processing_job(**request("true"))
    with pytest.raises(ParamValidationError):
        sagemaker.create_processing_job(ProcessingJobName="a")
    with pytest.raises(ClientError, match="Could not find"):
        sagemaker.describe_processing_job(ProcessingJobName="unknown")
