"""Tests of the additions to the emulator, and of the private names that they replace."""

import asyncio
import inspect
import json
import threading
import traceback
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from infra.local import emulator
from infra.local.settings import ROOT, LocalError
from shared.webhooks.signature import sign


class TaskFailedError(Exception):
    def __init__(self, error: str, cause: str) -> None:
        super().__init__(error)
        self.error = error
        self.cause = cause


class FakeSageMaker:
    """Fake of SageMaker that returns the statuses one after the other."""

    def __init__(self, *statuses: str, refusal: str | None = None) -> None:
        self.statuses = list(statuses)
        self.refusal = refusal

    def create_training_job(self, **_: Any) -> dict[str, Any]:
        if self.refusal:
            raise ClientError({"Error": {"Code": self.refusal, "Message": "no"}}, "CreateTrainingJob")
        return {"TrainingJobArn": "arn"}

    def describe_training_job(self, TrainingJobName: str) -> dict[str, Any]:  # noqa: N803 - boto3's spelling
        return {
            "TrainingJobName": TrainingJobName,
            "TrainingJobStatus": self.statuses.pop(0),
            "CreationTime": datetime(2026, 1, 1, tzinfo=UTC),
            "ResponseMetadata": {},
        }


def task(sagemaker: FakeSageMaker) -> emulator.TaskHandler:
    return emulator.job_task(lambda: sagemaker, TaskFailedError, poll_seconds=0)


def test_a_synchronous_task_waits_for_the_job_and_returns_its_description() -> None:
    result = task(FakeSageMaker("InProgress", "InProgress", "Completed"))(
        f"{emulator.CREATE_TRAINING_JOB}.sync", {"TrainingJobName": "a"}
    )

    assert result == {"TrainingJobName": "a", "TrainingJobStatus": "Completed", "CreationTime": 1767225600000}


def test_a_plain_task_does_not_wait() -> None:
    assert task(FakeSageMaker())(emulator.CREATE_TRAINING_JOB, {"TrainingJobName": "a"}) == {"TrainingJobArn": "arn"}


@pytest.mark.parametrize("status", ["Failed", "Stopped"])
def test_a_job_that_does_not_complete_fails_the_task_with_its_description(status: str) -> None:
    with pytest.raises(TaskFailedError) as caught:
        task(FakeSageMaker(status))(f"{emulator.CREATE_TRAINING_JOB}.sync", {"TrainingJobName": "a"})

    assert caught.value.error == "States.TaskFailed"
    assert json.loads(caught.value.cause)["TrainingJobStatus"] == status


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("ResourceLimitExceeded", "SageMaker.ResourceLimitExceededException"),
        ("ThrottlingException", "SageMaker.AmazonSageMakerException"),
    ],
)
def test_a_refused_job_fails_the_task_with_the_error_name_of_step_functions(code: str, error: str) -> None:
    with pytest.raises(TaskFailedError) as caught:
        task(FakeSageMaker(refusal=code))(f"{emulator.CREATE_TRAINING_JOB}.sync", {"TrainingJobName": "a"})

    assert caught.value.error == error
    assert code in caught.value.cause


def test_only_sagemaker_events_are_accepted_as_events_of_aws() -> None:
    def put_events(data: dict[str, Any], allow_aws_source: bool = False) -> bool:
        return allow_aws_source

    put = emulator.with_aws_source(put_events, "aws.sagemaker")

    assert put({"Entries": [{"Source": "aws.sagemaker"}]})
    assert not put({"Entries": [{"Source": "aws.sagemaker"}, {"Source": "aws.s3"}]})
    assert not put({"Entries": [{"Source": "ours"}]})
    assert put({"Entries": [{"Source": "aws.states"}]}, allow_aws_source=True)


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (ValueError("no: column\n\nin two lines"), "ValueError"),
        (LocalError("own class"), "LocalError"),
        (KeyError("x"), "KeyError"),
        (RuntimeError(), "RuntimeError"),
    ],
)
def test_the_error_of_a_function_has_the_name_of_its_class(error: Exception, name: str) -> None:
    def execute() -> dict[str, Any]:
        try:
            raise error
        except Exception as caught:  # noqa: BLE001 - as the emulator's worker does
            log = "printed: before\n" + traceback.format_exc()
            return {
                "error": True,
                "body": {"errorMessage": str(caught), "errorType": "Runtime.HandlerError"},
                "log": log,
            }

    assert emulator.with_error_class(execute)()["body"] == {"errorMessage": str(error), "errorType": name}


def test_other_results_of_functions_do_not_change() -> None:
    for result in (
        {"body": {"errorType": "Runtime.HandlerError"}},
        {"body": None, "log": "x"},
        {"error": True, "body": {"errorMessage": "m", "errorType": "Sandbox.Timedout"}, "log": "E: m"},
        {"error": True, "body": {"errorMessage": "m", "errorType": "Runtime.HandlerError"}, "log": ""},
    ):
        assert emulator.with_error_class(lambda result=result: result)() == result


TABLE = "arn:aws:dynamodb:us-east-1:000000000000:table/entities"


def leading_keys(
    action: str, request: dict[str, Any], table: str = TABLE, context: dict[str, Any] | None = None
) -> list[str] | None:
    """Returns the leading keys with which IAM evaluates the conditions on a call."""

    def enforce(*arguments: Any) -> list[str] | None:
        keys: list[str] | None = arguments[-1][emulator.LEADING_KEYS]
        return keys

    service_context = emulator.with_request(lambda _: context or {})(json.dumps(request).encode())
    call = ("key", action, "dynamodb", "us-east-1", table, service_context)
    keys: list[str] | None = emulator.with_aws_rules(enforce)(*call)
    return keys


def item(partition: str) -> dict[str, Any]:
    return {"PK": {"S": partition}, "SK": {"S": "1"}}


def test_iam_knows_the_partition_keys_that_a_call_accesses_in_a_table() -> None:
    assert leading_keys("dynamodb:GetItem", {"TableName": "entities", "Key": item("a#1")}) == ["a#1"]
    assert leading_keys("dynamodb:PutItem", {"TableName": "entities", "Item": item("a#1")}) == ["a#1"]
    query = {"KeyConditionExpression": "#n0 = :v0 AND #n1 > :v1", "ExpressionAttributeValues": {":v0": {"S": "a#1"}}}
    assert leading_keys("dynamodb:Query", {"TableName": "entities", **query}, f"{TABLE}/index/by_user") == ["a#1"]
    keys = {"entities": {"Keys": [item("a#1"), item("b#1")]}, "logs": {"Keys": [item("c#1")]}}
    assert leading_keys("dynamodb:BatchGetItem", {"RequestItems": keys}) == ["a#1", "b#1"]
    writes = [{"PutRequest": {"Item": item("a#1")}}, {"DeleteRequest": {"Key": item("b#1")}}]
    assert leading_keys("dynamodb:BatchWriteItem", {"RequestItems": {"entities": writes}}) == ["a#1", "b#1"]
    assert leading_keys("dynamodb:Scan", {"TableName": "entities"}) is None


def test_iam_checks_each_action_of_a_transaction_with_its_own_partition_keys() -> None:
    def part(action: str, **what: Any) -> dict[str, Any]:
        return {action: {"TableName": "entities", **what}}

    parts = [part("Put", Item=item("a#1")), part("ConditionCheck", Key=item("b#1")), part("Put", Item=item("c#1"))]
    enclosing = {"dynamodb:EnclosingOperation": ["TransactWriteItems"]}
    request = {"TransactItems": parts}
    assert leading_keys("dynamodb:PutItem", request, context=enclosing) == ["a#1", "c#1"]
    assert leading_keys("dynamodb:ConditionCheckItem", request, context=enclosing) == ["b#1"]


def test_iam_checks_a_batch_of_messages_like_a_single_message() -> None:
    enforce = emulator.with_aws_rules(lambda *arguments: arguments[1])
    assert enforce("key", "sqs:SendMessageBatch", "sqs", "us-east-1") == "sqs:SendMessage"


def test_iam_compares_secrets_by_name() -> None:
    """The emulator's templates put the name of a secret where AWS's put its ARN."""
    enforce = emulator.with_aws_rules(lambda *arguments: arguments[4])
    arn = "arn:aws:secretsmanager:us-east-1:000000000000:secret:key-of-ids-9cbc12"
    assert enforce("key", "secretsmanager:GetSecretValue", "secretsmanager", "us-east-1", arn) == "key-of-ids"


def test_the_pinned_emulator_has_the_names_that_the_additions_replace() -> None:
    from ministack import app
    from ministack.core import iam_actions, iam_evaluator
    from ministack.services import eventbridge, lambda_svc, stepfunctions
    from ministack.services.cloudformation import provisioners

    assert f'"ministack=={version("ministack")}"' in (Path(ROOT) / "pyproject.toml").read_text()
    assert callable(app.save_all)
    assert callable(app.pin_request_origin)
    assert callable(iam_actions.dynamodb_service_context)
    assert [*inspect.signature(iam_evaluator.enforce).parameters][4:] == ["resource_arn", "service_context"]
    assert callable(lambda_svc._execute_function_warm)
    assert isinstance(lambda_svc._dynamodb_stream_positions._data, dict)
    assert callable(app._build_persistence_save_dict)
    assert callable(app._load_persisted_state)
    assert callable(provisioners._cognito_user_pool_attributes)
    assert [*inspect.signature(provisioners._sm_secret_string).parameters] == ["props"]
    assert isinstance(stepfunctions._SERVICE_DISPATCH, dict)
    assert emulator.CREATE_TRAINING_JOB not in stepfunctions._SERVICE_DISPATCH
    raised = stepfunctions._ExecutionError("name", "reason")
    assert (raised.error, raised.cause) == ("name", "reason")
    refused = json.loads(eventbridge._put_events({"Entries": [{"Source": "aws.sagemaker"}]})[2])
    assert refused["Entries"][0]["ErrorCode"] == "NotAuthorizedForSourceException"


def test_a_secret_without_punctuation_signs_the_progress_of_jobs() -> None:
    from ministack.services.cloudformation import provisioners

    make = emulator.without_punctuation(provisioners._sm_secret_string)
    secret = make({"GenerateSecretString": {"PasswordLength": 64, "ExcludePunctuation": True}})
    assert sign(secret, "check", datetime.now(UTC), b"")
    assert make({"SecretString": "given!"}) == "given!"


def test_state_is_saved_regularly_but_not_before_it_is_loaded() -> None:
    events: list[Any] = []

    def broken() -> None:
        raise RuntimeError

    def states() -> emulator.States:
        return {"counter": lambda: len(events), "broken": broken}

    async def serve() -> None:
        emulator.with_regular_saves(lambda: events.append("load"), states, save, 0.001)()
        while len(events) < 3:
            await asyncio.sleep(0.01)

    def save(found: emulator.States) -> None:
        with pytest.raises(RuntimeError):
            found["broken"]()
        events.append(found["counter"]())

    asyncio.run(asyncio.wait_for(serve(), 10))
    assert events[:3] == ["load", 1, 2]


def test_the_final_save_waits_for_a_running_save_and_is_the_last() -> None:
    started, may_end, saved = threading.Event(), threading.Event(), []

    def save_all(states: emulator.States) -> None:
        started.set()
        assert may_end.wait(10)
        saved.append(states["name"]())

    saver = emulator.StateSaver(save_all)
    early = threading.Thread(target=saver.save, args=({"name": lambda: "early"},))
    last = threading.Thread(target=saver.save_finally, args=({"name": lambda: "last"},))
    early.start()
    assert started.wait(10)
    last.start()
    may_end.set()
    for thread in (early, last):
        thread.join(10)
    saver.save({"name": lambda: "late"})
    assert saved == ["early", "last"]


def test_streams_are_read_from_the_start_after_the_state_is_loaded() -> None:
    positions: dict[str, int] = {}
    emulator.with_streams_from_start(lambda: positions.update(mapping=400), positions)()
    assert positions == {}
