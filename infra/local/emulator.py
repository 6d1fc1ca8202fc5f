"""Runs ministack with what it lacks: ``python -m infra.local.emulator``, configured by ministack's own variables.

The hooks reach into private names of ministack, whose version is pinned; tests/unit/local holds them.

- Step Functions' ``sagemaker:createTrainingJob[.sync]`` calls the endpoint of ``AWS_ENDPOINT_URL_SAGEMAKER``.
- EventBridge takes events whose source is ``aws.sagemaker``.
- CloudFormation knows the attribute ``ProviderURL`` of a user pool.
- A Python function's error has the name of its class, by which workflows tell errors apart.
- IAM knows ``dynamodb:LeadingKeys``: without any, each condition on them holds. It takes the loopback for TLS, and logs
  what it refuses. Functions' own calls are held to their roles; what AWS itself does for them, state machines and
  SageMaker's jobs act as the account's owner.
- State is saved every ``SAVE_SECONDS``, not only at a clean end: a crash loses no more than that, and leaves no
  transaction by half.
"""

import asyncio
import functools
import json
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from infra.local.leading_keys import table_accesses

CREATE_TRAINING_JOB = "arn:aws:states:::sagemaker:createTrainingJob"
POLL_SECONDS = 0.5
SAVE_SECONDS = 20.0
# The errors that Step Functions names itself; the others share one name.
_NAMED_ERRORS = {
    "ResourceLimitExceeded": "SageMaker.ResourceLimitExceededException",
    "ResourceInUse": "SageMaker.ResourceInUseException",
    "ResourceNotFound": "SageMaker.ResourceNotFoundException",
}

logger = logging.getLogger("iam")

LEADING_KEYS = "dynamodb:LeadingKeys"

TaskHandler = Callable[[str, dict[str, Any]], dict[str, Any]]
# What each service of the emulator has to save.
States = dict[str, Callable[[], Any]]


def training_job_task(
    client: Callable[[], Any],
    failure: Callable[[str, str], Exception],
    *,
    poll_seconds: float = POLL_SECONDS,
) -> TaskHandler:
    """The handler of a ``createTrainingJob`` task: creates the job and, with ``.sync``, waits for its end.

    ``failure(error, cause)`` makes the exception that fails the task: a refused call under the error's name in Step
    Functions, a job that did not complete as ``States.TaskFailed`` with the job's description as the cause.
    """

    def run(resource: str, parameters: dict[str, Any]) -> dict[str, Any]:
        sagemaker = client()
        try:
            created = sagemaker.create_training_job(**parameters)
            if not resource.endswith(".sync"):
                return {"TrainingJobArn": created["TrainingJobArn"]}
            while True:
                description = sagemaker.describe_training_job(TrainingJobName=parameters["TrainingJobName"])
                if description["TrainingJobStatus"] in ("Completed", "Failed", "Stopped"):
                    break
                time.sleep(poll_seconds)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            cause = (
                f"{error.response['Error']['Message']} (Service: AmazonSageMaker; Status Code: 400; Error Code: {code})"
            )
            raise failure(_NAMED_ERRORS.get(code, "SageMaker.AmazonSageMakerException"), cause) from error
        except BotoCoreError as error:
            raise failure("SageMaker.SdkClientException", str(error)) from error
        description.pop("ResponseMetadata", None)
        # Step Functions hands times over as epoch milliseconds.
        answer: dict[str, Any] = json.loads(json.dumps(description, default=lambda at: round(at.timestamp() * 1000)))
        if answer["TrainingJobStatus"] != "Completed":
            raise failure("States.TaskFailed", json.dumps(answer))
        return answer

    return run


def with_aws_source(put_events: Callable[..., Any], source: str) -> Callable[..., Any]:
    """``put_events`` of the emulator, letting one of AWS's own sources through."""

    def put(data: dict[str, Any], *, allow_aws_source: bool = False) -> Any:
        ours = {str(entry.get("Source", "")) for entry in data.get("Entries", [])} == {source}
        return put_events(data, allow_aws_source=allow_aws_source or ours)

    return put


def with_provider_url(attributes: Callable[[str], dict[str, Any]]) -> Callable[[str], dict[str, Any]]:
    """The attributes of a user pool, with the address of its issuer, which is its name with a scheme."""

    def complete(pool_id: str) -> dict[str, Any]:
        found = attributes(pool_id)
        return {**found, "ProviderURL": f"https://{found['ProviderName']}"}

    return complete


def with_error_class(execute: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """``execute`` of a Python function, the errors named by their class as AWS does: it stands in the traceback."""

    def run(*arguments: Any) -> dict[str, Any]:
        result = execute(*arguments)
        body = result.get("body")
        if result.get("error") and isinstance(body, dict) and body.get("errorType") == "Runtime.HandlerError":
            message = body.get("errorMessage", "")
            raised, found, _ = str(result.get("log", "")).rpartition(f": {message}" if message else "\n")
            name = raised.rpartition("\n")[2].rpartition(".")[2]
            if found and name.isidentifier():
                return {**result, "body": {**body, "errorType": name}}
        return result

    return run


def with_request(context: Callable[[bytes], dict[str, Any]]) -> Callable[[bytes], dict[str, Any]]:
    """What conditions on a call to DynamoDB may name, and the whole call, for ``judging_as_aws``."""

    def complete(body: bytes) -> dict[str, Any]:
        return {**context(body), LEADING_KEYS: json.loads(body or b"{}")}

    return complete


def judging_as_aws(enforce: Callable[..., Any]) -> Callable[..., Any]:
    """``enforce`` of the emulator, with the leading keys of calls to DynamoDB, and what it refuses logged.

    DynamoDB is judged table by table and transactions action by action: the leading keys are the partitions that this
    action touches in this table. SQS knows no action for batches.
    """

    def judge(
        access_key_id: str,
        action: str,
        service: str,
        region: str,
        resource_arn: str = "*",
        service_context: dict[str, Any] | None = None,
    ) -> Any:
        if service == "dynamodb" and service_context:
            [operation] = service_context.get("dynamodb:EnclosingOperation", [action.partition(":")[2]])
            table = resource_arn.partition(":table/")[2].partition("/")[0]
            keys = [
                access.partition
                for access in table_accesses(operation, service_context[LEADING_KEYS])
                if access.table == table and f"dynamodb:{access.action}" == action
            ]
            service_context = {**service_context, LEADING_KEYS: keys or None}
        elif service == "sqs":
            action = action.removesuffix("Batch")
        refusal = enforce(access_key_id, action, service, region, resource_arn, service_context)
        if refusal is not None:
            logger.warning("refused %s on %s: %s", action, resource_arn, refusal)
        return refusal

    return judge


class StateSaver:
    """Saves are made one at a time, for they write the same files; none comes after the one at the end."""

    def __init__(self, save_all: Callable[[States], None]) -> None:
        self._save_all = save_all
        self._lock = threading.Lock()
        self._is_over = False

    def at_end(self, states: States) -> None:
        with self._lock:
            self._is_over = True
            self._save_all(states)

    def meanwhile(self, states: States) -> None:
        with self._lock:
            if not self._is_over:
                self._save_all(states)


def as_of_now(states: States) -> States:
    """What these answer at this moment, or raise: the emulator then says so, and saves it the next time."""
    answers: dict[str, Future[Any]] = {name: Future() for name in states}
    for name, read in states.items():
        try:
            answers[name].set_result(read())
        except Exception as error:  # noqa: BLE001 - its own thread may change it meanwhile
            answers[name].set_exception(error)
    return {name: answer.result for name, answer in answers.items()}


def then_regularly(
    load: Callable[[], None], states: Callable[[], States], save: Callable[[States], None], seconds: float
) -> Callable[[], None]:
    """``load``, after whose end ``save`` runs again and again: never before, when there is nothing yet to save.

    What it saves is read by the thread that answers requests, between two of them.
    """
    tasks = set()

    async def forever() -> None:
        while True:
            await asyncio.sleep(seconds)
            await asyncio.to_thread(save, as_of_now(states()))

    def load_then_save() -> None:
        load()
        tasks.add(asyncio.get_running_loop().create_task(forever(), name="save-state"))

    return load_then_save


def with_streams_from_their_start(load: Callable[[], None], positions: dict[Any, Any]) -> Callable[[], None]:
    """``load``, after which functions read tables' streams from the first record: what came before is not kept.

    Their old places are, and lie far beyond what a stream holds after a restart.
    """

    def load_then_forget() -> None:
        load()
        positions.clear()

    return load_then_forget


def install() -> None:
    """Puts the hooks into ministack; call before it starts."""
    from ministack import app
    from ministack.core import iam_actions, iam_evaluator
    from ministack.services import eventbridge, lambda_svc, stepfunctions
    from ministack.services.cloudformation import provisioners

    @functools.cache
    def sagemaker() -> Any:
        return boto3.client("sagemaker", config=Config(retries={"max_attempts": 2, "mode": "standard"}))

    stepfunctions._SERVICE_DISPATCH[CREATE_TRAINING_JOB] = training_job_task(sagemaker, stepfunctions._ExecutionError)
    eventbridge._put_events = with_aws_source(eventbridge._put_events, "aws.sagemaker")
    lambda_svc._execute_function_warm = with_error_class(lambda_svc._execute_function_warm)
    iam_actions.dynamodb_service_context = with_request(iam_actions.dynamodb_service_context)
    iam_evaluator.enforce = judging_as_aws(iam_evaluator.enforce)
    app.pin_request_origin = lambda address, _: iam_evaluator.pin_request_origin(address, True)
    # Each save would tell of some twenty files.
    logging.getLogger("persistence").setLevel(logging.WARNING)
    load = with_streams_from_their_start(app._load_persisted_state, lambda_svc._dynamodb_stream_positions._data)
    saver = StateSaver(app.save_all)
    app.save_all = saver.at_end
    app._load_persisted_state = then_regularly(load, app._build_persistence_save_dict, saver.meanwhile, SAVE_SECONDS)
    provisioners._cognito_user_pool_attributes = with_provider_url(provisioners._cognito_user_pool_attributes)


def main() -> None:
    """Serves until SIGTERM."""
    install()
    from ministack.app import main as serve

    serve()


if __name__ == "__main__":
    main()
