"""A launcher that is killed leaves nothing that its successor does not clear away."""

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
def leftover() -> Iterator["subprocess.Popen[bytes]"]:
    # A process that looks like one of the stack's.
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)  # infra.local"], start_new_session=True
    )
    try:
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


def test_leftovers_of_a_dead_launcher_are_ended(settings: LocalSettings, leftover: "subprocess.Popen[bytes]") -> None:
    record(settings, dead_process(), leftover.pid)

    said = launcher.shut_down(settings)

    assert "1 leftover" in said
    deadline = time.monotonic() + 10
    while is_alive(leftover.pid):
        assert time.monotonic() < deadline
    assert launcher.shut_down(settings) == "Nothing is running."


def test_a_strangers_process_with_a_recorded_id_is_left_alone(settings: LocalSettings) -> None:
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        record(settings, dead_process(), stranger.pid)

        assert launcher.stop_leftovers(settings) == 0
        assert is_alive(stranger.pid)
    finally:
        stranger.kill()
        stranger.wait()


def test_a_record_of_a_live_process_that_serves_nothing_is_not_a_running_stack(settings: LocalSettings) -> None:
    record(LocalSettings(directory=settings.directory), os.getpid())

    assert not launcher.running(LocalSettings(directory=settings.directory, aws_port=1))


def test_the_emulated_gateways_address_comes_from_the_deployed_one(settings: LocalSettings) -> None:
    outputs = {"ApiUrl": "https://1a2b3c4d.execute-api.us-east-1.amazonaws.com/api/"}

    assert launcher.gateway_url(settings, outputs) == "http://127.0.0.1:4566/_aws/execute-api/1a2b3c4d/api"
