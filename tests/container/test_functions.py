"""Every packaged function runs under AWS's runtime client, with its layers alone.

The Python is Lambda's, or ours on a machine that has it not. The layers are for our processor; Lambda's is arm64.
"""

import base64
import json
import shutil
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest

from infra import package
from infra.groups import AUTHORIZE, EVENTS, GROUPS, STEPS, FunctionSpec, GroupSpec, Layer
from infra.local.sagemaker.server import SageMakerServer
from infra.local.sagemaker.training_jobs import EmulatedTrainingJobs
from shared.dynamodb.table import Item, Table
from shared.inference_logs.store import SHARDS
from shared.resources import Resources
from tests.container.runtime_api import PackagedFunctions
from tests.fixtures.aws import BUCKET, LOGS_TABLE, create_all, settings_for
from tests.fixtures.emulator import emulated_aws
from tests.fixtures.environments import ENVIRONMENTS, environment, python_of
from tests.fixtures.identity import Issuer
from tests.fixtures.inference_logs import call, stream_event
from tests.infra.test_definitions import PREPARED
from tests.load.emulated_store import gateway_event

pytestmark = pytest.mark.row("OP-2")

CLIENT = "awslambdaric==4.2.2\n"
SPACE, ID = "01a2081a-1610-752b-8cc0-d52dcf52e48d", "01a2081a-1610-752b-8cc0-d52dcf52e48e"
# The groups that list nothing at their first path.
ITEM_PATHS = {"insights": f"/insights/{ID}", "clients": f"/clients/{ID}"}
STEP_SPECS = [spec for specs in STEPS.values() for spec in specs]


@pytest.fixture(scope="module")
def training_jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yields the address of a SageMaker endpoint without jobs, which the emulator lacks."""
    jobs = EmulatedTrainingJobs(tmp_path_factory.mktemp("jobs"), s3=None, logs=None, publish=lambda _: None)
    server = SageMakerServer(0, jobs)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        jobs.close()


@pytest.fixture(scope="module")
def packaged(issuer: Issuer, training_jobs: str) -> Iterator[PackagedFunctions]:
    """Yields the packaged functions with an emulated AWS."""
    folder = ENVIRONMENTS / "functions"
    code = package.build_code(folder)
    interpreter, python = python_of(package.PYTHON_VERSION)
    for layer in (package.BASE, *Layer):
        package.build_layer(folder, layer, interpreter=None, platform="x86_64-manylinux_2_28", python=python)
    settings = settings_for(issuer).model_dump(mode="json", exclude_none=True)
    with emulated_aws() as aws, pytest.MonkeyPatch.context() as patch:
        for name, value in aws.items():
            patch.setenv(name, value)
        create_all(boto3.client)
        queue = boto3.client("sqs").create_queue(QueueName="webhooks")["QueueUrl"]
        variables = {name.upper(): str(value) for name, value in settings.items()}
        variables |= {"POWERTOOLS_METRICS_NAMESPACE": "Tests", "WEBHOOK_QUEUE_URL": queue, **aws}
        variables["AWS_ENDPOINT_URL_SAGEMAKER"] = training_jobs
        variables["PACKAGES_URI"] = packed_layer(folder / "layers" / Layer.SCORE)
        programs = environment("functions", CLIENT, interpreter)
        yield PackagedFunctions(programs, code, folder / "layers", variables)


def packed_layer(folder: Path) -> str:
    """Stores the packages of a layer as a deployment does, and returns the archive's address."""
    archive = shutil.make_archive(str(folder), "zip", folder)
    boto3.client("s3").upload_file(archive, BUCKET, "packages-of-tests.zip")
    return f"s3://{BUCKET}/packages-of-tests.zip"


# --- API functions


@pytest.mark.parametrize("spec", GROUPS, ids=lambda spec: spec.name)
def test_a_group_starts_answers_a_request_and_refuses_a_bad_token(
    spec: GroupSpec, packaged: PackagedFunctions, issuer: Issuer
) -> None:
    path = ITEM_PATHS.get(spec.name, f"/{spec.paths[0]}")
    with packaged.running(spec.handler, spec.layers, snap_start=spec.snap_start) as function:
        answered = function.send(gateway_event("GET", path, issuer.token("alice"), SPACE))
        refused = function.send(gateway_event("GET", path, "not-a-token", SPACE))
        assert function.api.restored.is_set() == spec.snap_start
    assert not answered.failed, answered.value
    assert not refused.failed, refused.value
    body = answered.value["body"]
    text = base64.b64decode(body).decode() if answered.value.get("isBase64Encoded") else body
    if spec.public:
        # Jobs sign what they post to /webhooks.
        assert answered.value["statusCode"] == (200 if spec.name == "documentation" else 405), text
        return
    # Alice belongs to no space.
    assert answered.value["statusCode"] == (200 if spec.name == "spaces" else 404), text
    assert json.loads(text)
    assert (refused.value["statusCode"], json.loads(refused.value["body"])["code"]) == (401, "unauthenticated")


def test_the_authorizer_allows_a_user_and_denies_a_bad_token(packaged: PackagedFunctions, issuer: Issuer) -> None:
    arn = "arn:aws:execute-api:us-east-1:000000000000:abc/api/GET/spaces"
    with packaged.running(AUTHORIZE.handler, AUTHORIZE.layers, snap_start=True) as function:
        effects = [
            function.send({"type": "TOKEN", "methodArn": arn, "authorizationToken": f"Bearer {token}"}).value[
                "policyDocument"
            ]["Statement"][0]["Effect"]
            for token in (issuer.token("alice"), "not-a-token")
        ]
    assert effects == ["Allow", "Deny"]


# --- steps of workflows

_TRAINING = {"space_id": SPACE, "training_id": ID}
_EVALUATION = {"space_id": SPACE, "evaluation_id": ID}
_PREDICTION = {"space_id": SPACE, "prediction_id": ID}
_DECISIONS = {"space_id": SPACE, "decision_run_id": ID}
_SCAN = {"space_id": SPACE, "connector_id": ID, "scan_id": ID}
_FAILURE = {"error": "States.TaskFailed", "cause": json.dumps({"TrainingJobStatus": "Failed", "FailureReason": "x"})}
_JOB = {
    "job_name": f"training-{ID}-1",
    "output_uri": "s3://data/x/",
    "model_uri": f"s3://data/spaces/{SPACE}/trainings/{ID}/m",
}
# The event of each step about something that was deleted, and what comes of it: a result, or an error for the user.
STEP_EVENTS: dict[str, tuple[dict[str, Any], str | None]] = {
    "check-training": (_TRAINING, "JobFailedError"),
    "register-checkpoints": ({**_TRAINING, **_JOB}, "JobFailedError"),
    "create-evaluation": ({**_TRAINING, "checkpoint_id": ID, "benchmark_id": ID}, "JobFailedError"),
    "fail-training": ({**_TRAINING, **_FAILURE}, None),
    "prepare-evaluation": (_EVALUATION, "NotFoundError"),
    "record-evaluation": ({**_EVALUATION, **_JOB}, "NotFoundError"),
    "fail-evaluation": ({**_EVALUATION, **_FAILURE}, "NotFoundError"),
    "find-training-machine": ({**_TRAINING, "plan": PREPARED, "search": None}, "JobFailedError"),
    "find-evaluation-machine": ({**_EVALUATION, "plan": PREPARED, "search": None}, "NotFoundError"),
    "prepare-prediction": (_PREDICTION, "JobFailedError"),
    "score-parts": ({**_PREDICTION, "work_id": ID, "task": {}}, "NoSuchKey"),
    "finish-prediction": (_PREDICTION, "NotFoundError"),
    "fail-prediction": ({**_PREDICTION, **_FAILURE}, None),
    "prepare-decision-run": (_DECISIONS, "JobFailedError"),
    "decide-parts": ({**_DECISIONS, "work_id": ID, "task": {}}, "NoSuchKey"),
    "finish-decision-run": (_DECISIONS, "NotFoundError"),
    "fail-decision-run": ({**_DECISIONS, **_FAILURE}, None),
    "list-scan-files": (_SCAN, "JobFailedError"),
    "scan-file": ({**_SCAN, "files": []}, None),
    "finish-scan": ({**_SCAN, "list_key": "x", "groups_key": "y"}, None),
    "fail-scan": ({**_SCAN, **_FAILURE}, None),
}


@pytest.mark.parametrize("spec", STEP_SPECS, ids=lambda spec: spec.name)
def test_a_step_starts_and_handles_the_event_of_its_workflow(spec: FunctionSpec, packaged: PackagedFunctions) -> None:
    event, error = STEP_EVENTS[spec.name]
    with packaged.running(spec.handler, spec.layers) as function:
        result = function.send(event)
    assert (result.value["errorType"] if result.failed else None) == error, result.value


# --- functions of events


def _queued(body: Any) -> dict[str, Any]:
    attributes = {"ApproximateReceiveCount": "1", "SentTimestamp": "1700000000000", "MessageGroupId": SPACE}
    record = {"messageId": "1", "receiptHandle": "r", "body": json.dumps(body), "attributes": attributes,
              "messageAttributes": {}, "eventSource": "aws:sqs", "eventSourceARN": "arn:aws:sqs:::q"}  # fmt: skip
    return {"Records": [record]}


def _changed(image: dict[str, Any], kind: str = "INSERT") -> dict[str, Any]:
    keys = {name: image[name] for name in ("PK", "SK")}
    change = {"Keys": keys, "NewImage": image, "SequenceNumber": "1", "StreamViewType": "NEW_AND_OLD_IMAGES",
              "ApproximateCreationDateTime": 1700000000}  # fmt: skip
    return {"Records": [{"eventID": "1", "eventName": kind, "eventSource": "aws:dynamodb", "dynamodb": change}]}


_OBJECT = {
    "source": "aws.s3", "detail-type": "Object Created", "time": "2026-01-01T00:00:00Z",
    "detail": {"bucket": {"name": "data"}, "object": {
        "key": f"spaces/{SPACE}/connectors/{ID}/a.csv", "size": 3, "etag": "e", "sequencer": "00A1"}},
}  # fmt: skip
_ENTITY = {
    "PK": {"S": f"space#{SPACE}"}, "SK": {"S": SPACE}, "id": {"S": SPACE}, "name": {"S": "Space"},
    "written_by": {"S": f"alice#{ID}"},
}  # fmt: skip
_SCHEDULE = {"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}, "time": "2026-01-01T00:00:00Z"}
EVENT_EVENTS: dict[str, dict[str, Any]] = {
    "connector-scan": _queued(_OBJECT),
    "job-state-changed": {"source": "aws.sagemaker", "detail-type": "SageMaker Training Job State Change",
                          "detail": {"TrainingJobName": f"training-{SPACE}-1", "TrainingJobStatus": "Completed"}},
    "reconcile-jobs": _SCHEDULE,
    "purge-spaces": _SCHEDULE,
    "write-audit-log": _changed(_ENTITY),
    "publish-webhook-events": _changed(_ENTITY),
    "deliver-webhooks": _queued({"unknown": "message"}),
}  # fmt: skip


@pytest.mark.parametrize("spec", EVENTS, ids=lambda spec: spec.name)
def test_an_event_function_starts_and_handles_an_event_of_its_source(
    spec: FunctionSpec, packaged: PackagedFunctions, issuer: Issuer
) -> None:
    event = EVENT_EVENTS[spec.name] if spec.name in EVENT_EVENTS else stream_event(logged_calls(issuer))
    with packaged.running(spec.handler, spec.layers) as function:
        result = function.send(event)
    assert not result.failed, result.value


def logged_calls(issuer: Issuer) -> list[Item]:
    """Returns the rows of a call that the app has logged in the emulated AWS."""
    resources = Resources(settings_for(issuer))
    resources.inference_logs.record(SPACE, call(datetime.now(UTC)))
    table = Table(resources.dynamodb, LOGS_TABLE)
    return [row for shard in range(SHARDS) for row in table.query(f"log#{SPACE}#{shard}")]


def test_a_function_without_its_layer_does_not_start(packaged: PackagedFunctions, tmp_path: Path) -> None:
    # Otherwise the other tests would prove nothing about layers.
    [scoring] = [spec for spec in GROUPS if spec.name == "checkpoints"]
    with packaged.running(scoring.handler, (), snap_start=True) as function:
        result = function.api.results.get(timeout=60)
    assert result.failed
    assert "numpy" in result.value["errorMessage"]
