"""Reads what a training's SageMaker jobs print, from CloudWatch Logs.

SageMaker writes a stream for each machine of a job: ``<job name>/algo-<number>-<time>``. A training has several jobs if
AWS had no machine for the first one, or took the machine back. They follow one another, and the machines of one job are
read side by side.
"""

import base64
import binascii
import json
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from shared.errors import InvalidCursorError
from shared.models.training_log import LogLine, TrainingLog

LOG_GROUP = "/aws/sagemaker/TrainingJobs"
MAX_CHARACTERS = 4_000
# CloudWatch may return less than there is, even nothing. Only an unchanged token is the end.
MAX_CALLS = 5


class JobLogs:
    """The log lines of the jobs whose names begin with a prefix and a number."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def read(self, prefix: str, after: str, limit: int) -> TrainingLog:
        """Returns the lines after a cursor, or the first ones. Raises InvalidCursorError."""
        number, tokens = _decoded(after) if after else (0, {})
        lines: list[LogLine] = []
        is_end = True
        for each, machines in self._machines(prefix):
            if each < number:
                continue
            number, tokens = each, tokens if each == number else {}
            for machine in machines:
                found, tokens[machine], ended = self._read(
                    f"{prefix}-{number}/{machine}", tokens.get(machine), limit - len(lines)
                )
                lines += found
                is_end = is_end and ended
                if len(lines) == limit:
                    return TrainingLog(data=lines, next=_encoded(number, tokens), has_more=True)
            if not is_end:
                break
        return TrainingLog(data=lines, next=_encoded(number, tokens) if number else "", has_more=not is_end)

    def _machines(self, prefix: str) -> list[tuple[int, list[str]]]:
        """Returns the number of each job with the streams of its machines, in the order of the numbers."""
        pages = self._client.get_paginator("describe_log_streams").paginate(
            logGroupName=LOG_GROUP, logStreamNamePrefix=f"{prefix}-"
        )
        found: dict[int, list[str]] = {}
        try:
            for stream in (stream for page in pages for stream in page["logStreams"]):
                number, _, machine = stream["logStreamName"].removeprefix(f"{prefix}-").partition("/")
                found.setdefault(int(number) if number.isdigit() else 1, []).append(machine)
        except self._client.exceptions.ResourceNotFoundException:  # no job has ever run in this account
            return []
        return sorted((number, sorted(machines)) for number, machines in found.items())

    def _read(self, stream: str, token: str | None, limit: int) -> tuple[list[LogLine], str, bool]:
        """Returns the next lines of a stream, the token that follows them, and whether they are the last ones now."""
        lines: list[LogLine] = []
        for _ in range(MAX_CALLS):
            found, following = self._events(stream, token, limit - len(lines))
            lines += found
            if following == token:
                return lines, following, True
            token = following
            if len(lines) == limit:
                break
        return lines, str(token), False

    def _events(self, stream: str, token: str | None, limit: int) -> tuple[list[LogLine], str]:
        more = {"nextToken": token} if token else {}
        try:
            page = self._client.get_log_events(
                logGroupName=LOG_GROUP, logStreamName=stream, startFromHead=True, limit=limit, **more
            )
        except ClientError as error:
            if error.response["Error"]["Code"] == "InvalidParameterException":
                raise _invalid() from None
            raise
        lines = [
            LogLine(
                at=datetime.fromtimestamp(event["timestamp"] / 1000, UTC),
                machine=stream.rpartition("/")[2].rpartition("-")[0],
                message=_shortened(event["message"]),
            )
            for event in page["events"]
        ]
        return lines, str(page["nextForwardToken"])


def _shortened(message: str) -> str:
    return message if len(message) <= MAX_CHARACTERS else f"{message[:MAX_CHARACTERS]}…"


def _encoded(number: int, tokens: dict[str, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps([number, tokens], separators=(",", ":")).encode()).decode()


def _decoded(cursor: str) -> tuple[int, dict[str, str]]:
    """Returns the number of a job, and how far each stream of it was read."""
    try:
        number, tokens = json.loads(base64.urlsafe_b64decode(cursor.encode()))
    except (ValueError, TypeError, RecursionError, binascii.Error):
        raise _invalid() from None
    are_tokens = isinstance(tokens, dict) and all(isinstance(each, str) for each in tokens.values())
    if type(number) is not int or not are_tokens:
        raise _invalid()
    return number, tokens


def _invalid() -> InvalidCursorError:
    return InvalidCursorError("`after` is not a `next` of this training's log. Leave it out to read from the start.")
