"""Tests that the local SageMaker endpoint works like SageMaker's API and containers."""

import io
import json
import os
import tarfile
from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError

from infra.local.sagemaker.faults import Fault, FaultKind
from infra.local.sagemaker.job import SageMakerError
from infra.local.sagemaker.training_jobs import CAPACITY_ERROR
from tests.unit.local.conftest import BUCKET, Endpoint, channel

REPORT_ENVIRONMENT = """
import json, os, pathlib, sys
base = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"])
report = {
    "variables": {k: v for k, v in os.environ.items()},
    "arguments": sys.argv[1:],
    "job": (base / "input/data/job/job.json").read_text(),
    "nested": (base / "input/data/job/parts/one.txt").read_text(),
    "configuration": sorted(p.name for p in (base / "input/config").iterdir()),
}
pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"], "model/report.json").write_text(json.dumps(report))
"""
WAIT_FOR_TERM = """
import os, pathlib, signal, sys, time
def leave(*_):
    pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"], "model/partial.txt").write_text("half")
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
print("ready")
while True:
    time.sleep(0.02)
"""
IGNORE_TERM = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(60)\n"
COUNT_RUNS = """
import os, pathlib, signal, sys, time
base = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"])
path = base / "checkpoints/rounds.txt"
rounds = int(path.read_text()) if path.exists() else 0
path.write_text(str(rounds + 1))
if rounds == 0:
    time.sleep(60)
pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"], "model/rounds.txt").write_text(str(rounds + 1))
"""


def files_of(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {entry.name: tar.extractfile(entry).read() for entry in tar.getmembers() if entry.isfile()}  # type: ignore[union-attr]


def test_a_job_finds_the_files_and_variables_of_a_sagemaker_container(endpoint: Endpoint) -> None:
    endpoint.script(REPORT_ENVIRONMENT)
    endpoint.put("in/job.json", '{"id": 1}')
    endpoint.put("in/parts/one.txt", "one")
    request = endpoint.request()
    start = {**request["AlgorithmSpecification"], "ContainerArguments": ["--name", "a b", "/opt/ml/x"]}

    ended = endpoint.run(
        InputDataConfig=[*request["InputDataConfig"], channel(f"s3://{BUCKET}/in/")],
        AlgorithmSpecification=start,
        Environment={"OWN": "value"},
    )

    assert ended["TrainingJobStatus"] == "Completed"
    artifact = ended["ModelArtifacts"]["S3ModelArtifacts"]
    assert artifact == f"s3://{BUCKET}/out/training-1/output/model.tar.gz"
    report = json.loads(files_of(endpoint.read("out/training-1/output/model.tar.gz"))["report.json"])
    variables = report["variables"]
    assert report["job"] == '{"id": 1}'
    assert report["nested"] == "one"
    assert report["arguments"] == ["--name", "a b", f"{variables['SAGEMAKER_BASE_DIR']}/x"]
    assert report["configuration"] == ["hyperparameters.json", "inputdataconfig.json", "resourceconfig.json"]
    assert variables["TRAINING_JOB_NAME"] == "training-1"
    assert variables["OWN"] == "value"
    assert "PYTHONPATH" not in variables
    assert endpoint.statuses() == ["Starting", "Downloading", "Training", "Uploading", "Completed"]


def test_a_failed_job_has_the_reason_of_its_program_and_no_model(endpoint: Endpoint) -> None:
    endpoint.script(
        "import os, pathlib, sys\n"
        "path = pathlib.Path(os.environ['SAGEMAKER_BASE_DIR'], 'output/failure')\n"
        "path.write_text('the column y is missing')\n"
        "sys.exit(3)\n"
    )

    ended = endpoint.run()

    assert ended["TrainingJobStatus"] == "Failed"
    assert ended["FailureReason"] == "AlgorithmError: the column y is missing, exit code: 3"
    assert "ModelArtifacts" not in ended
    assert endpoint.keys("out/") == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"InputDataConfig": [channel(f"s3://{BUCKET}/nothing/")]}, "no S3 objects found"),
        ({"AlgorithmSpecification": {"TrainingInputMode": "File"}}, "a job needs a ContainerEntrypoint"),
    ],
)
def test_a_job_without_its_input_fails_with_the_reason(
    endpoint: Endpoint, changes: dict[str, Any], reason: str
) -> None:
    endpoint.script("")

    ended = endpoint.run(**changes)

    assert ended["TrainingJobStatus"] == "Failed"
    assert reason in ended["FailureReason"]


def test_a_stopped_program_can_save_its_model(endpoint: Endpoint) -> None:
    endpoint.script(WAIT_FOR_TERM)
    endpoint.jobs.create(endpoint.request())
    log = endpoint.directory / "training-1/log.txt"
    endpoint.wait("training-1", lambda _: log.is_file() and "ready" in log.read_text())

    endpoint.jobs.stop({"TrainingJobName": "training-1"})
    ended = endpoint.wait("training-1")

    assert (ended["TrainingJobStatus"], ended["SecondaryStatus"]) == ("Stopped", "Stopped")
    assert files_of(endpoint.read("out/training-1/output/model.tar.gz")) == {"partial.txt": b"half"}
    with pytest.raises(SageMakerError, match="status Stopped"):
        endpoint.jobs.stop({"TrainingJobName": "training-1"})


def test_a_program_that_ignores_sigterm_is_killed_after_the_grace_period(endpoint: Endpoint) -> None:
    endpoint.script(IGNORE_TERM)
    endpoint.jobs.create(endpoint.request())
    endpoint.wait("training-1", lambda description: description["SecondaryStatus"] == "Training")

    endpoint.jobs.stop({"TrainingJobName": "training-1"})

    assert endpoint.wait("training-1")["TrainingJobStatus"] == "Stopped"


def test_a_job_that_exceeds_its_time_limit_is_stopped(endpoint: Endpoint) -> None:
    endpoint.script(IGNORE_TERM)

    ended = endpoint.run(StoppingCondition={"MaxRuntimeInSeconds": 1})

    assert (ended["TrainingJobStatus"], ended["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")


def test_an_interrupted_spot_job_starts_again_from_its_checkpoint(endpoint: Endpoint) -> None:
    endpoint.script(COUNT_RUNS)
    endpoint.jobs.plan_fault(Fault(FaultKind.INTERRUPT))

    ended = endpoint.run(
        EnableManagedSpotTraining=True,
        CheckpointConfig={"S3Uri": f"s3://{BUCKET}/checkpoints/", "LocalPath": "/opt/ml/checkpoints"},
        StoppingCondition={"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 120},
    )

    assert ended["TrainingJobStatus"] == "Completed"
    assert files_of(endpoint.read("out/training-1/output/model.tar.gz")) == {"rounds.txt": b"2"}
    assert endpoint.read("checkpoints/rounds.txt") == b"2"
    assert endpoint.statuses().count("Interrupted") == 1


def test_a_job_fails_when_its_process_is_killed(endpoint: Endpoint) -> None:
    endpoint.script(IGNORE_TERM)
    endpoint.jobs.create(endpoint.request())
    endpoint.wait("training-1", lambda description: description["SecondaryStatus"] == "Training")

    endpoint.jobs.plan_fault(Fault(FaultKind.KILL, job_name_prefix="training-"))
    ended = endpoint.wait("training-1")

    assert ended["TrainingJobStatus"] == "Failed"
    assert ended["FailureReason"] == "AlgorithmError: , exit code: 137"


def test_a_capacity_fault_only_affects_its_instance_type(endpoint: Endpoint) -> None:
    endpoint.script("")
    endpoint.jobs.plan_fault(Fault(FaultKind.CAPACITY, instance_type="ml.m5.large", count=2))
    other = {**endpoint.request()["ResourceConfig"], "InstanceType": "ml.m5.xlarge"}

    first, second = endpoint.run("training-1"), endpoint.run("training-2", ResourceConfig=other)

    assert first["FailureReason"] == CAPACITY_ERROR
    assert second["TrainingJobStatus"] == "Completed"


def test_jobs_wait_for_a_slot_and_a_waiting_job_can_be_stopped(endpoint: Endpoint) -> None:
    endpoint.script(IGNORE_TERM)
    for name in ("training-1", "training-2"):
        endpoint.jobs.create(endpoint.request(name))
    endpoint.wait("training-1", lambda description: description["SecondaryStatus"] == "Training")
    waiting = endpoint.jobs.describe({"TrainingJobName": "training-2"})
    assert (waiting["TrainingJobStatus"], waiting["SecondaryStatus"]) == ("InProgress", "Starting")

    endpoint.jobs.stop({"TrainingJobName": "training-2"})
    endpoint.jobs.stop({"TrainingJobName": "training-1"})

    assert endpoint.wait("training-2")["TrainingJobStatus"] == "Stopped"
    assert "Training" not in endpoint.statuses("training-2")


def test_a_restart_keeps_finished_jobs_and_fails_running_jobs(endpoint: Endpoint) -> None:
    endpoint.script("")
    endpoint.run("training-1")
    endpoint.script(IGNORE_TERM)
    endpoint.jobs.create(endpoint.request("training-2"))
    pid_file = endpoint.directory / "training-2/pids"
    endpoint.wait("training-2", lambda _: pid_file.is_file() and pid_file.read_text() != "")
    pid = int(pid_file.read_text())

    endpoint.jobs.close()
    reopened = endpoint.open()

    assert reopened.describe({"TrainingJobName": "training-1"})["TrainingJobStatus"] == "Completed"
    failed = reopened.describe({"TrainingJobName": "training-2"})
    assert failed["TrainingJobStatus"] == "Failed"
    assert "restarted" in failed["FailureReason"]
    assert endpoint.statuses("training-2")[-1] == "Failed"
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_boto3_creates_describes_stops_and_lists_jobs(endpoint: Endpoint, client: Any) -> None:
    endpoint.script("")
    for number in range(3):
        client.create_training_job(**endpoint.request(f"training-{number}"))
        endpoint.wait(f"training-{number}")

    described = client.describe_training_job(TrainingJobName="training-0")
    first = client.list_training_jobs(MaxResults=2, StatusEquals="Completed")
    second = client.list_training_jobs(MaxResults=2, StatusEquals="Completed", NextToken=first["NextToken"])

    assert described["TrainingJobStatus"] == "Completed"
    assert described["TrainingEndTime"] >= described["CreationTime"]
    listed = first["TrainingJobSummaries"] + second["TrainingJobSummaries"]
    assert [job["TrainingJobName"] for job in listed] == ["training-2", "training-1", "training-0"]
    assert "NextToken" not in second
    assert client.list_training_jobs(NameContains="other")["TrainingJobSummaries"] == []


def test_boto3_receives_the_errors_of_aws(endpoint: Endpoint, client: Any) -> None:
    endpoint.script("")
    client.create_training_job(**endpoint.request())

    def code(call: Any, **arguments: Any) -> str:
        with pytest.raises(ClientError) as caught:
            call(**arguments)
        return str(caught.value.response["Error"]["Code"])

    assert code(client.create_training_job, **endpoint.request()) == "ResourceInUse"
    assert code(client.create_training_job, **endpoint.request("under_score")) == "ValidationException"
    no_uri = endpoint.request("training-2", OutputDataConfig={"S3OutputPath": "file:///tmp"})
    assert code(client.create_training_job, **no_uri) == "ValidationException"
    assert code(client.describe_training_job, TrainingJobName="none") == "ValidationException"
    assert code(client.stop_training_job, TrainingJobName="none") == "ValidationException"
    assert code(client.create_model, ModelName="m", ExecutionRoleArn="arn:aws:iam::000000000000:role/r") == (
        "UnknownOperationException"
    )


@pytest.mark.parametrize(("kind", "code"), [("limit", "ResourceLimitExceeded"), ("throttle", "ThrottlingException")])
def test_faults_that_are_planned_over_http_refuse_a_job(endpoint: Endpoint, client: Any, kind: str, code: str) -> None:
    endpoint.script("")
    faults = f"{client.meta.endpoint_url}/_local/faults"
    plan = {"kind": kind, "job_name_prefix": "training-", "count": 20}
    assert httpx.post(faults, json=plan, trust_env=False).status_code == 200

    with pytest.raises(ClientError) as caught:
        client.create_training_job(**endpoint.request())
    assert caught.value.response["Error"]["Code"] == code

    assert httpx.delete(faults, trust_env=False).status_code == 200
    client.create_training_job(**endpoint.request())
    assert endpoint.wait("training-1")["TrainingJobStatus"] == "Completed"


def test_lines_of_a_job_are_in_cloudwatch_while_it_runs(endpoint: Endpoint) -> None:
    endpoint.script("import time\nprint('starts', flush=True)\nprint('half', end='', flush=True)\ntime.sleep(60)")
    endpoint.jobs.create(endpoint.request())
    group = {"logGroupName": "/aws/sagemaker/TrainingJobs"}

    def lines() -> list[str]:
        try:
            found = endpoint.logs.describe_log_streams(logStreamNamePrefix="training-1/algo-1-", **group)["logStreams"]
        except endpoint.logs.exceptions.ResourceNotFoundException:
            return []
        pages = [endpoint.logs.get_log_events(logStreamName=each["logStreamName"], **group) for each in found]
        return [event["message"] for page in pages for event in page["events"]]

    endpoint.wait("training-1", reached=lambda _: lines() == ["starts"])
    endpoint.jobs.stop({"TrainingJobName": "training-1"})
    endpoint.wait("training-1")
    assert lines() == ["starts", "half"]


MEET = """
import json, os, pathlib, sys, time
base = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"])
config = json.loads((base / "input/config/resourceconfig.json").read_text())
mine = config["hosts"].index(config["current_host"])
(base / "model" / f"{mine}.txt").write_text(config["current_host"])
if sys.argv[1:] == ["fail"]:
    if mine == 1:
        (base / "output/failure").write_text("the second one failed")
        sys.exit(1)
    time.sleep(60)
"""


@pytest.mark.row("DT-1")
def test_a_job_of_several_instances_runs_a_process_for_each_and_packs_what_all_left(endpoint: Endpoint) -> None:
    endpoint.script(MEET)
    several = {"InstanceType": "ml.m5.large", "InstanceCount": 2, "VolumeSizeInGB": 10}
    assert endpoint.run(ResourceConfig=several)["TrainingJobStatus"] == "Completed"
    files = files_of(endpoint.read("out/training-1/output/model.tar.gz"))
    assert sorted(files) == ["0.txt", "1.txt"]
    assert len(set(files.values())) == 2

    request = endpoint.request("training-2", ResourceConfig=several)
    request["AlgorithmSpecification"]["ContainerArguments"] = ["fail"]
    endpoint.jobs.create(request)
    failed = endpoint.wait("training-2")
    assert (failed["TrainingJobStatus"], failed["FailureReason"]) == (
        "Failed",
        "AlgorithmError: the second one failed, exit code: 1",
    )
