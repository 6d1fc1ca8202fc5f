"""Reads what a training's SageMaker jobs print, from CloudWatch Logs.

SageMaker writes a stream for each machine of a job: ``<job name>/algo-<number>-<time>``. A training has several jobs if
AWS had no machine for the first one, or took the machine back. Their streams follow one another.
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
        stream, token = _decoded(after, prefix) if after else ("", None)
        streams = self._streams(prefix)
        if stream and stream not in streams:
            raise _invalid()
        lines: list[LogLine] = []
        for name in streams[streams.index(stream) if stream else 0 :]:
            token = token if name == stream else None
            stream, is_end = name, False
            for _ in range(MAX_CALLS):
                found, following = self._events(name, token, limit - len(lines))
                lines += found
                is_end = following == token
                token = following
                if is_end or len(lines) == limit:
                    break
            if not is_end:
                return TrainingLog(data=lines, next=_encoded(stream, token), has_more=True)
        return TrainingLog(data=lines, next=_encoded(stream, token) if stream else "", has_more=False)

    def _streams(self, prefix: str) -> list[str]:
        """Returns the names of the streams in the order of the jobs' numbers."""
        pages = self._client.get_paginator("describe_log_streams").paginate(
            logGroupName=LOG_GROUP, logStreamNamePrefix=f"{prefix}-"
        )
        try:
            names = [stream["logStreamName"] for page in pages for stream in page["logStreams"]]
        except self._client.exceptions.ResourceNotFoundException:  # no job has ever run in this account
            return []
        return sorted(names, key=lambda name: (_number(name, prefix), name))

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
            LogLine(at=datetime.fromtimestamp(event["timestamp"] / 1000, UTC), message=_shortened(event["message"]))
            for event in page["events"]
        ]
        return lines, str(page["nextForwardToken"])


def _number(stream: str, prefix: str) -> int:
    number = stream.removeprefix(f"{prefix}-").partition("/")[0]
    return int(number) if number.isdigit() else 0


def _shortened(message: str) -> str:
    return message if len(message) <= MAX_CHARACTERS else f"{message[:MAX_CHARACTERS]}…"


def _encoded(stream: str, token: str | None) -> str:
    return base64.urlsafe_b64encode(json.dumps([stream, token]).encode()).decode()


def _decoded(cursor: str, prefix: str) -> tuple[str, str | None]:
    """Returns the stream and the token of a cursor of this training's."""
    try:
        stream, token = json.loads(base64.urlsafe_b64decode(cursor.encode()))
    except (ValueError, binascii.Error):
        raise _invalid() from None
    if not isinstance(stream, str) or not isinstance(token, str) or not stream.startswith(f"{prefix}-"):
        raise _invalid()
    return stream, token


def _invalid() -> InvalidCursorError:
    return InvalidCursorError("`after` is not a `next` of this training's log. Leave it out to read from the start.")
