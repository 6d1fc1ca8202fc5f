"""Trainings whose workers are processes of this machine, each on a processor of its own."""

import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import polars as pl

from shared.models.job import JobFile, MetricName, TrainingJob
from shared.propensity.checkpoints import read_checkpoint
from tests.fixtures.http_handlers import QuietHandler
from tests.load.harness import ROOT, paired_ratio, show, take_turns

GOAL = 1.6


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Yields the address of a server that returns the files of a folder as S3 would."""

    class Handler(QuietHandler, BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = folder / Path(self.path.split("?")[0]).name
            self.send_response(200)
            self.send_header("Content-Length", str(path.stat().st_size))
            self.send_header("ETag", f'"{_etag(path)}"')
            self.end_headers()
            with path.open("rb") as file:
                shutil.copyfileobj(file, self.wfile, 1 << 20)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def compare_workers(frame: pl.DataFrame, workers: int, rounds: int) -> None:
    """Prints the time of one worker on one processor, and of several with one each."""
    with tempfile.TemporaryDirectory() as name, served(Path(name)) as address:
        folder = Path(name)
        paths = [folder / f"{part}.parquet" for part in range(workers)]
        for part, path in enumerate(paths):
            frame[part::workers].write_parquet(path)
        sides = {count: lambda count=count: _trained(paths, count, address, folder) for count in (1, workers)}
        turns = take_turns(sides, rounds, warm_up=0)
    seconds = {count: [turn[0] for turn in runs] for count, runs in turns.items()}
    gain = paired_ratio(seconds[1], seconds[workers])
    rows = [
        [
            f"{count} on as many processors",
            f"{statistics.median(seconds[count]):.1f}",
            f"{turns[count][0][1]:.5f}",
            str(turns[count][0][2]),
        ]
        for count in (1, workers)
    ]
    title = f"xgboost, {frame.height:,} rows x {frame.width - 1} columns: {gain:.2f} times as fast (goal {GOAL})"
    show(title, ["workers", "s", "log loss", "rounds"], rows)


def _trained(paths: Sequence[Path], count: int, address: str, folder: Path) -> tuple[float, float, int]:
    """Returns the seconds of a training by so many workers, its log loss and its rounds."""
    files = [JobFile(bucket="b", key=path.name, etag=_etag(path), size_bytes=path.stat().st_size) for path in paths]
    job = TrainingJob.model_validate(
        {
            "training_id": "t",
            "space_id": "s",
            "architecture": "xgboost",
            "instance_count": count,
            "datasets": [{"connector_id": "c", "files": files, "target": "bought"}],
        }
    )
    names = [f"127.0.0.{number + 1}" for number in range(count)]
    bases = [Path(tempfile.mkdtemp(dir=folder)) for _ in names]
    for base, host in zip(bases, names, strict=True):
        _write(base / "input/data/job/job.json", job.model_dump_json())
        _write(base / "input/config/resourceconfig.json", json.dumps({"current_host": host, "hosts": names}))
    began = time.perf_counter()
    running = [_start(base, address, processor) for processor, base in enumerate(bases)]
    codes = [process.wait() for process in running]
    seconds = time.perf_counter() - began
    if any(codes):
        raise RuntimeError((bases[0] / "output/failure").read_text())
    checkpoint = read_checkpoint(bases[0] / "model")
    rounds = max(point.step for point in checkpoint.series)
    return seconds, checkpoint.measurement.metrics[MetricName.LOG_LOSS] or 0.0, rounds


def _start(base: Path, address: str, processor: int) -> "subprocess.Popen[bytes]":
    environment = {
        **os.environ,
        "SAGEMAKER_BASE_DIR": str(base),
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "eu-west-1",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "functions.jobs.train"], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL
    )
    # Its threads and its workers inherit the processor.
    os.sched_setaffinity(process.pid, {sorted(os.sched_getaffinity(0))[processor]})
    return process


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")


def _etag(path: Path) -> str:
    return hashlib.sha256(path.name.encode()).hexdigest()
