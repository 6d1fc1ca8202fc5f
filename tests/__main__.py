"""``make test``: checks and tests everything, each step under a time limit, and says at the end what failed."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Step:
    """A command and how long it may take."""

    name: str
    command: tuple[str, ...]
    minutes: int


def pytest(*arguments: str) -> tuple[str, ...]:
    """A pytest command."""
    return (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments)


STEPS = (
    Step("lint", (str(BIN / "ruff"), "check"), 2),
    Step("format", (str(BIN / "ruff"), "format", "--check"), 2),
    Step("types", (str(BIN / "mypy"),), 10),
    Step(
        "unit, functional and contract tests", pytest("-n", "2", "tests/unit", "tests/functional", "tests/contract"), 20
    ),
    Step("infrastructure tests", pytest("-n", "2", "--dist", "loadfile", "--timeout", "600", "tests/infra"), 15),
    Step("end-to-end tests", pytest("--timeout", "600", "tests/e2e"), 18),
)


def main() -> int:
    """Runs all steps, also after a failure; 0 only if all passed."""
    results: list[tuple[str, str, float]] = []
    for step in STEPS:
        print(f"\n=== {step.name}", flush=True)
        started = time.monotonic()
        outcome = run(step)
        results.append((step.name, outcome, time.monotonic() - started))
    print("\n=== summary")
    for name, outcome, seconds in results:
        print(f"{outcome:10} {seconds:6.0f} s  {name}")
    return 0 if all(outcome == "passed" for _, outcome, _ in results) else 1


def run(step: Step) -> str:
    """``passed``, ``failed`` or ``too long``; whatever the step started is ended with it."""
    environment = {**os.environ, "PATH": os.pathsep.join([str(BIN), os.environ.get("PATH", "")])}
    process = subprocess.Popen(
        step.command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, start_new_session=True
    )
    try:
        return "passed" if process.wait(step.minutes * 60) == 0 else "failed"
    except subprocess.TimeoutExpired:
        print(f"{step.name}: stopped after {step.minutes} minutes", flush=True)
        return "too long"
    finally:
        if process.poll() is None:
            end(process)


def end(process: "subprocess.Popen[bytes]") -> None:
    """Asks the step's processes to end, which lets fixtures stop their stack, then ends them."""
    for number, seconds in ((signal.SIGINT, 60), (signal.SIGKILL, 10)):
        os.killpg(process.pid, number)
        try:
            process.wait(seconds)
            return
        except subprocess.TimeoutExpired:
            continue


if __name__ == "__main__":
    raise SystemExit(main())
