"""Tests of ports in use and of services that fail to start."""

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local.processes import RunningService, Service, free_port, is_alive, require_free_port
from infra.local.settings import LocalError, LocalSettings


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def service(tmp_path: Path, script: str, seconds: float = 10.0) -> Service:
    return Service(
        name="emulator",
        command=[sys.executable, "-c", script],
        environment=dict(os.environ),
        port=free_port(),
        health_path="/health",
        log=tmp_path / "log.txt",
        start_seconds=seconds,
        stop_seconds=1.0,
    )


def test_the_error_of_a_port_in_use_names_its_process_and_a_solution(taken_port: int) -> None:
    with pytest.raises(LocalError) as caught:
        require_free_port(taken_port, "API")

    message = str(caught.value)
    assert str(taken_port) in message
    assert f"process {os.getpid()}" in message
    assert "LOCAL_API_PORT" in message


def test_the_error_of_a_service_that_ends_while_starting_contains_the_end_of_its_log(tmp_path: Path) -> None:
    started = RunningService(service(tmp_path, "raise SystemExit('no such table')"))

    with pytest.raises(LocalError, match="no such table"):
        started.wait_until_healthy()
    started.stop()


def test_a_service_that_never_responds_is_stopped(tmp_path: Path) -> None:
    script = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    started = RunningService(service(tmp_path, script, seconds=0.5))

    with pytest.raises(LocalError, match="did not respond"):
        started.wait_until_healthy()
    started.stop()

    assert not is_alive(started.process.pid)


def test_ports_are_read_from_the_environment_and_wrong_ports_are_refused(tmp_path: Path) -> None:
    settings = LocalSettings.from_environment({"LOCAL_API_PORT": "9000", "LOCAL_DIRECTORY": str(tmp_path)})

    assert (settings.api_url, settings.directory) == ("http://127.0.0.1:9000", tmp_path)
    with pytest.raises(LocalError, match="LOCAL_AWS_PORT=http"):
        LocalSettings.from_environment({"LOCAL_AWS_PORT": "http"})


def test_the_stack_gets_no_credentials_of_a_real_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_PROFILE", "production")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "real")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "real")

    environment = LocalSettings(directory=tmp_path).aws_environment()

    assert "AWS_PROFILE" not in environment
    assert "AWS_SESSION_TOKEN" not in environment
    assert environment["AWS_ACCESS_KEY_ID"] == "test"
    assert environment["AWS_ENDPOINT_URL"] == "http://127.0.0.1:4566"
    assert environment["AWS_CONFIG_FILE"] == os.devnull
