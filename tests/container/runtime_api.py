"""Lambda's runtime API, as far as AWS's runtime client uses it, and functions that run under this client.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

import json
import os
import queue
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any

from tests.fixtures.http_handlers import QuietHandler

VERSION = "/2018-06-01/runtime"
SECONDS_TO_WAIT = 90.0


@dataclass
class Result:
    """What a function returned, or its error: ``errorType`` and ``errorMessage``."""

    value: Any
    failed: bool


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stays silent about a function that the test has ended."""


class RuntimeApi:
    """The server of one function."""

    def __init__(self) -> None:
        self.events: queue.Queue[Any] = queue.Queue()
        self.results: queue.Queue[Result] = queue.Queue()
        self.restored = threading.Event()
        self.server = _Server(("127.0.0.1", 0), _handler(self))
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.server_address[1]}"


def _handler(api: RuntimeApi) -> type[QuietHandler]:
    class Handler(QuietHandler, BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path == f"{VERSION}/restore/next":
                api.restored.set()
                self.answer(200)
                return
            assert self.path == f"{VERSION}/invocation/next"
            event = api.events.get()
            headers = {
                # The client crashes without it.
                "Content-Type": "application/json",
                "Lambda-Runtime-Aws-Request-Id": "8476a536-e9f4-11e8-9739-2dfe598c3fcd",
                "Lambda-Runtime-Deadline-Ms": str(int((time.time() + 29) * 1000)),
                "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-1:000000000000:function:tested",
                "Lambda-Runtime-Trace-Id": "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=0",
            }
            self.answer(200, json.dumps(event).encode(), headers)

        def do_POST(self) -> None:
            encoded = self.headers.get("Content-Length")
            body = self.rfile.read(int(encoded)) if encoded else self._chunks()
            api.results.put(Result(json.loads(body or b"null"), failed=not self.path.endswith("/response")))
            self.answer(202)

        def _chunks(self) -> bytes:
            content = b""
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return content

    return Handler


@dataclass
class PackagedFunctions:
    """The packaged functions. ``programs`` is the folder of an environment with nothing but the runtime client."""

    programs: Path
    code: Path
    layers: Path
    variables: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def running(self, handler: str, layers: tuple[str, ...], *, snap_start: bool = False) -> Iterator["Running"]:
        """Runs a function with its layers, as Lambda does, until the end of the block."""
        api = RuntimeApi()
        # Lambda's runtime also has boto3, which no function may need.
        path = [self.code, *(self.layers / name / "python" for name in ("base", *layers))]
        environment = {
            "PATH": os.defpath,
            "PYTHONPATH": os.pathsep.join(map(str, path)),
            "AWS_LAMBDA_RUNTIME_API": api.address,
            "AWS_LAMBDA_FUNCTION_NAME": handler.split(".")[-2],
            "AWS_LAMBDA_FUNCTION_VERSION": "1",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
            "AWS_LAMBDA_LOG_FORMAT": "JSON",
            "AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start" if snap_start else "on-demand",
            "LAMBDA_TASK_ROOT": str(self.code),
            "_HANDLER": handler,
            **self.variables,
        }
        command = [str(self.programs / "python"), "-X", "faulthandler", "-m", "awslambdaric", handler]
        with tempfile.TemporaryFile("w+") as log:
            process = subprocess.Popen(command, cwd=self.code, env=environment, stdout=log, stderr=subprocess.STDOUT)
            try:
                yield Running(api, process, log)
            finally:
                process.kill()
                process.wait()
                api.server.shutdown()
                api.server.server_close()


@dataclass
class Running:
    """A function that waits for events."""

    api: RuntimeApi
    process: "subprocess.Popen[bytes]"
    log: IO[str]

    def send(self, event: Any) -> Result:
        self.api.events.put(event)
        deadline = time.monotonic() + SECONDS_TO_WAIT
        while True:
            try:
                return self.api.results.get(timeout=0.2)
            except queue.Empty:
                late = time.monotonic() > deadline
                if late or self.process.poll() is not None:
                    self.log.seek(0)
                    raise AssertionError(f"no answer to {event}: {self.log.read()}") from None
