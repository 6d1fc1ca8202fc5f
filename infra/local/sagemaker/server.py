"""The HTTP server of the endpoint.

It serves boto3's protocol (AWS JSON 1.1): CreateTrainingJob, DescribeTrainingJob, StopTrainingJob, ListTrainingJobs,
CreateProcessingJob, DescribeProcessingJob, StopProcessingJob.
Tests plan faults with ``POST /_local/faults {kind, job_name_prefix?, instance_type?, count?}`` (see ``FaultKind``) and
remove them with ``DELETE /_local/faults``. ``GET /_local/health`` returns 200 when the server is ready.
"""

import json
import logging
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from infra.local.sagemaker.faults import Fault, FaultKind
from infra.local.sagemaker.job import SageMakerError
from infra.local.sagemaker.processing_jobs import EmulatedProcessingJobs
from infra.local.sagemaker.training_jobs import EmulatedTrainingJobs

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 4_000_000


class SageMakerServer(ThreadingHTTPServer):
    """HTTP server of the jobs."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, port: int, jobs: EmulatedTrainingJobs, processing: EmulatedProcessingJobs | None = None) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.jobs = jobs
        self.operations = {
            "CreateTrainingJob": jobs.create,
            "DescribeTrainingJob": jobs.describe,
            "StopTrainingJob": jobs.stop,
            "ListTrainingJobs": jobs.list_jobs,
        }
        if processing is not None:
            self.operations |= {
                "CreateProcessingJob": processing.create,
                "DescribeProcessingJob": processing.describe,
                "StopProcessingJob": processing.stop,
            }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60
    server: SageMakerServer

    def do_GET(self) -> None:
        if self.path == "/_local/health":
            self._respond(200, {"status": "ok"})
        else:
            self._respond(404, {"message": f"no such path: {self.path}"})

    def do_DELETE(self) -> None:
        if self.path == "/_local/faults":
            self.server.jobs.faults.clear()
            self._respond(200, {})
        else:
            self._respond(404, {"message": f"no such path: {self.path}"})

    def do_POST(self) -> None:
        try:
            body = self._read_body()
            if self.path == "/_local/faults":
                self.server.jobs.plan_fault(_fault(body))
                self._respond(200, {})
                return
            operation = self.headers.get("X-Amz-Target", "").removeprefix("SageMaker.")
            if operation not in self.server.operations:
                raise SageMakerError(
                    "UnknownOperationException",
                    f"the local SageMaker endpoint has no operation {operation!r}. It has "
                    f"{', '.join(self.server.operations)}",
                )
            self._respond(200, self.server.operations[operation](body))
        except SageMakerError as error:
            self._respond(400, {"__type": error.code, "message": error.message})
        except Exception:
            # As in AWS, the client only gets a general error. The log contains the reason.
            logger.exception("%s failed", self.headers.get("X-Amz-Target", self.path))
            self._respond(500, {"__type": "InternalFailure", "message": "see the log of the local SageMaker endpoint"})

    def _read_body(self) -> dict[str, Any]:
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

    def _respond(self, status: int, body: dict[str, Any]) -> None:
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
        raise SageMakerError("ValidationException", f"not a fault ({error}). kind is one of {kinds}") from None
