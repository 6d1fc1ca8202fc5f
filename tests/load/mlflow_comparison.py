"""Create, get and search by metric: ours, and MLflow's server with SQLite on this machine.

``python -m tests.load.mlflow_comparison``. MLflow runs from an environment of its own, with bytecode; each of its runs
has a metric, and the ten best are searched for. Ours are checkpoints with a result on a benchmark, and the leaderboard
answers the ten best with their ranks and the number of all; what is created and read by its id is a data model. Ours is
called as Lambda calls it. The emulated store is no DynamoDB: reads have its answer from the record, so that what is
timed is the function's own work, and what they read is shown beside it; a create includes the emulated store's time.
MLflow's is a request over a kept connection, SQLite included; a run with its metric takes two.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.progress import track
from rich.table import Table as RichTable
from shared.aws.clock import new_id, utc_now
from shared.aws.resources import Resources
from shared.store.benchmarks import Benchmarks
from shared.store.scores import Ranking, Scores
from shared.store.table import Item, Key

from functions.data_models import handler as data_models
from functions.leaderboards import handler as leaderboards
from functions.spaces.service import SpaceService
from shared.models.benchmark import Benchmark
from shared.models.job import MetricName
from shared.models.space import SpaceCreate
from shared.observability import logger
from tests.fixtures.identity import Issuer
from tests.load.chat_latency import free_port, served
from tests.load.emulated_store import LambdaContext, emulated_store, gateway_event
from tests.load.inference_logs import CountingStore

MLFLOW = "mlflow<3.18"
SIZES = (1_000, 4_000)
LARGE = 100_000
ROUNDS = 40
LIMIT = 5
METRIC = MetricName.ROC_AUC

Call = Callable[[], Any]


class MLflow:
    """A running server, and its requests."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=f"{url}/api/2.0/mlflow", trust_env=False, timeout=60)
        self._experiments: dict[int, str] = {}
        self.last_run = ""

    def experiment(self, size: int) -> str:
        """One with so many runs."""
        if size not in self._experiments:
            made = self._post("experiments/create", {"name": f"{size} runs"})["experiment_id"]
            for _ in track(range(size), f"writing {size:,} runs to MLflow", transient=True):
                self.create(made)
            self._experiments[size] = made
        return self._experiments[size]

    def create(self, experiment: str) -> None:
        """A run with a metric: two requests, as its client makes."""
        run = self._post("runs/create", {"experiment_id": experiment, "start_time": _now()})["run"]["info"]["run_id"]
        metric = {"key": METRIC, "value": random.random(), "timestamp": _now(), "step": 0}  # noqa: S311 - test data
        self._post("runs/log-batch", {"run_id": run, "metrics": [metric]})
        self.last_run = run

    def get(self) -> None:
        self._client.get("/runs/get", params={"run_id": self.last_run}).raise_for_status()

    def search(self, experiment: str) -> None:
        order = {"experiment_ids": [experiment], "order_by": [f"metrics.{METRIC} DESC"], "max_results": 10}
        found = self._post("runs/search", order)
        if len(found["runs"]) != 10:
            raise SystemExit("MLflow did not find ten runs")

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        return self._client.post(f"/{path}", json=body).raise_for_status().json()


def _now() -> int:
    return int(time.time() * 1000)


class Ours:
    """The functions of data models and of the leaderboard, and spaces with a benchmark each."""

    def __init__(self, issuer: Issuer) -> None:
        self._resources: Resources = leaderboards.app.state.resources
        self._token = issuer.token("bench", expires_in=7200)
        self._principal = self._resources.token_verifier.verify(self._token)
        self._space_id = self._space()
        self.last_data_model = ""

    def _space(self) -> str:
        space = SpaceCreate(name="b", description="")
        return SpaceService(self._resources).create(self._principal, space, None).id

    def create(self) -> None:
        event = gateway_event("POST", "/data-models", self._token, self._space_id)
        answer = data_models.handler(event | {"body": json.dumps({"name": "d"})}, LambdaContext())
        if answer["statusCode"] != 201:
            raise SystemExit(answer["body"])
        self.last_data_model = json.loads(answer["body"])["id"]

    def get(self) -> None:
        path = f"/data-models/{self.last_data_model}"
        answer = data_models.handler(gateway_event("GET", path, self._token, self._space_id), LambdaContext())
        if answer["statusCode"] != 200:
            raise SystemExit(answer["body"])

    def search(self, size: int) -> Call:
        """A request for the ten best of so many."""
        table, space_id = self._resources.table, self._space()
        now = utc_now()
        benchmark = Benchmark(
            id=new_id(),
            created_at=now,
            created_by="bench",
            updated_at=now,
            updated_by="bench",
            name="Held out",
            description="",
            metrics=[METRIC],
            task="binary_classification",
            connectors=[],
        )
        Benchmarks(table).repository.create(space_id, benchmark)
        items = _results(space_id, benchmark.id, benchmark.revision, size)
        batches = [items[start : start + 25] for start in range(0, len(items), 25)]
        with ThreadPoolExecutor(4) as pool:
            written = pool.map(table.put_all, batches)
            for _ in track(written, f"writing {size:,} results", total=len(batches), transient=True):
                pass
        query = {"order_by_metric.benchmark_id": benchmark.id, "order_by_metric.metric_name": METRIC.value}
        event = gateway_event("GET", "/leaderboards", self._token, space_id, query)

        def search() -> None:
            answer = leaderboards.handler(event, LambdaContext())
            if answer["statusCode"] != 200 or f'"count":{size},' not in answer["body"]:
                raise SystemExit(answer["body"])

        return search


def _results(space_id: str, benchmark_id: str, revision: int, size: int) -> list[Item]:
    """As the store keeps them, of one metric."""
    ranking = Ranking(space_id, benchmark_id, revision, METRIC)
    counters: dict[Key, int] = {}
    items: list[Item] = [Key(f"score#{space_id}#benchmarks", benchmark_id).values]
    for _ in range(size):
        checkpoint_id, value = new_id(), random.random()  # noqa: S311 - test data
        described = {"name": "m", "training_id": checkpoint_id, "architecture": "lightgbm", "created_at": utc_now()}
        result = {"revision": revision, "evaluation_id": checkpoint_id, "metrics": {METRIC: value}, "version": 1}
        items.append({**Scores.key(space_id, checkpoint_id, benchmark_id).values, **described, **result})
        items.append({**ranking.entry_key(checkpoint_id, value).values, **described})
        for counter in ranking.counter_keys(value):
            counters[counter] = counters.get(counter, 0) + 1
    return items + [{**key.values, "items": count} for key, count in counters.items()]


def milliseconds(calls: dict[str, Call], rounds: int) -> dict[str, float]:
    """The median of calls in turns."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in track(range(-3, rounds), "calling", transient=True):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            if turn >= 0:
                times[name].append((time.perf_counter() - began) * 1000)
    return {name: statistics.median(each) for name, each in times.items()}


def run(issuer: Issuer, peer: MLflow | None, large: int) -> RichTable:
    ours = Ours(issuer)
    searches = {size: ours.search(size) for size in (*SIZES, large)}
    stores = [CountingStore(each.app.state.resources.dynamodb) for each in (leaderboards, data_models)]
    rows = {"create": ours.create, "get": ours.get}
    rows |= {f"ten best of {size:,}": search for size, search in searches.items()}
    calls = {f"ours: {row}": call for row, call in rows.items()}
    if peer:
        calls |= {"MLflow: create": lambda: peer.create(peer.experiment(SIZES[0])), "MLflow: get": peer.get}
        for size in SIZES:
            calls[f"MLflow: ten best of {size:,}"] = partial(peer.search, peer.experiment(size))
    found = milliseconds(calls, ROUNDS)
    shown = RichTable(title=f"At {SIZES[0]:,} at least {LIMIT}x MLflow's speed; ours flat")
    for column in ("", "ours, ms", "read units", "MLflow, ms", "times as fast"):
        shown.add_column(column, justify="right" if column else "left")
    for row, call in rows.items():
        before = sum(store.read_units for store in stores)
        call()
        units = sum(store.read_units for store in stores) - before
        mine, theirs = found[f"ours: {row}"], found.get(f"MLflow: {row}")
        compared = (f"{theirs:.1f}", f"{theirs / mine:.1f}") if theirs else ("", "")
        shown.add_row(row, f"{mine:.1f}", "" if row == "create" else str(units), *compared)
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description="Create, get and search by metric: ours, and MLflow's.")
    parser.add_argument("--large", type=int, default=LARGE, help="how many results ours is also searched in")
    parser.add_argument("--without-peer", action="store_true", help="leave MLflow out")
    options = parser.parse_args()
    logger.setLevel("WARNING")
    with tempfile.TemporaryDirectory() as folder, emulated_store() as issuer:
        if options.without_peer:
            Console().print(run(issuer, None, options.large))
            return
        uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        if uv is None:
            raise SystemExit("uv is missing: run `make bench`, which finds it.")
        port = free_port()
        command = [
            uv, "tool", "run", "--compile-bytecode", "--from", MLFLOW, "mlflow", "server", "--port", str(port),
            "--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", folder, "--workers", "1",
        ]  # fmt: skip
        url = f"http://127.0.0.1:{port}"
        with served(command, f"{url}/health", Path(folder) / "mlflow.log", MLFLOW_DISABLE_TELEMETRY="true"):
            Console().print(run(issuer, MLflow(url), options.large))


if __name__ == "__main__":
    main()
