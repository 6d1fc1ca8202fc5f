"""``make test``: checks and tests everything, each step under a time limit, and says at the end what failed.

``python -m tests [STEP ...]`` runs some of the steps only.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

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


# Steps of one line run side by side: the type checker uses one processor, and the local AWS mostly waits.
STEPS = (
    (Step("lint", (str(BIN / "ruff"), "check"), 2),),
    (Step("format", (str(BIN / "ruff"), "format", "--check"), 2),),
    (Step("unit", pytest("-n", "2", "tests/unit", "tests/functional", "tests/contract"), 20),),
    (Step("infra", pytest("-n", "2", "--dist", "loadfile", "--timeout", "600", "tests/infra"), 15),),
    (Step("supply-chain", (sys.executable, "-m", "infra.supply_chain"), 4),),
    (Step("e2e", pytest("--timeout", "600", "tests/e2e"), 18), Step("types", (str(BIN / "mypy"),), 15)),
)


@dataclass
class Run:
    """A step that runs. The first of a line speaks at once, those beside it when they have ended."""

    step: Step
    output: IO[bytes] | None
    outcome: str = ""
    started: float = field(default_factory=time.monotonic)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        environment = {**os.environ, "PATH": os.pathsep.join([str(BIN), os.environ.get("PATH", "")])}
        self._process = subprocess.Popen(
            self.step.command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=subprocess.STDOUT if self.output else None,
            start_new_session=True,
        )

    def look(self) -> bool:
        """Whether it has ended, by itself or because its time is over."""
        self.seconds = time.monotonic() - self.started
        if (code := self._process.poll()) is not None:
            self.outcome = "passed" if code == 0 else "failed"
        elif self.seconds > self.step.minutes * 60:
            print(f"{self.step.name}: stopped after {self.step.minutes} minutes", flush=True)
            self.end()
            self.outcome = "too long"
        return bool(self.outcome)

    def end(self) -> None:
        """Asks the step's processes to end, which lets fixtures stop their stack, then ends them."""
        for number, seconds in ((signal.SIGINT, 60), (signal.SIGKILL, 10)):
            if self._process.poll() is None:
                os.killpg(self._process.pid, number)
                try:
                    self._process.wait(seconds)
                except subprocess.TimeoutExpired:
                    continue


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs all steps, also after a failure; 0 only if all passed."""
    names = [step.name for line in STEPS for step in line]
    parser = argparse.ArgumentParser(prog="python -m tests", description="Check and test everything.")
    parser.add_argument("steps", nargs="*", metavar="STEP", help=f"one of {', '.join(names)}; all when left out")
    chosen = parser.parse_args(arguments).steps or names
    if unknown := set(chosen) - set(names):
        parser.error(f"no step {', '.join(sorted(unknown))}: choose from {', '.join(names)}")
    started = time.monotonic()
    done: list[Run] = []
    for line in STEPS:
        done += side_by_side([step for step in line if step.name in chosen])
    print("\n=== summary")
    for run in done:
        print(f"{run.outcome:10} {run.seconds:6.0f} s  {run.step.name}")
    print(f"{'':10} {time.monotonic() - started:6.0f} s  altogether")
    return 0 if all(run.outcome == "passed" for run in done) else 1


def side_by_side(steps: Sequence[Step]) -> list[Run]:
    """Run steps at once; whatever they started is ended with them."""
    runs: list[Run] = []
    try:
        for step in steps:
            print(f"\n=== {step.name}", flush=True)
            runs.append(Run(step, tempfile.TemporaryFile() if runs else None))  # noqa: SIM115 - closed below
        while [run for run in runs if not (run.outcome or run.look())]:
            time.sleep(0.1)
    finally:
        for run in runs:
            run.end()
            if run.output:
                run.output.seek(0)
                print(f"\n=== {run.step.name}: {run.outcome}\n{run.output.read().decode(errors='replace')}", flush=True)
                run.output.close()
    return runs


if __name__ == "__main__":
    raise SystemExit(main())
