"""Sends what jobs print to CloudWatch Logs, as SageMaker does: one stream for each machine of a job."""

import contextlib
import logging
import time
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

logger = logging.getLogger(__name__)

LOG_GROUP = "/aws/sagemaker/TrainingJobs"
# CloudWatch accepts more in one call.
MAX_EVENTS = 1000
MAX_LINE_BYTES = 1000


class LogStream:
    """The stream of one machine. What can't be sent now is sent later, and never stops the job."""

    def __init__(self, client: Any, job_name: str, file: Path) -> None:
        self._client = client
        self._name = f"{job_name}/algo-1-{int(time.time())}"
        self._file = file
        # A job that was interrupted writes behind its earlier lines.
        self._sent = file.stat().st_size if file.exists() else 0
        self._exists = False

    def send(self, *, all_lines: bool = False) -> None:
        """Sends the new whole lines, and with ``all_lines`` also a last one without an end."""
        try:
            while self._send_some(all_lines=all_lines):
                pass
        except (ClientError, BotoCoreError):
            logger.warning("The log of %s was not sent yet", self._name, exc_info=True)

    def _send_some(self, *, all_lines: bool) -> bool:
        with self._file.open("rb") as file:
            file.seek(self._sent)
            lines = [line for line, _ in zip(file, range(MAX_EVENTS), strict=False)]
        if lines and not lines[-1].endswith(b"\n") and not all_lines:
            lines.pop()
        if not lines:
            return False
        self._create()
        now = round(time.time() * 1000)
        texts = [line.rstrip(b"\n")[:MAX_LINE_BYTES].decode(errors="replace") or " " for line in lines]
        events = [{"timestamp": now, "message": text} for text in texts]
        self._client.put_log_events(logGroupName=LOG_GROUP, logStreamName=self._name, logEvents=events)
        self._sent += sum(map(len, lines))
        return True

    def _create(self) -> None:
        if self._exists:
            return
        exists = self._client.exceptions.ResourceAlreadyExistsException
        with contextlib.suppress(exists):
            self._client.create_log_group(logGroupName=LOG_GROUP)
        with contextlib.suppress(exists):
            self._client.create_log_stream(logGroupName=LOG_GROUP, logStreamName=self._name)
        self._exists = True
