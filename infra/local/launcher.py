"""Starts and stops the local stack: the emulator, the SageMaker endpoint, the inference server and the API."""

import contextlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import httpx

from functions.migration import Migration
from infra.local import dev_server, inference_server
from infra.local.deploy import Outputs, deploy, deployed_outputs, is_deployed
from infra.local.processes import RunningService, Service, is_alive, require_free_port, stop_group
from infra.local.settings import LocalError, LocalSettings

ReportProgress = Callable[[str], None]

RECONCILER = "inference-local-reconcile-jobs"


class StopRequest(Exception):  # noqa: N818 - not an error
    """Raised in the main thread by SIGTERM, SIGHUP and Ctrl-C."""


@dataclass(frozen=True)
class RunningStack:
    """The settings of a running stack and the outputs of its deployment."""

    settings: LocalSettings
    outputs: Outputs


class LocalStack:
    """The stack of one state directory. It can be started and stopped repeatedly; the data stays."""

    def __init__(self, settings: LocalSettings, report: ReportProgress = print) -> None:
        self._settings = settings
        self._report = report
        self._running: list[RunningService] = []

    def start(self, *, api: bool = True) -> RunningStack:
        """Starts all services and deploys the app. Stops all services after a failure."""
        settings = self._settings
        _require_not_running(settings)
        stop_remaining_services(settings)
        embedded = settings.inference_url is None
        for service, port in (
            ("emulator", settings.aws_port),
            ("inference server", settings.inference_port if embedded else settings.aws_port),
            ("SageMaker endpoint", settings.sagemaker_port),
            ("API", settings.api_port if api else settings.sagemaker_port),
        ):
            require_free_port(port, service)
        try:
            self._report(f"Starting the local AWS on {settings.aws_url}")
            self._start(emulator(settings))
            self._start(sagemaker_endpoint(settings))
            if embedded:
                self._start(inference_server.service(settings))
            inference_server.store_token(settings)
            deployed_before = is_deployed(settings)
            if deployed_before:
                migrate(settings.client("dynamodb"), deployed_outputs(settings))
            outputs = deploy(settings, self._report)
            if deployed_before:
                _reconcile(settings)
            if api:
                self._start(dev_server.service(settings, outputs))
        except BaseException:
            self.stop()
            raise
        return RunningStack(settings, outputs)

    def stop(self) -> None:
        """Stops the services in reverse order. The emulator saves its state before it ends."""
        with _signals_ignored():
            while self._running:
                self._running.pop().stop()
            _run_file(self._settings).unlink(missing_ok=True)

    def service(self, name: str) -> RunningService:
        return next(each for each in self._running if each.service.name == name)

    def watch(self) -> None:
        """Watches the services, and raises LocalError when one of them ends."""
        while True:
            for running in self._running:
                if running.process.poll() is not None:
                    raise LocalError(running.describe_end(f"ended with exit code {running.process.returncode}"))
            time.sleep(0.5)

    def _start(self, service: Service) -> None:
        running = RunningService(service)
        self._running.append(running)
        _write_run_file(self._settings, [each.process.pid for each in self._running])
        running.wait_until_healthy()


def migrate(dynamodb: Any, outputs: Outputs) -> None:
    """Brings the data of an older release to the newest version. Raises LocalError for data of a newer release."""
    migration = Migration(dynamodb)
    tables = (outputs["TableName"], outputs["LogsTableName"])
    for dry_run in (True, False):
        for table in tables:
            migration.run(table, dry_run=dry_run)
        if migration.unreadable:
            lines = "\n".join(migration.lines(dry_run=True))
            raise LocalError(f"A newer release has written the local data. Use it, or delete them: make clean\n{lines}")


def _reconcile(settings: LocalSettings) -> None:
    """Runs the reconciler immediately: workflows that the last stop interrupted send no event."""
    settings.client("lambda").invoke(FunctionName=RECONCILER, InvocationType="Event")


@contextlib.contextmanager
def stopping_on_signals() -> Iterator[None]:
    """Turns SIGTERM, SIGHUP and Ctrl-C into ``StopRequest`` in the main thread."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise StopRequest

    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _signals_ignored() -> Iterator[None]:
    """Ignores signals, so that a second Ctrl-C does not interrupt the saving of state."""
    try:
        before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # Only the main thread receives signals.
        before = {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def emulator(settings: LocalSettings) -> Service:
    """Returns the definition of the AWS emulator. Its state is in the state directory."""
    directory = settings.directory
    temporary = directory / "tmp"
    # An emulator that was killed leaves unpacked functions here.
    shutil.rmtree(temporary, ignore_errors=True)
    for folder in (directory / "state", directory / "s3", temporary):
        folder.mkdir(parents=True, exist_ok=True)
    return Service(
        name="emulator",
        command=[sys.executable, "-m", "infra.local.emulator"],
        environment={
            **settings.aws_environment(),
            "GATEWAY_PORT": str(settings.aws_port),
            "BIND_HOST": "127.0.0.1",
            "MINISTACK_HOST": "127.0.0.1",
            # IAM checks each call of a function against the role of the function.
            "AUTH": "true",
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            "PERSIST_STATE": "1",
            "STATE_DIR": str(directory / "state"),
            "S3_PERSIST": "1",
            "S3_DATA_DIR": str(directory / "s3"),
            "TMPDIR": str(temporary),
            "LOG_LEVEL": os.environ.get("LOCAL_LOG_LEVEL", "INFO"),
            # The functions inherit this variable. The emulator has no X-Ray daemon.
            "POWERTOOLS_TRACE_DISABLED": "true",
        },
        port=settings.aws_port,
        health_path="/_ministack/health",
        log=directory / "logs/emulator.log",
        stop_seconds=120.0,
    )


def sagemaker_endpoint(settings: LocalSettings) -> Service:
    """Returns the definition of the SageMaker endpoint. Its jobs call the emulator and the API's webhooks."""
    job_environment = {name: value for name, value in settings.aws_environment().items() if name.startswith("AWS_")} | {
        "ALLOW_LOOPBACK": "true",
        **settings.job_environment,
    }
    return Service(
        name="SageMaker endpoint",
        command=[sys.executable, "-m", "infra.local.sagemaker"],
        environment={
            **settings.aws_environment(),
            "SAGEMAKER_PORT": str(settings.sagemaker_port),
            "SAGEMAKER_DIRECTORY": str(settings.directory / "sagemaker"),
            "SAGEMAKER_STOP_GRACE_SECONDS": str(settings.stop_grace_seconds),
            "SAGEMAKER_JOB_ENVIRONMENT": json.dumps(job_environment),
        },
        port=settings.sagemaker_port,
        health_path="/_local/health",
        log=settings.directory / "logs/sagemaker.log",
    )


def gateway_url(settings: LocalSettings, outputs: Outputs) -> str:
    """Returns the URL of the emulated API Gateway, which serves the app as deployed functions."""
    api_id = outputs["ApiUrl"].split("//", 1)[1].split(".", 1)[0]
    stage = outputs["ApiUrl"].rstrip("/").rsplit("/", 1)[1]
    return f"{settings.aws_url}/_aws/execute-api/{api_id}/{stage}"


def addresses(settings: LocalSettings, outputs: Outputs, *, user: str) -> str:
    """Returns a text with the addresses of the stack and example requests."""
    curl = 'curl -H "Authorization: Bearer $token"'
    space = """-H "Content-Type: application/json" -d '{"name": "Mine", "description": ""}'"""
    return "\n".join(
        [
            f"API            {settings.api_url}",
            f"Console        {settings.api_url}/console",
            f"Documentation  {settings.api_url}/docs",
            f"API Gateway    {gateway_url(settings, outputs)}",
            f"Local AWS      {settings.aws_url}",
            f"Language model {inference_server.url(settings)}",
            f"OpenAI clients {settings.api_url}/v1, with a user's token as the API key",
            "",
            "Try the API with the token of a user. The command creates a missing user:",
            f"  token=$(make -s token USER={user})",
            f"  {curl} {settings.api_url}/me",
            "Create a space first, then list the language models:",
            f"  {curl} {settings.api_url}/spaces {space}",
            f"  {curl} {settings.api_url}/v1/models",
        ]
    )


def running(settings: LocalSettings) -> bool:
    """Returns whether a stack runs on this state directory."""
    record = _read_run_file(settings)
    return record is not None and is_alive(record["launcher"]) and _is_healthy(settings.aws_url + "/_ministack/health")


def stop_remaining_services(settings: LocalSettings) -> int:
    """Stops services of a launcher that was killed, and returns their number."""
    record = _read_run_file(settings)
    if record is None:
        return 0
    ended = 0
    for pid in reversed(record["services"]):
        if is_alive(pid) and _belongs_to_stack(pid):
            stop_group(pid, 120.0)
            ended += 1
    _run_file(settings).unlink(missing_ok=True)
    return ended


def shut_down(settings: LocalSettings) -> str:
    """Stops a running launcher, or the services of a killed one, and returns a message about it."""
    record = _read_run_file(settings)
    if record is None:
        return "Nothing is running."
    launcher = record["launcher"]
    if is_alive(launcher) and _belongs_to_stack(launcher):
        os.kill(launcher, signal.SIGTERM)
        deadline = time.monotonic() + 180
        while is_alive(launcher):
            if time.monotonic() > deadline:
                raise LocalError(f"Process {launcher} does not end. Its logs are in {settings.directory / 'logs'}.")
            time.sleep(0.1)
    ended = stop_remaining_services(settings)
    return "Stopped. The data is kept." if not ended else f"Stopped {ended} remaining processes. The data is kept."


def _require_not_running(settings: LocalSettings) -> None:
    if running(settings):
        record = _read_run_file(settings) or {}
        raise LocalError(
            f"The local stack is running already (process {record.get('launcher')}): the API is on {settings.api_url}. "
            "Stop it with: make down"
        )


def _run_file(settings: LocalSettings) -> Path:
    return settings.directory / "run.json"


def _write_run_file(settings: LocalSettings, services: list[int]) -> None:
    path = _run_file(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"launcher": os.getpid(), "services": services}))


def _read_run_file(settings: LocalSettings) -> dict[str, Any] | None:
    with contextlib.suppress(OSError, ValueError):
        record: dict[str, Any] = json.loads(_run_file(settings).read_text())
        return record
    return None


def _belongs_to_stack(pid: int) -> bool:
    """Returns whether the process belongs to the stack: another process may have got an old process id."""
    with contextlib.suppress(OSError):
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        return b"infra.local" in command or b"functions.api" in command
    return not Path("/proc/self").exists()


def _is_healthy(url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(url, timeout=2.0, trust_env=False).status_code == 200
    return False
