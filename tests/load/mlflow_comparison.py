"""Compares create, get and search by metric of our API and of MLflow's server with SQLite on this machine.

MLflow runs in its own environment. Each of its runs has a metric, and the search returns the ten best runs. Our side
has checkpoints with a result on a benchmark. The leaderboard returns the ten best with their ranks and the total.
Create and get are measured with data models. The benchmark calls our functions like Lambda, with recorded reads, and a
create includes the emulator's time. A call of MLflow is a request over an open connection and includes SQLite. A new
run with its metric takes two requests.
"""

import json
import random
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from rich.progress import track

from functions.data_models import handler as data_models
from functions.leaderboards import handler as leaderboards
from shared.clock import new_id, utc_now
from shared.dynamodb.table import Item, Key
from shared.evaluations.benchmarks import Benchmarks
from shared.evaluations.scores import Ranking, Scores
from shared.models.benchmark import Benchmark
from shared.models.job import MetricName
from shared.observability import logger
from tests.fixtures.identity import Issuer
from tests.load.emulated_store import FunctionUser, RecordedStore, emulated_store, write_items
from tests.load.harness import free_port, median_milliseconds, options, server, show, uv_tool

MLFLOW = "mlflow<3.18"
SIZES = (1_000, 4_000)
LIMIT = 5
METRIC = MetricName.ROC_AUC

Call = Callable[[], Any]


class MLflow:
    """A client of a running MLflow server."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=f"{url}/api/2.0/mlflow", trust_env=False, timeout=60)
        self._last_run = ""

    def add_experiment(self, size: int) -> str:
        """Creates an experiment with ``size`` runs."""
        made: str = self._post("experiments/create", {"name": f"{size} runs"})["experiment_id"]
        for _ in track(range(size), f"writing {size:,} runs to MLflow", transient=True):
            self.create(made)
        return made

    def create(self, experiment: str) -> None:
        """Creates a run with a metric by two requests, as MLflow's client does."""
        now = int(time.time() * 1000)
        run = self._post("runs/create", {"experiment_id": experiment, "start_time": now})["run"]["info"]["run_id"]
        metric = {"key": METRIC, "value": random.random(), "timestamp": now, "step": 0}  # noqa: S311 - test data
        self._post("runs/log-batch", {"run_id": run, "metrics": [metric]})
        self._last_run = run

    def get(self) -> None:
        self._client.get("/runs/get", params={"run_id": self._last_run}).raise_for_status()

    def search(self, experiment: str) -> None:
        order = {"experiment_ids": [experiment], "order_by": [f"metrics.{METRIC} DESC"], "max_results": 10}
        if len(self._post("runs/search", order)["runs"]) != 10:
            raise SystemExit("MLflow did not find ten runs")

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        return self._client.post(f"/{path}", json=body).raise_for_status().json()


def add_results(user: FunctionUser, size: int) -> Call:
    """Stores results of a benchmark in a new space, and returns the request for the ten best."""
    table, space_id, now = user.resources.table, user.new_space(), utc_now()
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
    ranking = Ranking(space_id, benchmark.id, benchmark.revision, METRIC)
    counters: dict[Key, int] = {}
    items: list[Item] = [Key(f"score#{space_id}#benchmarks", benchmark.id).values]
    for _ in range(size):
        checkpoint_id, value = new_id(), random.random()  # noqa: S311 - test data
        described = {"name": "m", "training_id": checkpoint_id, "architecture": "lightgbm", "created_at": now}
        result = {
            "revision": benchmark.revision,
            "evaluation_id": checkpoint_id,
            "metrics": {METRIC: value},
            "version": 1,
        }
        items.append({**Scores.key(space_id, checkpoint_id, benchmark.id).values, **described, **result})
        items.append({**ranking.entry_key(checkpoint_id, value).values, **described})
        for counter in ranking.counter_keys(value):
            counters[counter] = counters.get(counter, 0) + 1
    write_items(table, items + [{**key.values, "items": count} for key, count in counters.items()])
    query = {"order_by_metric.benchmark_id": benchmark.id, "order_by_metric.metric_name": METRIC.value}
    search = user.request(leaderboards.handler, "GET", "/leaderboards", space_id=space_id, **query)
    if json.loads(search())["count"] != size:
        raise SystemExit(f"The leaderboard does not count {size} results")
    return search


def run(issuer: Issuer, peer: MLflow | None, large: int, rounds: int) -> None:
    stores = [RecordedStore(module.app.state.resources.dynamodb) for module in (leaderboards, data_models)]
    user = FunctionUser(issuer, leaderboards.app.state.resources)
    create = user.request(data_models.handler, "POST", "/data-models", body={"name": "d"})
    get = user.request(data_models.handler, "GET", f"/data-models/{json.loads(create())['id']}")
    ours: dict[str, Call] = {"create": create, "get by id": get}
    ours |= {f"ten best of {size:,}": add_results(user, size) for size in (*SIZES, large)}
    theirs: dict[str, Call] = {}
    if peer:
        experiments = {size: peer.add_experiment(size) for size in SIZES}
        theirs = {"create": partial(peer.create, experiments[SIZES[0]]), "get by id": peer.get}
        theirs |= {f"ten best of {size:,}": partial(peer.search, made) for size, made in experiments.items()}
    sides = {(side, name): call for side, calls in enumerate((ours, theirs)) for name, call in calls.items()}
    times = median_milliseconds(sides, rounds)
    rows = []
    for name, call in ours.items():
        before = sum(store.read_units for store in stores)
        call()
        units = "" if name == "create" else str(sum(store.read_units for store in stores) - before)
        mine, other = times[0, name], times.get((1, name))
        compared = (f"{other:.1f}", f"{other / mine:.1f}") if other else ("", "")
        rows.append((name, f"{mine:.1f}", units, *compared))
    columns = ("", "ours, ms", "read units", "MLflow, ms", "times as fast")
    show(f"Ours against MLflow (searches at least {LIMIT} times as fast, and as fast in large spaces)", columns, rows)


def main() -> None:
    chosen = options(__doc__, large=100_000, rounds=40, without_peer=False)
    logger.setLevel("WARNING")
    with tempfile.TemporaryDirectory() as folder, emulated_store() as issuer:
        if chosen.without_peer:
            run(issuer, None, chosen.large, chosen.rounds)
            return
        url = f"http://127.0.0.1:{(port := free_port())}"
        store = ("--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", folder)
        command = uv_tool(MLFLOW, "mlflow", "server", "--port", str(port), *store, "--workers", "1")
        with server(command, f"{url}/health", Path(folder) / "mlflow.log", MLFLOW_DISABLE_TELEMETRY="true"):
            run(issuer, MLflow(url), chosen.large, chosen.rounds)


if __name__ == "__main__":
    main()
