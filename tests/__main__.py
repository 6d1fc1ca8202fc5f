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
from collections.abc import Generator, Sequence
from contextlib import nullcontext
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


# Lines run one after the other, the lanes of a line side by side: the local AWS mostly waits, so that what needs one
# processor has the other to itself. Unit tests wait, too: three processes keep two processors busy.
LINES: tuple[tuple[tuple[Step, ...], ...], ...] = (
    (
        (
            Step("lint", (str(BIN / "ruff"), "check"), 2),
            Step("format", (str(BIN / "ruff"), "format", "--check"), 2),
            Step("unit", pytest("-n", "3", "tests/unit", "tests/functional"), 20),
        ),
    ),
    (
        (Step("e2e", pytest("--timeout", "600", "tests/e2e"), 18),),
        (
            Step("types", (str(BIN / "mypy"),), 15),
            Step("infra", pytest("--timeout", "600", "tests/infra"), 15),
            Step("contract", pytest("tests/contract"), 15),
            Step("supply-chain", (sys.executable, "-m", "infra.supply_chain"), 4),
        ),
    ),
)


@dataclass
class Run:
    """A step that runs. Those of a line's first lane speak at once, those beside it when they have ended."""

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
    names = [step.name for line in LINES for lane in line for step in lane]
    parser = argparse.ArgumentParser(prog="python -m tests", description="Check and test everything.")
    parser.add_argument("steps", nargs="*", metavar="STEP", help=f"one of {', '.join(names)}; all when left out")
    chosen = parser.parse_args(arguments).steps or names
    if unknown := set(chosen) - set(names):
        parser.error(f"no step {', '.join(sorted(unknown))}: choose from {', '.join(names)}")
    started = time.monotonic()
    done: list[Run] = []
    for line in LINES:
        done += side_by_side([[step for step in lane if step.name in chosen] for lane in line])
    print("\n=== summary")
    for run in done:
        print(f"{run.outcome:10} {run.seconds:6.0f} s  {run.step.name}")
    print(f"{'':10} {time.monotonic() - started:6.0f} s  altogether")
    return 0 if all(run.outcome == "passed" for run in done) else 1


def side_by_side(lanes: Sequence[Sequence[Step]]) -> list[Run]:
    """Run lanes at once, the steps of each one after the other; whatever they started is ended with them."""
    runs: list[Run] = []
    running = [one_by_one(steps, runs, at_once=not number) for number, steps in enumerate(filter(None, lanes))]
    try:
        while running := [lane for lane in running if next(lane, False) is None]:
            time.sleep(0.1)
    finally:
        for lane in running:
            lane.close()
    return runs


def one_by_one(steps: Sequence[Step], runs: list[Run], *, at_once: bool) -> Generator[None]:
    """Run steps while it is iterated, adding them to ``runs``."""
    for step in steps:
        print(f"\n=== {step.name}", flush=True)
        with nullcontext() if at_once else tempfile.TemporaryFile() as output:
            run = Run(step, output)
            runs.append(run)
            try:
                while not run.look():
                    yield
            finally:
                run.end()
                if output:
                    output.seek(0)
                    said = output.read().decode(errors="replace")
                    print(f"\n=== {step.name}: {run.outcome}\n{said}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
