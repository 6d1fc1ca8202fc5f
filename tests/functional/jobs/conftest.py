"""The folders of a container, and one small HTTP server in place of S3, Parameter Store and the webhook."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import polars as pl
import pytest

from functions.jobs.container import Container
from shared.files.notes import ReadNotes
from shared.files.readers import opened
from shared.files.sources import Query, Source
from shared.models.job import JobFile, TrainingJob
from shared.models.reading import ReadOptions
from tests.fixtures.http_handlers import QuietHandler

ROOT = Path(__file__).resolve().parents[3]
SECRET = "whsec_" + base64.b64encode(b"signing key of the tests").decode()
SECRET_PARAMETER = "/inference/test/webhook-secret"
# ``GPU_COUNT=1 pytest tests/functional/jobs`` trains on a GPU, where there is one.
GPU_COUNT = int(os.environ.get("GPU_COUNT", "0"))


@dataclass
class Cloud:
    """What the job can reach; objects by ``bucket/key``, and the messages that were posted."""

    address: str = ""
    objects: dict[str, bytes] = field(default_factory=dict)
    messages: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    webhook_status: int = 200

    def put(self, key: str, content: bytes) -> JobFile:
        """Stores an object and pins it."""
        self.objects[f"data/{key}"] = content
        return JobFile(bucket="data", key=key, etag=hashlib.md5(content).hexdigest(), size_bytes=len(content))  # noqa: S324

    def put_frame(self, key: str, frame: pl.DataFrame) -> JobFile:
        """Stores a table as CSV."""
        return self.put(key, frame.write_csv().encode())

    @property
    def environment(self) -> dict[str, str]:
        """Returns the environment that sends AWS's library to this server."""
        return {
            "AWS_ENDPOINT_URL": self.address,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "eu-west-1",
            "AWS_MAX_ATTEMPTS": "1",
        }

    def client(self, service: str, **options: Any) -> Any:
        """Like ``boto3.client``."""
        defaults = {
            "endpoint_url": self.address,
            "region_name": "eu-west-1",
            "aws_access_key_id": "test",
            "aws_secret_access_key": "test",
        }
        return boto3.client(service, **(defaults | options))  # type: ignore[call-overload]


def _handler(cloud: Cloud) -> type[QuietHandler]:
    class Handler(QuietHandler, BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            content = cloud.objects.get(self.path.split("?")[0].lstrip("/"))
            if content is None:
                self.answer(404, b"<Error><Code>NoSuchKey</Code><Message>The key does not exist.</Message></Error>")
                return
            etag = f'"{hashlib.md5(content).hexdigest()}"'  # noqa: S324
            if self.headers.get("If-Match", etag) != etag:
                self.answer(412, b"<Error><Code>PreconditionFailed</Code><Message>changed</Message></Error>")
                return
            self.answer(200, content, {"ETag": etag})

        def do_HEAD(self) -> None:
            content = cloud.objects.get(self.path.lstrip("/"))
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/webhooks":
                cloud.messages.append(({name.lower(): value for name, value in self.headers.items()}, body))
                self.answer(cloud.webhook_status, b"{}")
            else:
                assert json.loads(body)["Name"] == SECRET_PARAMETER
                self.answer(200, json.dumps({"Parameter": {"Value": SECRET}}).encode())

    return Handler


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    cloud = Cloud()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(cloud))
    cloud.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield cloud
    server.shutdown()
    thread.join()
    server.server_close()


@dataclass
class Box:
    """A container's base folder, in which jobs are run as SageMaker runs them."""

    base: Path
    cloud: Cloud

    @property
    def container(self) -> Container:
        """Returns the same folders, for a job run in this process."""
        container = Container.of({"SAGEMAKER_BASE_DIR": str(self.base)})
        container.model_folder.mkdir(parents=True, exist_ok=True)
        return container

    def start(self, job: Any, *command: str) -> "subprocess.Popen[str]":
        """Writes ``job.json`` and starts the container's command."""
        self.container.job_file.parent.mkdir(parents=True, exist_ok=True)
        self.container.job_file.write_text(job.model_dump_json())
        environment = {**os.environ, **self.cloud.environment, "SAGEMAKER_BASE_DIR": str(self.base)}
        return subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def use_trained_model(self) -> None:
        """Gives the model that a training left to the next evaluation."""
        self.container.model_channel.mkdir(parents=True, exist_ok=True)
        with tarfile.open(self.container.model_channel / "model.tar.gz", "w:gz") as archive:
            archive.add(self.container.model_folder, arcname=".")

    @property
    def failure(self) -> str:
        """Returns the reason the job left."""
        return (self.base / "output" / "failure").read_text()


@pytest.fixture
def box(tmp_path: Path, cloud: Cloud) -> Box:
    return Box(tmp_path / "ml", cloud)


@dataclass
class NotedByReader:
    """What the reader notes about files, by their names, and the options that it was given."""

    formats: dict[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    warnings: dict[str, Callable[[ReadNotes], None]] = field(default_factory=dict)
    options: dict[str, ReadOptions] = field(default_factory=dict)

    def note(self, name: str, notes: ReadNotes) -> None:
        """Replaces what the reader has noted about a file."""
        if name in self.formats:
            notes.formats = {column: list(formats) for column, formats in self.formats[name].items()}
        if name in self.warnings:
            notes.warnings, notes.warning_count, notes.affected_rows = [], 0, 0
            self.warnings[name](notes)


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> NotedByReader:
    """Returns the reader's notes, for tests to fill."""
    noted = NotedByReader()

    @contextmanager
    def reading(path: Path, *args: Any, name: str, options: ReadOptions) -> Iterator[Source]:
        noted.options[name] = options
        with opened(path, *args, name=name, options=options) as source:
            collect = source.collect

            def collect_and_note(query: Query) -> pl.DataFrame:
                frame = collect(query)
                noted.note(name, source.notes)
                return frame

            monkeypatch.setattr(source, "collect", collect_and_note)
            yield source

    monkeypatch.setattr("functions.jobs.sources.opened", reading)
    return noted


def training(files: list[JobFile], target: str = "bought", **changes: Any) -> TrainingJob:
    """Returns a small, quick training."""
    job: dict[str, Any] = {
        "training_id": "training-1",
        "space_id": "space-1",
        "architecture": "lightgbm",
        "configuration": {"n_estimators": 40, "ensemble_size": 2},
        "gpu_count": GPU_COUNT,
        "datasets": [{"connector_id": "connector-1", "files": files, "target": target}],
    }
    return TrainingJob.model_validate(job | changes)
