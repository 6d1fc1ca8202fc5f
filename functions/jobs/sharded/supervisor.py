"""Starts the workers of a host, watches them, and ends all when one ends too early."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from functions.jobs.container import EXIT_FAILED, EXIT_STOPPED
from functions.jobs.fitting.base import TrainingStoppedError
from functions.jobs.sharded.group import TRACKER_PORT
from functions.jobs.sharded.hosts import Hosts
from shared.errors import JobFailedError
from shared.models.job import JobModel, TrainingJob

# A worker whose partner died: what it says is no reason.
EXIT_ALONE = 75
# Workers that lost one of them end by themselves, and say why.
SECONDS_TO_END = 20.0
# All workers save before they stop, and SageMaker waits for two minutes.
SECONDS_TO_STOP = 100.0
_POLL_SECONDS = 0.1
# All hosts meet within it.
_MEETING_SECONDS = 1800


class WorkerOrder(JobModel):
    """What a worker gets: its place among all, and among those of its host."""

    rank: int
    size: int
    share: int
    shares: int
    address: str
    port: int
    folder: Path

    @property
    def failure(self) -> Path:
        """Returns the file to which it writes why it failed."""
        return self.folder / f"failure-{self.share}.txt"


@dataclass
class _Running:
    order: WorkerOrder
    process: "subprocess.Popen[bytes]"


def run_workers(job: TrainingJob, hosts: Hosts, scratch: Path, stop: threading.Event) -> None:
    """Runs the workers of this host: one for each GPU, or a single one on processors.

    Raises:
        JobFailedError: a worker failed or died.
        TrainingStoppedError: ``stop`` was set, or another host stops.
    """
    from xgboost.tracker import RabitTracker

    shares = max(1, job.gpu_count)
    size = shares * len(hosts)
    # Of several hosts, only the first one knows a port that is free there.
    address, port = (hosts.address_of_first(), TRACKER_PORT) if len(hosts) > 1 else ("127.0.0.1", 0)
    tracker = None
    if hosts.index == 0:
        tracker = RabitTracker(n_workers=size, host_ip=address, port=port, sortby="task", timeout=_MEETING_SECONDS)
        tracker.start()
        port = int(tracker.worker_args()["dmlc_tracker_port"])
    running = [
        _start(
            WorkerOrder(
                rank=hosts.index * shares + share,
                size=size,
                share=share,
                shares=shares,
                address=address,
                port=port,
                folder=scratch,
            ),
            _variables(hosts),
        )
        for share in range(shares)
    ]
    try:
        _watch(running, stop)
    finally:
        _end(running)
        # Only now: without it the workers would not find each other.
        del tracker


def _variables(hosts: Hosts) -> dict[str, str]:
    """Returns the environment of the workers. The libraries would guess by which network other instances answer."""
    if len(hosts) == 1 or hosts.interface is None:
        return dict(os.environ)
    return dict(os.environ, GLOO_SOCKET_IFNAME=hosts.interface, NCCL_SOCKET_IFNAME=hosts.interface)


def _start(order: WorkerOrder, variables: Mapping[str, str]) -> _Running:
    path = order.folder / f"worker-{order.share}.json"
    path.write_text(order.model_dump_json(), encoding="utf-8")
    command = [sys.executable, "-u", "-m", "functions.jobs.sharded", str(path)]
    return _Running(order, subprocess.Popen(command, stdin=subprocess.DEVNULL, env=variables))  # noqa: S603


def _watch(running: Sequence[_Running], stop: threading.Event) -> None:
    """Waits until all workers have ended well. Raises the reason if one has not."""
    deadline: float | None = None
    was_sent = False
    while any(each.process.poll() is None for each in running):
        if stop.is_set() and not was_sent:
            was_sent, deadline = True, time.monotonic() + SECONDS_TO_STOP
            for each in running:
                each.process.send_signal(signal.SIGTERM)
        if deadline is None and any(each.process.poll() for each in running):
            deadline = time.monotonic() + SECONDS_TO_END
        if deadline is not None and time.monotonic() > deadline:
            break
        time.sleep(_POLL_SECONDS)
    codes = [each.process.poll() for each in running]
    if stop.is_set() or EXIT_STOPPED in codes:
        raise TrainingStoppedError
    if any(codes) or None in codes:
        raise JobFailedError(_reason(running))


def _end(running: Sequence[_Running]) -> None:
    for each in running:
        if each.process.poll() is None:
            each.process.kill()
        each.process.wait()


def _reason(running: Sequence[_Running]) -> str:
    """Returns why the workers failed: what killed one, or else what one says, or else that one is alone."""
    for each in running:
        code = each.process.poll()
        if code is not None and code < 0:
            name = signal.Signals(-code).name
            # A library in C++ that gets no memory aborts.
            is_memory = -code in (signal.SIGKILL, signal.SIGABRT)
            why = "it probably ran out of memory" if is_memory else "a library crashed"
            return (
                f"Worker {each.order.rank + 1} of {each.order.size} was ended by {name}: {why}. All workers stopped. "
                "Use larger instances or more of them, and start the training again."
            )
    for wanted in (EXIT_FAILED, EXIT_ALONE):
        for each in running:
            if each.process.poll() == wanted and each.order.failure.exists():
                return each.order.failure.read_text(encoding="utf-8")
    return "The workers of the training ended without a reason. Start it again."
