"""Handles the messages of a stage's dead-letter queues again.

A message about a failed stream batch makes the function read the batch from the stream again. A message with a failed
event invokes the function with the event again. Other messages return to their source queue. A message is deleted only
after success, so a function may receive the same event twice.
"""

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import boto3
from botocore.exceptions import ClientError

STACKS = ("api", "workflows")
# The suffix of a dead-letter queue's construct id.
DEAD_LETTERS = "Failed"
# The CDK appends a hash of this length to each logical id.
HASH_LENGTH = 8
# Hides a message from other receivers for longer than any function runs.
HANDLING_SECONDS = 960
STREAM_HOURS = 24


class RedriveError(Exception):
    """Error raised when a message could not be handled again. The message stays in its queue."""


@dataclass(frozen=True)
class DeadLetterQueue:
    """Dead-letter queue, and the source queue of its messages if there is one."""

    id: str
    url: str
    source_url: str | None


@dataclass
class RedriveOutcome:
    """Result for the messages of a queue: counts by the description of the action, and the reasons of failures."""

    done: dict[str, int] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class RedriveAction:
    """How to handle a message again."""

    description: str
    run: Callable[[], None]


def dead_letter_queues(session: boto3.Session, stage: str) -> list[DeadLetterQueue]:
    """Returns the dead-letter queues of a stage. Raises ClientError for an unknown stage."""
    cloudformation, sqs = session.client("cloudformation"), session.client("sqs")
    urls: dict[str, str] = {}
    for stack in STACKS:
        pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=f"inference-{stage}-{stack}")
        for one in (one for page in pages for one in page["StackResourceSummaries"]):
            if one["ResourceType"] == "AWS::SQS::Queue":
                urls[one["LogicalResourceId"][:-HASH_LENGTH]] = one["PhysicalResourceId"]

    def attributes(url: str) -> dict[str, str]:
        names: list[Any] = ["QueueArn", "RedrivePolicy"]
        found: dict[str, str] = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names).get("Attributes", {})
        return found

    sources = {
        json.loads(policy)["deadLetterTargetArn"]: url
        for url in urls.values()
        if (policy := attributes(url).get("RedrivePolicy"))
    }
    return [
        DeadLetterQueue(name, url, sources.get(attributes(url)["QueueArn"]))
        for name, url in sorted(urls.items())
        if name.endswith(DEAD_LETTERS)
    ]


class Redrive:
    """Handles messages of dead-letter queues again."""

    def __init__(self, session: boto3.Session) -> None:
        self._sqs = session.client("sqs")
        self._lambda = session.client("lambda")
        self._streams = session.client("dynamodbstreams")

    def run(
        self, queue: DeadLetterQueue, *, dry_run: bool = False, report: Callable[[str], None] = print
    ) -> RedriveOutcome:
        """Handles each message of the queue once. ``dry_run`` only counts the actions that would run."""
        outcome = RedriveOutcome()
        expected = self._waiting(queue)
        staying: list[str] = []
        try:
            for message in self._messages(queue):
                staying.append(message["ReceiptHandle"])
                try:
                    action = self._action(message, queue)
                    if not dry_run:
                        action.run()
                        self._sqs.delete_message(QueueUrl=queue.url, ReceiptHandle=staying.pop())
                    outcome.done[action.description] = outcome.done.get(action.description, 0) + 1
                except (RedriveError, ClientError) as error:
                    outcome.failed.append(f"{message['MessageId']}: {error}")
                handled = sum(outcome.done.values()) + len(outcome.failed)
                if handled % 10 == 0:
                    report(f"{queue.id}: {handled} of about {max(expected, handled)}, {len(outcome.failed)} failed")
        finally:
            for receipt in staying:
                self._sqs.change_message_visibility(QueueUrl=queue.url, ReceiptHandle=receipt, VisibilityTimeout=0)
        return outcome

    def _waiting(self, queue: DeadLetterQueue) -> int:
        names: list[Any] = ["ApproximateNumberOfMessages"]
        found = self._sqs.get_queue_attributes(QueueUrl=queue.url, AttributeNames=names)
        return int(found["Attributes"]["ApproximateNumberOfMessages"])

    def _messages(self, queue: DeadLetterQueue) -> Iterator[Any]:
        """Yields each message once, including messages that arrive while others are handled."""
        seen: set[str] = set()
        while batch := self._sqs.receive_message(
            QueueUrl=queue.url,
            MaxNumberOfMessages=10,
            VisibilityTimeout=HANDLING_SECONDS,
            WaitTimeSeconds=1,
            MessageAttributeNames=["All"],
        ).get("Messages"):
            new = [message for message in batch if message["MessageId"] not in seen]
            if not new:
                return
            seen.update(message["MessageId"] for message in new)
            yield from new

    def _action(self, message: Any, queue: DeadLetterQueue) -> RedriveAction:
        body = message["Body"]
        attributes = {name: one.get("StringValue", "") for name, one in message.get("MessageAttributes", {}).items()}
        content = _object(body)
        if "DDBStreamBatchInfo" in content:
            function, batch = content["requestContext"]["functionArn"], content["DDBStreamBatchInfo"]
            return RedriveAction(
                f"read the stream again for {_name(function)}",
                lambda: self._call(function, self._records(function, batch)),
            )
        if "requestPayload" in content:
            function = content["requestContext"]["functionArn"]
            return RedriveAction(
                f"call {_name(function)} again", lambda: self._call(function, content["requestPayload"])
            )
        target = attributes.get("TARGET_ARN", "")
        if ":lambda:" in target:
            return RedriveAction(f"call {_name(target)}", lambda: self._call(target, content))
        if ":sqs:" in target:
            url = self._sqs.get_queue_url(QueueName=target.rpartition(":")[2])["QueueUrl"]
            return RedriveAction("send it to its queue", lambda: self._send(url, body))
        if source := queue.source_url:
            return RedriveAction("send it back to its queue", lambda: self._send(source, body))
        raise RedriveError("the message has no source; inspect it, then delete it")

    def _send(self, url: str, body: str) -> None:
        self._sqs.send_message(QueueUrl=url, MessageBody=body)

    def _call(self, function: str, event: object) -> None:
        """Invokes a function and waits for it. Raises RedriveError with the error of the function."""
        payload = json.dumps(event, default=_event_value)
        response = self._lambda.invoke(
            FunctionName=function, InvocationType="RequestResponse", Payload=payload.encode()
        )
        if response.get("FunctionError"):
            raise RedriveError(f"{_name(function)} failed again: {response['Payload'].read().decode()[:500]}")

    def _records(self, function: str, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """Returns the records of a batch that pass the function's filters. Raises RedriveError if they expired."""
        stream, last = batch["streamArn"], int(batch["endSequenceNumber"])
        patterns = self._patterns(function, stream)
        found: list[Any] = []
        try:
            iterator: str | None = self._streams.get_shard_iterator(
                StreamArn=stream,
                ShardId=batch["shardId"],
                ShardIteratorType="AT_SEQUENCE_NUMBER",
                SequenceNumber=batch["startSequenceNumber"],
            )["ShardIterator"]
            while iterator:
                page = self._streams.get_records(ShardIterator=iterator)
                within = [one for one in page["Records"] if int(one["dynamodb"]["SequenceNumber"]) <= last]
                found += [{**one, "eventSourceARN": stream} for one in within]
                iterator = page.get("NextShardIterator")
                if not page["Records"] or int(page["Records"][-1]["dynamodb"]["SequenceNumber"]) >= last:
                    break
        except ClientError as error:
            if error.response["Error"]["Code"] != "TrimmedDataAccessException":
                raise
            raise RedriveError(
                f"its records are older than the {STREAM_HOURS} hours that a stream keeps; "
                "see docs/runbooks/events-left-over.md"
            ) from None
        return {"Records": [one for one in found if not patterns or any(accepts(each, one) for each in patterns)]}

    def _patterns(self, function: str, stream: str) -> list[Any]:
        mappings = self._lambda.list_event_source_mappings(FunctionName=function, EventSourceArn=stream)
        return [
            json.loads(one["Pattern"])
            for mapping in mappings["EventSourceMappings"]
            for one in mapping.get("FilterCriteria", {}).get("Filters", [])
        ]


def accepts(pattern: Any, value: Any) -> bool:
    """Returns whether an event passes a filter of EventBridge.

    Supports the rules equal, ``prefix`` and ``exists``. Raises ValueError for other rules.
    """
    if isinstance(pattern, dict):
        held = value if isinstance(value, dict) else {}
        return all(accepts(rule, held.get(name)) for name, rule in pattern.items())
    return any(_passes(rule, value) for rule in pattern)


def _passes(rule: Any, value: Any) -> bool:
    match rule:
        case {"exists": bool(wanted)}:
            return (value is not None) is wanted
        case {"prefix": str(start)}:
            return isinstance(value, str) and value.startswith(start)
        case dict():
            raise ValueError(f"the filter {rule} is not supported")
    return bool(value == rule)


def _object(body: str) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _event_value(value: object) -> object:
    # Lambda's events hold times as seconds and bytes as base64.
    if isinstance(value, datetime):
        return value.timestamp()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"{value!r} has no JSON form")


def _name(function_arn: str) -> str:
    return function_arn.split(":function:")[-1].split(":")[0]
