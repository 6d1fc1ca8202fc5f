"""Tests of the commands: their help, their error messages and what they print."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import noxfile
from infra.local.settings import ROOT


def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("command", "names"),
    [
        (("infra.local", "--help"), ("up", "down", "deploy", "url", "token", "demo")),
        (("nox", "--list"), ("lint", "format", "unit", "e2e", "types", "infra", "contract", "supply-chain")),
        (("tests.load", "--help"), ("cold_start", "handler_latency")),
    ],
)
def test_the_help_names_every_choice(command: tuple[str, ...], names: tuple[str, ...]) -> None:
    done = run(*command)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in names), done.stdout


def test_an_unknown_benchmark_is_refused_with_the_choices() -> None:
    done = run("tests.load", "nonsense")
    assert (done.returncode, done.stdout) == (2, "")
    assert "choose from" in done.stderr


def test_commands_that_need_a_stack_explain_how_to_start_one(tmp_path: Path) -> None:
    done = run("infra.local", "token", "ann@example.com", LOCAL_DIRECTORY=str(tmp_path))
    assert done.returncode == 1
    assert "make up" in done.stderr
    assert "Traceback" not in done.stderr
    assert "is not a port" in run("infra.local", "url", LOCAL_API_PORT="eighty").stderr


def test_printing_to_a_closed_pipe_does_not_fail() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    program = "from infra.local.__main__ import print_line; print_line('first'); print_line('second')"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_fast_tests_are_changed_tests_and_tests_of_changed_sources() -> None:
    changed = [
        "tests/unit/local/test_deploy.py",
        "tests/unit/local/deleted.py",
        "infra/local/processes.py",
        "README.md",
    ]
    assert noxfile.tests_of(changed[:1]) == ["tests/unit/local/test_deploy.py"]
    assert noxfile.tests_of(changed) == [
        "tests/unit/local",
        "tests/unit/local/test_deploy.py",
        "tests/unit/local/test_processes.py",
    ]
    assert noxfile.tests_of(["README.md", "tests/unit/local/test_deleted.py"]) == []
