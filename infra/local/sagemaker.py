"""A SageMaker endpoint for the local stack: the emulator has none.

Speaks what boto3 speaks (AWS JSON 1.1): CreateTrainingJob, DescribeTrainingJob, StopTrainingJob, ListTrainingJobs.
Run as ``python -m infra.local.sagemaker``; configured by the environment:

- ``SAGEMAKER_PORT``, ``SAGEMAKER_DIRECTORY``: where it listens (127.0.0.1) and keeps its jobs
- ``SAGEMAKER_SLOTS``: jobs that run at once (default: half the processors); others wait
- ``SAGEMAKER_STOP_GRACE_SECONDS``: time between SIGTERM and SIGKILL (default 120, as in AWS)
- ``SAGEMAKER_JOB_ENVIRONMENT``: JSON object of variables that every job gets
- ``AWS_ENDPOINT_URL``: the emulator, for S3 and EventBridge

Fault tests plan what goes wrong with ``POST /_local/faults {kind, job_name_prefix?, instance_type?, count?}`` (see
``FaultKind``) and take it back with ``DELETE /_local/faults``. ``GET /_local/health`` answers when it is ready.
"""

import json
import logging
import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from infra.local.training_jobs import Fault, FaultKind, SageMakerError, TrainingJobs

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 4_000_000


class SageMakerServer(ThreadingHTTPServer):
    """The HTTP server around the jobs."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, port: int, jobs: TrainingJobs) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.jobs = jobs
        self.operations = {
            "CreateTrainingJob": jobs.create,
            "DescribeTrainingJob": jobs.describe,
            "StopTrainingJob": jobs.stop,
            "ListTrainingJobs": jobs.list_jobs,
        }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60
    server: SageMakerServer

    def do_GET(self) -> None:
        if self.path == "/_local/health":
            self._answer(200, {"status": "ok"})
        else:
            self._answer(404, {"message": f"no such path: {self.path}"})

    def do_DELETE(self) -> None:
        if self.path == "/_local/faults":
            self.server.jobs.clear_faults()
            self._answer(200, {})
        else:
            self._answer(404, {"message": f"no such path: {self.path}"})

    def do_POST(self) -> None:
        try:
            body = self._body()
            if self.path == "/_local/faults":
                self.server.jobs.plan(_fault(body))
                self._answer(200, {})
                return
            operation = self.headers.get("X-Amz-Target", "").removeprefix("SageMaker.")
            if operation not in self.server.operations:
                raise SageMakerError(
                    "UnknownOperationException",
                    f"the local SageMaker endpoint does not know {operation!r}; it knows "
                    f"{', '.join(self.server.operations)}",
                )
            self._answer(200, self.server.operations[operation](body))
        except SageMakerError as error:
            self._answer(400, {"__type": error.code, "message": error.message})
        except Exception:
            # The edge of the server: the client gets what AWS would answer, the log the reason.
            logger.exception("%s failed", self.headers.get("X-Amz-Target", self.path))
            self._answer(500, {"__type": "InternalFailure", "message": "see the log of the local SageMaker endpoint"})

    def _body(self) -> dict[str, Any]:
        try:
            length = int(self.headers.get("Content-Length", "0"))
        except ValueError:
            length = -1
        if not 0 <= length <= MAX_BODY_BYTES:
            self.close_connection = True
            raise SageMakerError("ValidationException", f"a request has at most {MAX_BODY_BYTES} bytes")
        try:
            body = json.loads(self.rfile.read(length) or b"{}")
        except ValueError:
            raise SageMakerError("SerializationException", "the body is not JSON") from None
        if not isinstance(body, dict):
            raise SageMakerError("SerializationException", "the body is not a JSON object")
        return body

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
        logger.debug(format, *arguments)


def _fault(body: dict[str, Any]) -> Fault:
    try:
        return Fault(
            kind=FaultKind(body["kind"]),
            job_name_prefix=str(body.get("job_name_prefix", "")),
            instance_type=body.get("instance_type"),
            count=int(body.get("count", 1)),
        )
    except (KeyError, ValueError) as error:
        kinds = ", ".join(FaultKind)
        raise SageMakerError("ValidationException", f"not a fault ({error}); kind is one of {kinds}") from None


def main() -> None:
    """Serves until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    region = os.environ.get("AWS_REGION", "us-east-1")
    config = Config(retries={"max_attempts": 5, "mode": "standard"}, max_pool_connections=20)
    s3 = boto3.client("s3", region_name=region, config=config)
    events: Any = boto3.client("events", region_name=region, config=config)

    def publish(entry: dict[str, Any]) -> None:
        try:
            answer = events.put_events(Entries=[entry])
            if answer["FailedEntryCount"]:
                logger.error("EventBridge refused a job's event: %s", answer["Entries"])
        except (ClientError, BotoCoreError):
            # As in AWS, an event that cannot be delivered never changes the job itself.
            logger.exception("a job's event was not delivered")

    jobs = TrainingJobs(
        Path(os.environ["SAGEMAKER_DIRECTORY"]),
        s3=s3,
        publish=publish,
        region=region,
        slots=int(os.environ.get("SAGEMAKER_SLOTS") or max(1, (os.cpu_count() or 2) // 2)),
        stop_grace_seconds=float(os.environ.get("SAGEMAKER_STOP_GRACE_SECONDS", "120")),
        environment=json.loads(os.environ.get("SAGEMAKER_JOB_ENVIRONMENT", "{}")),
    )
    server = SageMakerServer(int(os.environ["SAGEMAKER_PORT"]), jobs)
    for number in (signal.SIGTERM, signal.SIGINT):
        # shutdown() waits for serve_forever, which this thread runs: it needs a thread of its own.
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    try:
        server.serve_forever()
    finally:
        jobs.close()
        server.server_close()


if __name__ == "__main__":
    main()
