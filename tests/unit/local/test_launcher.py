"""Tests of the launcher and of the services that a killed launcher leaves."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local import launcher
from infra.local.processes import is_alive
from infra.local.settings import LocalSettings


@pytest.fixture
def settings(tmp_path: Path) -> LocalSettings:
    return LocalSettings(directory=tmp_path)


@pytest.fixture
def remaining_service() -> Iterator["subprocess.Popen[bytes]"]:
    # The command line of a service contains the text infra.local.
    program = "import time; print(flush=True); time.sleep(60)  # infra.local"
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    try:
        # The command line is empty until the program has started.
        process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.wait()


def record(settings: LocalSettings, launcher_id: int, *services: int) -> None:
    (settings.directory / "run.json").write_text(json.dumps({"launcher": launcher_id, "services": services}))


def dead_process() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_services_of_a_killed_launcher_are_stopped(
    settings: LocalSettings, remaining_service: "subprocess.Popen[bytes]"
) -> None:
    record(settings, dead_process(), remaining_service.pid)

    message = launcher.shut_down(settings)

    assert "1 remaining" in message
    deadline = time.monotonic() + 10
    while is_alive(remaining_service.pid):
        assert time.monotonic() < deadline
    assert launcher.shut_down(settings) == "Nothing is running."


def test_another_process_with_a_recorded_id_is_not_stopped(settings: LocalSettings) -> None:
    other = subprocess.Popen(["sleep", "60"])
    try:
        record(settings, dead_process(), other.pid)

        assert launcher.stop_remaining_services(settings) == 0
        assert is_alive(other.pid)
    finally:
        other.kill()
        other.wait()


def test_a_launcher_without_an_emulator_is_not_a_running_stack(settings: LocalSettings) -> None:
    record(LocalSettings(directory=settings.directory), os.getpid())

    assert not launcher.running(LocalSettings(directory=settings.directory, aws_port=1))


def test_the_url_of_the_emulated_gateway_contains_the_id_of_the_deployed_gateway(settings: LocalSettings) -> None:
    outputs = {"ApiUrl": "https://1a2b3c4d.execute-api.us-east-1.amazonaws.com/api/"}

    assert launcher.gateway_url(settings, outputs) == "http://127.0.0.1:4566/_aws/execute-api/1a2b3c4d/api"
