"""Runs ministack with additions: ``python -m infra.local.emulator``. Ministack's environment variables configure it.

The additions replace private names of ministack, so its version is pinned, and tests/unit/local checks these names.

- Step Functions: ``sagemaker:createTrainingJob[.sync]`` and ``createProcessingJob[.sync]`` call the endpoint of
  ``AWS_ENDPOINT_URL_SAGEMAKER``.
- EventBridge accepts events with the source ``aws.sagemaker``.
- CloudFormation returns the attribute ``ProviderURL`` of a user pool.
- Lambda: the error of a Python function has the name of its class, because workflows match errors by name.
- IAM evaluates ``dynamodb:LeadingKeys``. A call without keys meets every condition on them. IAM treats the loopback
  connection as TLS and logs the calls that it refuses. Functions act with their roles; AWS services, state machines and
  SageMaker jobs act as the account's owner.
- The emulator saves its state every ``SAVE_SECONDS``, not only at a clean end. A crash therefore loses at most the
  writes of that time, and no part of a transaction.
"""

import asyncio
import functools
import json
import logging
import string
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Literal

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from shared.aws.leading_keys import table_accesses

CREATE_TRAINING_JOB = "arn:aws:states:::sagemaker:createTrainingJob"
CREATE_PROCESSING_JOB = "arn:aws:states:::sagemaker:createProcessingJob"
POLL_SECONDS = 0.1
SAVE_SECONDS = 20.0
# Step Functions has a name for each of these errors, and one name for all others.
_NAMED_ERRORS = {
    "ResourceLimitExceeded": "SageMaker.ResourceLimitExceededException",
    "ResourceInUse": "SageMaker.ResourceInUseException",
    "ResourceNotFound": "SageMaker.ResourceNotFoundException",
}

logger = logging.getLogger("iam")

LEADING_KEYS = "dynamodb:LeadingKeys"

TaskHandler = Callable[[str, dict[str, Any]], dict[str, Any]]
# The functions that read the state of each service.
States = dict[str, Callable[[], Any]]


def job_task(
    client: Callable[[], Any],
    failure: Callable[[str, str], Exception],
    *,
    kind: Literal["Training", "Processing"] = "Training",
    poll_seconds: float = POLL_SECONDS,
) -> TaskHandler:
    """Returns a handler of tasks that create a job, which creates the job and, with ``.sync``, waits for its end.

    ``failure(error, cause)`` makes the exception that fails the task. A refused call has the error's name in Step
    Functions. A failed or stopped job has ``States.TaskFailed``, with the description of the job as the cause.
    """

    def run(resource: str, parameters: dict[str, Any]) -> dict[str, Any]:
        sagemaker = client()
        try:
            created = getattr(sagemaker, f"create_{kind.lower()}_job")(**parameters)
            if not resource.endswith(".sync"):
                return {f"{kind}JobArn": created[f"{kind}JobArn"]}
            name = {f"{kind}JobName": parameters[f"{kind}JobName"]}
            while True:
                description = getattr(sagemaker, f"describe_{kind.lower()}_job")(**name)
                if description[f"{kind}JobStatus"] in ("Completed", "Failed", "Stopped"):
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
        # Step Functions returns times as epoch milliseconds.
        result: dict[str, Any] = json.loads(json.dumps(description, default=lambda at: round(at.timestamp() * 1000)))
        if result[f"{kind}JobStatus"] != "Completed":
            raise failure("States.TaskFailed", json.dumps(result))
        return result

    return run


def with_aws_source(put_events: Callable[..., Any], source: str) -> Callable[..., Any]:
    """Wraps ``put_events`` of the emulator, which then also accepts one source of AWS."""

    def put(data: dict[str, Any], *, allow_aws_source: bool = False) -> Any:
        is_allowed = {str(entry.get("Source", "")) for entry in data.get("Entries", [])} == {source}
        return put_events(data, allow_aws_source=allow_aws_source or is_allowed)

    return put


def with_provider_url(attributes: Callable[[str], dict[str, Any]]) -> Callable[[str], dict[str, Any]]:
    """Wraps ``attributes`` of a user pool, which then also contain the URL of the issuer."""

    def complete(pool_id: str) -> dict[str, Any]:
        found = attributes(pool_id)
        return {**found, "ProviderURL": f"https://{found['ProviderName']}"}

    return complete


def with_confirmed_users(sign_up: Callable[..., dict[str, bool]]) -> Callable[..., dict[str, bool]]:
    """Wraps what decides about a sign-up at a user pool. It confirms every user, because no mail brings a code here."""

    def decide(*arguments: Any, **options: Any) -> dict[str, bool]:
        return {**sign_up(*arguments, **options), "autoConfirmUser": True, "autoVerifyEmail": True}

    return decide


def with_error_class(execute: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Wraps ``execute`` of a Python function. Errors then have the name of their class, as in AWS."""

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
    """Wraps the condition context of a call to DynamoDB and adds the whole call, for ``with_aws_rules``."""

    def complete(body: bytes) -> dict[str, Any]:
        return {**context(body), LEADING_KEYS: json.loads(body or b"{}")}

    return complete


def with_aws_rules(enforce: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps ``enforce`` of the emulator: adds the leading keys of calls to DynamoDB and logs refused calls.

    The emulator checks a call for each table, and a transaction for each action. The leading keys are therefore the
    partition keys that one action accesses in one table. SQS has no separate actions for batches. The ``Ref`` of a
    secret is its name in the emulator, and so are the resources of policies; in AWS it is the ARN. Of a log stream, the
    emulator names the group alone, so each stream is taken for one of a training.
    """

    def enforce_as_aws(
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
        elif service == "secretsmanager":
            resource_arn = resource_arn.rpartition(":secret:")[2].rpartition("-")[0]
        elif action == "logs:GetLogEvents":
            resource_arn = f"{resource_arn}:log-stream:training-"
        refusal = enforce(access_key_id, action, service, region, resource_arn, service_context)
        if refusal is not None:
            logger.warning("refused %s on %s: %s", action, resource_arn, refusal)
        return refusal

    return enforce_as_aws


class StateSaver:
    """Saves one state at a time, because saves write the same files. Nothing is saved after the final save."""

    def __init__(self, save_all: Callable[[States], None]) -> None:
        self._save_all = save_all
        self._lock = threading.Lock()
        self._has_ended = False

    def save_finally(self, states: States) -> None:
        with self._lock:
            self._has_ended = True
            self._save_all(states)

    def save(self, states: States) -> None:
        with self._lock:
            if not self._has_ended:
                self._save_all(states)


def read_states(states: States) -> States:
    """Reads all states now. The result returns the same values, or raises the same errors, when it is called."""
    values: dict[str, Future[Any]] = {name: Future() for name in states}
    for name, read in states.items():
        try:
            values[name].set_result(read())
        except Exception as error:  # noqa: BLE001 - the emulator logs the error and saves the state the next time
            values[name].set_exception(error)
    return {name: value.result for name, value in values.items()}


def with_regular_saves(
    load: Callable[[], None], states: Callable[[], States], save: Callable[[States], None], seconds: float
) -> Callable[[], None]:
    """Wraps ``load``, after which ``save`` runs regularly. A save before it would overwrite the stored state.

    The thread that serves requests reads the state between two requests.
    """
    tasks = set()

    async def forever() -> None:
        while True:
            await asyncio.sleep(seconds)
            await asyncio.to_thread(save, read_states(states()))

    def load_then_save() -> None:
        load()
        tasks.add(asyncio.get_running_loop().create_task(forever(), name="save-state"))

    return load_then_save


def with_streams_from_start(load: Callable[[], None], positions: dict[Any, Any]) -> Callable[[], None]:
    """Wraps ``load``, after which functions read the tables' streams from the first record.

    The stored positions are wrong after a restart, because the emulator does not store the streams.
    """

    def load_then_forget() -> None:
        load()
        positions.clear()

    return load_then_forget


def without_punctuation(make: Callable[[dict[str, Any]], str]) -> Callable[[dict[str, Any]], str]:
    """Wraps the maker of a template's secrets, which ignores ``ExcludePunctuation``. Our keys are base64."""

    def make_secret(properties: dict[str, Any]) -> str:
        generated = properties.get("GenerateSecretString") or {}
        if generated.get("ExcludePunctuation"):
            excluded = generated.get("ExcludeCharacters", "") + string.punctuation
            properties = {**properties, "GenerateSecretString": {**generated, "ExcludeCharacters": excluded}}
        return make(properties)

    return make_secret


def install() -> None:
    """Installs the additions. Call this function before ministack starts."""
    from ministack import app
    from ministack.core import iam_actions, iam_evaluator
    from ministack.services import cognito, eventbridge, lambda_svc, stepfunctions
    from ministack.services.cloudformation import provisioners

    @functools.cache
    def sagemaker() -> Any:
        return boto3.client("sagemaker", config=Config(retries={"max_attempts": 2, "mode": "standard"}))

    stepfunctions._SERVICE_DISPATCH |= {
        CREATE_TRAINING_JOB: job_task(sagemaker, stepfunctions._ExecutionError),
        CREATE_PROCESSING_JOB: job_task(sagemaker, stepfunctions._ExecutionError, kind="Processing"),
    }
    eventbridge._put_events = with_aws_source(eventbridge._put_events, "aws.sagemaker")
    lambda_svc._execute_function_warm = with_error_class(lambda_svc._execute_function_warm)
    iam_actions.dynamodb_service_context = with_request(iam_actions.dynamodb_service_context)
    cognito._apply_presignup_trigger = with_confirmed_users(cognito._apply_presignup_trigger)
    iam_evaluator.enforce = with_aws_rules(iam_evaluator.enforce)
    app.pin_request_origin = lambda address, _: iam_evaluator.pin_request_origin(address, True)
    # Each save would log about twenty files.
    logging.getLogger("persistence").setLevel(logging.WARNING)
    load = with_streams_from_start(app._load_persisted_state, lambda_svc._dynamodb_stream_positions._data)
    saver = StateSaver(app.save_all)
    app.save_all = saver.save_finally
    app._load_persisted_state = with_regular_saves(load, app._build_persistence_save_dict, saver.save, SAVE_SECONDS)
    provisioners._sm_secret_string = without_punctuation(provisioners._sm_secret_string)
    provisioners._cognito_user_pool_attributes = with_provider_url(provisioners._cognito_user_pool_attributes)


def main() -> None:
    """Serves until SIGTERM."""
    install()
    from ministack.app import main as serve

    serve()


if __name__ == "__main__":
    main()
