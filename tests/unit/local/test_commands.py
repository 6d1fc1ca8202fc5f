"""The commands tell what they take, and what is wrong about what they are given."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.local import setup
from infra.local.settings import ROOT
from tests import __main__ as tests_command


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
    ("module", "words"),
    [
        ("infra.local", ("up", "down", "deploy", "url", "token", "demo")),
        ("tests", ("lint", "types", "unit", "infra", "e2e")),
        ("tests.load", ("cold_start", "handler_latency")),
    ],
)
def test_help_names_all_that_can_be_asked_for(module: str, words: tuple[str, ...]) -> None:
    done = run(module, "--help")
    assert done.returncode == 0, done.stderr
    assert all(word in done.stdout for word in words), done.stdout


def test_what_does_not_exist_is_refused_with_the_choices() -> None:
    for module in ("tests", "tests.load"):
        done = run(module, "nonsense")
        assert (done.returncode, done.stdout) == (2, "")
        assert "choose from" in done.stderr


def test_without_a_stack_its_commands_say_how_to_start_one(tmp_path: Path) -> None:
    done = run("infra.local", "token", "ann@example.com", LOCAL_DIRECTORY=str(tmp_path))
    assert done.returncode == 1
    assert "make up" in done.stderr
    assert "Traceback" not in done.stderr
    assert "is not a port" in run("infra.local", "url", LOCAL_API_PORT="eighty").stderr


def test_a_reader_that_has_seen_enough_is_no_failure() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    program = "from infra.local.__main__ import say; say('first'); say('second')"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_setting_up_speaks_on_stderr_so_that_a_token_is_all_that_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    setup.run(sys.executable, "-c", "print('added 131 packages')")
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "added 131 packages\n")


def test_every_step_runs_and_the_worst_of_them_decides(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def step(name: str, code: str, minutes: int = 1) -> tests_command.Step:
        return tests_command.Step(name, (sys.executable, "-c", code), minutes)

    good, bad = step("good", "print('all is well')"), step("bad", "raise SystemExit('it is not')")
    slow, beside = step("slow", "import time; time.sleep(60)", minutes=0), step("beside", "print('and so is this')")
    monkeypatch.setattr(tests_command, "LINES", (((bad,), (good, beside)), ((slow,),)))
    assert tests_command.main([]) == 1
    printed = capfd.readouterr().out
    for words in ("failed", "passed", "too long", "all is well", "and so is this", "slow: stopped after 0 minutes"):
        assert words in printed
    assert tests_command.main(["good"]) == 0
