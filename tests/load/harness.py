"""Parts that the benchmarks share: options, alternating runs, statistics, tables and servers of peers."""

import argparse
import os
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
from rich.console import Console
from rich.progress import track
from rich.table import Table

ROOT = Path(__file__).parents[2]
Side = TypeVar("Side")
Result = TypeVar("Result")


def options(description: str | None, **defaults: int | bool) -> argparse.Namespace:
    """Returns the options of the command line: a flag for each default of False, and a number for each other one."""
    parser = argparse.ArgumentParser(prog="python -m tests.load", description=description)
    for name, default in defaults.items():
        option = f"--{name.replace('_', '-')}"
        if default is False:
            parser.add_argument(option, action="store_true")
        else:
            parser.add_argument(option, type=int, default=default, help="%(default)s")
    return parser.parse_args()


def take_turns(
    sides: Mapping[Side, Callable[[], Result]], rounds: int, *, warm_up: int = 1
) -> dict[Side, list[Result]]:
    """Runs all sides once in each round, and returns the results of each side without the warm-up.

    So a drift of the machine's speed affects all sides alike.
    """
    results: dict[Side, list[Result]] = {side: [] for side in sides}
    for turn in track(range(-warm_up, rounds), "measuring", transient=True):
        for side, run in sides.items():
            result = run()
            if turn >= 0:
                results[side].append(result)
    return results


def peak_mb() -> float:
    """Returns the peak memory of this process. On Linux, getrusage's peak includes the parent's before the start."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def milliseconds(
    run: Callable[[], object], *, calls: int = 1, clock: Callable[[], float] = time.perf_counter
) -> Callable[[], float]:
    """Returns a function that measures the milliseconds of one call, as a mean over ``calls``."""

    def measure() -> float:
        began = clock()
        for _ in range(calls):
            run()
        return (clock() - began) * 1000 / calls

    return measure


def median_milliseconds(
    sides: Mapping[Side, Callable[[], object]], rounds: int, *, warm_up: int = 5
) -> dict[Side, float]:
    """Returns the median wall-clock time of each side."""
    times = take_turns({side: milliseconds(run) for side, run in sides.items()}, rounds, warm_up=warm_up)
    return {side: statistics.median(values) for side, values in times.items()}


def paired_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Returns the median ratio of neighbouring runs, because a machine's speed varies more than the sides differ."""
    return statistics.median(our / their for our, their in zip(ours, theirs, strict=True))


def percentile(values: Sequence[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table. Its first column is aligned to the left, the others to the right."""
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def uv_tool(package: str, *command: str) -> list[str]:
    """Returns a command that runs a peer in its own environment, with bytecode."""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if uv is None:
        raise SystemExit("uv is missing: run `make bench`, which finds it.")
    return [uv, "tool", "run", "--compile-bytecode", "--from", package, *command]


@contextmanager
def server(command: Sequence[str], url: str, log: Path, **environment: str) -> Iterator[int]:
    """Runs a server in its own process until the block ends. Yields the process id when ``url`` responds."""
    with log.open("wb") as output:
        variables = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        process = subprocess.Popen(
            command, cwd=ROOT, env=variables | environment, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            deadline = time.monotonic() + 300
            while not _responds(url):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"{command} did not start:\n{log.read_text()[-3000:]}")
                time.sleep(0.2)
            yield process.pid
        finally:
            process.terminate()
            process.wait(30)


def _responds(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def post(url: str, body: Any, headers: dict[str, str]) -> Any:
    return httpx.post(url, json=body, headers=headers, timeout=30, trust_env=False).raise_for_status().json()
