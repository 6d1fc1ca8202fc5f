"""Does again what waits in a stage's dead-letter queues: each message goes back to where it came from.

What a message tells decides: a record of a stream that failed is read from the stream once more and handed to its
function; an event that a function was called with is handed to it again; all else is sent back to the queue it fell
out of. A message is deleted only once that worked, and everything that is called may be called twice.
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
# How the stacks name the queues that only failures go to.
DEAD_LETTERS = "Failed"
# CloudFormation's own end of a logical id.
HASH_LENGTH = 8
# For how long nobody else gets a message that is being handled: longer than any function takes.
HANDLING_SECONDS = 960
STREAM_HOURS = 24


class RedriveError(Exception):
    """A message could not be done again; it stays where it is."""


@dataclass(frozen=True)
class DeadLetterQueue:
    """A queue of failures, and the queue they fell out of, if it was one."""

    id: str
    url: str
    source_url: str | None


@dataclass
class Outcome:
    """What came of a queue's messages: what was done again, by what was done, and why others could not be."""

    done: dict[str, int] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Action:
    """What doing a message again means."""

    says: str
    run: Callable[[], None]


def dead_letter_queues(session: boto3.Session, stage: str) -> list[DeadLetterQueue]:
    """The stage's queues of failures, whether or not something is in them. Raises ClientError for an unknown stage."""
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
    """Does the messages of dead-letter queues again."""

    def __init__(self, session: boto3.Session) -> None:
        self._sqs = session.client("sqs")
        self._lambda = session.client("lambda")
        self._streams = session.client("dynamodbstreams")

    def run(self, queue: DeadLetterQueue, *, dry_run: bool = False, say: Callable[[str], None] = print) -> Outcome:
        """Every message that is there now, once; with ``dry_run`` it is only said what would be done."""
        outcome = Outcome()
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
                    outcome.done[action.says] = outcome.done.get(action.says, 0) + 1
                except (RedriveError, ClientError) as error:
                    outcome.failed.append(f"{message['MessageId']}: {error}")
                handled = sum(outcome.done.values()) + len(outcome.failed)
                if handled % 10 == 0:
                    say(f"{queue.id}: {handled} of about {max(expected, handled)}, {len(outcome.failed)} failed")
        finally:
            for receipt in staying:
                self._sqs.change_message_visibility(QueueUrl=queue.url, ReceiptHandle=receipt, VisibilityTimeout=0)
        return outcome

    def _waiting(self, queue: DeadLetterQueue) -> int:
        names: list[Any] = ["ApproximateNumberOfMessages"]
        found = self._sqs.get_queue_attributes(QueueUrl=queue.url, AttributeNames=names)
        return int(found["Attributes"]["ApproximateNumberOfMessages"])

    def _messages(self, queue: DeadLetterQueue) -> Iterator[Any]:
        """Each message once: what came while others were handled as well, but nothing a second time."""
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

    def _action(self, message: Any, queue: DeadLetterQueue) -> Action:
        body = message["Body"]
        attributes = {name: one.get("StringValue", "") for name, one in message.get("MessageAttributes", {}).items()}
        content = _object(body)
        if "DDBStreamBatchInfo" in content:
            function, batch = content["requestContext"]["functionArn"], content["DDBStreamBatchInfo"]
            return Action(
                f"read the stream again for {_name(function)}",
                lambda: self._call(function, self._records(function, batch)),
            )
        if "requestPayload" in content:
            function = content["requestContext"]["functionArn"]
            return Action(f"call {_name(function)} again", lambda: self._call(function, content["requestPayload"]))
        target = attributes.get("TARGET_ARN", "")
        if ":lambda:" in target:
            return Action(f"call {_name(target)}", lambda: self._call(target, content))
        if ":sqs:" in target:
            url = self._sqs.get_queue_url(QueueName=target.rpartition(":")[2])["QueueUrl"]
            return Action("send it to its queue", lambda: self._send(url, body))
        if source := queue.source_url:
            return Action("send it back to its queue", lambda: self._send(source, body))
        raise RedriveError("it does not say where it came from; look at it, then delete it")

    def _send(self, url: str, body: str) -> None:
        self._sqs.send_message(QueueUrl=url, MessageBody=body)

    def _call(self, function: str, event: object) -> None:
        """Call a function and wait for it. Raises RedriveError with what it failed of."""
        payload = json.dumps(event, default=_as_in_events)
        answer = self._lambda.invoke(FunctionName=function, InvocationType="RequestResponse", Payload=payload.encode())
        if answer.get("FunctionError"):
            raise RedriveError(f"{_name(function)} failed again: {answer['Payload'].read().decode()[:500]}")

    def _records(self, function: str, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """The records of a batch that the function's filters let through. Raises RedriveError if they are gone."""
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
                "docs/runbooks/events-left-over.md says what is left to do"
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
    """Whether an event passes a filter. Of EventBridge's rules: equal, ``prefix`` and ``exists``; others ValueError."""
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
            raise ValueError(f"the filter {rule} is not understood")
    return bool(value == rule)


def _object(body: str) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _as_in_events(value: object) -> object:
    """Lambda's events hold times as seconds and bytes as base64."""
    if isinstance(value, datetime):
        return value.timestamp()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"no JSON for {value!r}")


def _name(function_arn: str) -> str:
    return function_arn.split(":function:")[-1].split(":")[0]
