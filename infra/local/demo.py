"""The demo: trains and ranks models on public data, chats, and decides for one and for all, by the public API."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from infra.local import launcher, tokens
from infra.local.client import ApiClient, Json
from infra.local.demo_base import BaseDemo
from infra.local.demo_chats import ChatDemo
from infra.local.demo_data import DATA_SETS, DataSet
from infra.local.demo_decisions import DecisionDemo
from infra.local.deploy import Outputs, deployed_outputs
from infra.local.settings import LocalError, LocalSettings

USER = "demo@example.com"
SPACE = "Demo"
CONNECTOR = "Customers"
DATA_MODEL = "Customers"
ARCHITECTURES = ("auto", "lightgbm")
METRICS = ("roc_auc", "ks", "gini", "log_loss", "accuracy", "f1", "precision", "recall")
SHOWN_METRICS = ("roc_auc", "ks", "log_loss", "f1")
SCAN_SECONDS = 180
TRAINING_SECONDS = 1200
TERMINAL = ("succeeded", "failed", "stopped")


@dataclass(frozen=True)
class DemoModel:
    """A model of the demo: a training of one architecture on one data set."""

    data_set: DataSet
    architecture: str
    benchmark_id: str
    training_id: str

    @property
    def name(self) -> str:
        return training_name(self.data_set, self.architecture)


def run(settings: LocalSettings, *, once: bool, console: Console | None = None) -> None:
    """Starts the stack unless it runs, runs the demo, and serves until Ctrl-C unless ``once`` is set."""
    console = console or Console()
    started = time.monotonic()
    with launcher.stopping_on_signals(), _stack(settings, console) as (stack, outputs):
        demo = Demo(settings, outputs, console)
        demo.run()
        console.print(f"\nDone in {time.monotonic() - started:.0f} s.", style="bold")
        if once:
            return
        console.print(launcher.addresses(settings, outputs, user=USER), highlight=False, markup=False, soft_wrap=True)
        if stack:
            console.print("\nServing. Ctrl-C stops it. The data stays, and the next make demo reuses it.")
            stack.watch()


class Demo:
    """The steps of the demo. Each step reuses the data of an earlier run."""

    def __init__(self, settings: LocalSettings, outputs: Outputs, console: Console) -> None:
        self._settings = settings
        self._console = console
        self._folder = settings.directory / "demo"
        token = tokens.token(settings, USER, pool_id=outputs["UserPoolId"], client_id=outputs["UserPoolClientId"])
        self._api = ApiClient(settings.api_url, token)

    def run(self) -> None:
        api = self._api
        self._step(f"Signed in as {api.get('/me')['email']}")
        api.space_id = self._space()
        connector_id = self._connector()
        self._catalog(connector_id)
        data_model_id = self._data_model()
        models = [model for data_set in DATA_SETS for model in self._trainings(data_set, connector_id, data_model_id)]
        self._train(models)
        evaluations = self._evaluations(models)
        self._leaderboards(models)
        self._plot(models, evaluations)
        ChatDemo(self._settings, api, self._console).run()
        DecisionDemo(api, self._console).run({model.data_set: model.benchmark_id for model in models})
        BaseDemo(api, self._console, connector_id, self._folder / "offers.png").run()
        self._console.print(
            f"\nSee it all in the console: {self._settings.api_url}/console#/models?benchmark={models[0].benchmark_id}"
            f"\nSign in as {USER} with the password {tokens.PASSWORD}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )

    def _space(self) -> str:
        found = next((space for space in self._api.rows("/spaces") if space["name"] == SPACE), None)
        space = found or self._api.post("/spaces", {"name": SPACE, "description": "Made by make demo"})
        self._step(f"Space '{SPACE}'", reused=found)
        return str(space["id"])

    def _connector(self) -> str:
        """Returns the id of the managed connector, which then holds all files."""
        found = next((each for each in self._api.rows("/connectors") if each["name"] == CONNECTOR), None)
        connector = found or self._api.post("/connectors", {"name": CONNECTOR, "type": "aws-s3"})
        connector_id = str(connector["id"])
        self._step(f"Managed connector '{CONNECTOR}'", reused=found)
        listing = self._api.get(f"/connectors/{connector_id}/files", limit=1000)
        present = {file for folder in listing for file in folder}
        files = {
            name: content for data_set in DATA_SETS for name, content in data_set.files().items() if name not in present
        }
        if files:
            self._api.upload(connector_id, files)
            size = sum(len(content) for content in files.values()) / 1e6
            self._step(f"Uploaded {len(files)} files ({size:.1f} MB) of {len(DATA_SETS)} public data sets")
        else:
            self._step("Data sets", reused=True)
        return connector_id

    def _catalog(self, connector_id: str) -> None:
        """Waits until the scan, which the uploads start, has described every file."""
        wanted = {name for data_set in DATA_SETS for name in (data_set.training_file, data_set.benchmark_file)}

        def scanned(page: Any) -> dict[str, Json]:
            return {row["file"]: row for row in page["data"] if row["status"] != "pending" and row["file"] in wanted}

        path = f"/connectors/{connector_id}/catalog?pageSize=100"

        page = self._api.wait(path, lambda page: wanted <= scanned(page).keys(), seconds=SCAN_SECONDS, every=1.0)
        rows = scanned(page)
        if broken := {name: row["scanned_at"] for name, row in rows.items() if row["status"] == "error"}:
            # An earlier run may have stopped during its scan.
            self._api.post(f"/connectors/{connector_id}/scan", {"files": list(broken)})
            page = self._api.wait(
                path,
                lambda page: all(
                    scanned(page).get(name, {}).get("scanned_at", at) != at for name, at in broken.items()
                ),
                seconds=SCAN_SECONDS,
                every=1.0,
            )
            rows = scanned(page)
        table = Table(title="Results of the scan", title_justify="left")
        for heading in ("File", "Format", "Rows", "Columns"):
            table.add_column(heading, justify="right" if heading in ("Rows", "Columns") else "left")
        for name, row in sorted(rows.items()):
            if row.get("error"):
                raise LocalError(f"The scan of {name} failed: {row['error']}")
            table.add_row(name, row["format"], f"{row['rows']:,}", str(len(row["columns"])))
        self._console.print(table)

    def _data_model(self) -> str:
        found = next((each for each in self._api.rows("/data-models") if each["name"] == DATA_MODEL), None)
        model = found or self._api.post("/data-models", {"name": DATA_MODEL, "description": "One row a customer"})
        self._step(f"Data model '{DATA_MODEL}'", reused=found)
        return str(model["id"])

    def _benchmark(self, data_set: DataSet, connector_id: str) -> str:
        page = self._api.get("/benchmarks", page_size=1000)
        found = next((each for each in page["data"] if each["name"] == data_set.title), None)
        benchmark = found or self._api.post(
            "/benchmarks",
            {
                "name": data_set.title,
                "description": "Rows that no model of the demo is trained on",
                "task": "binary_classification",
                "metrics": list(METRICS),
                "connectors": [
                    {
                        "connector_id": connector_id,
                        "files": [data_set.benchmark_file],
                        "target": data_set.target,
                    }
                ],
            },
        )
        self._step(f"Benchmark '{data_set.title}'", reused=found)
        return str(benchmark["id"])

    def _trainings(self, data_set: DataSet, connector_id: str, data_model_id: str) -> Iterator[DemoModel]:
        benchmark_id = self._benchmark(data_set, connector_id)
        page = self._api.get("/trainings", pageSize=1000)
        for architecture in ARCHITECTURES:
            name = training_name(data_set, architecture)
            usable = (each for each in page["data"] if each["name"] == name and each["status"] not in TERMINAL[1:])
            found = next(usable, None)
            training = found or self._api.post(
                "/trainings",
                {
                    "name": name,
                    "architecture": architecture,
                    "configuration": {},
                    "connectors": [
                        {
                            "connector_id": connector_id,
                            "files": [data_set.training_file],
                            "target": data_set.target,
                        }
                    ],
                    "data_model_id": data_model_id,
                    "benchmark_ids": [benchmark_id],
                    "gpu_count": 0,
                },
            )
            self._step(f"Training '{name}'", reused=found)
            yield DemoModel(data_set, architecture, benchmark_id, str(training["id"]))

    def _train(self, models: list[DemoModel]) -> None:
        """Waits for the trainings. Shows a live table on a terminal, or else one line for each change of a status."""
        deadline = time.monotonic() + TRAINING_SECONDS
        seen: dict[str, str] = {}
        with Live(console=self._console, refresh_per_second=4, transient=True) as live:
            while True:
                trainings = {model: self._api.get(f"/trainings/{model.training_id}") for model in models}
                for model, training in trainings.items():
                    if training["status"] != seen.get(model.training_id) and not self._console.is_terminal:
                        self._console.print(f"  {model.name}: {training['status']}")
                    seen[model.training_id] = training["status"]
                live.update(progress_table(trainings))
                if set(seen.values()) <= set(TERMINAL):
                    break
                if time.monotonic() > deadline:
                    raise LocalError(f"The trainings took longer than {TRAINING_SECONDS} s: {seen}")
                time.sleep(1.0)
        failed = {model.name: each for model, each in trainings.items() if each["status"] != "succeeded"}
        for name, training in failed.items():
            raise LocalError(f"Training '{name}' has status {training['status']}: {training.get('error')}")
        self._step(f"{len(models)} models trained")

    def _evaluations(self, models: list[DemoModel]) -> dict[DemoModel, Json]:
        """Waits for the evaluation of each model on its benchmark, and returns them all."""
        deadline = time.monotonic() + TRAINING_SECONDS
        while True:
            rows = list(self._api.rows("/evaluations"))
            found: dict[DemoModel, Json] = {}
            for model in models:
                training = self._api.get(f"/trainings/{model.training_id}")
                checkpoints = {checkpoint["id"] for checkpoint in training["checkpoints"]}
                candidates = (
                    row
                    for row in rows
                    if row["benchmark_id"] == model.benchmark_id and row["checkpoint_id"] in checkpoints
                )
                evaluation = next(candidates, None)
                if evaluation and evaluation["result"]["status"] in TERMINAL:
                    found[model] = evaluation
            if len(found) == len(models):
                break
            if time.monotonic() > deadline:
                raise LocalError(f"The evaluations took longer than {TRAINING_SECONDS} s: {rows}")
            time.sleep(1.0)
        for model, evaluation in found.items():
            if evaluation["result"]["status"] != "succeeded":
                raise LocalError(f"The evaluation of '{model.name}' failed: {evaluation['result'].get('error')}")
        self._step("Each model evaluated on rows that it was not trained on")
        # Lists omit the curves.
        return {model: self._api.get(f"/evaluations/{evaluation['id']}") for model, evaluation in found.items()}

    def _leaderboards(self, models: list[DemoModel]) -> None:
        for data_set in DATA_SETS:
            benchmark_id = next(model.benchmark_id for model in models if model.data_set is data_set)
            page = self._api.get(
                "/leaderboards",
                **{
                    "benchmarks": benchmark_id,
                    "order_by_metric.benchmark_id": benchmark_id,
                    "order_by_metric.metric_name": "roc_auc",
                },
            )
            table = Table(title=f"Leaderboard: {data_set.title}", title_justify="left")
            table.add_column("Rank", justify="right")
            table.add_column("Model")
            for metric in SHOWN_METRICS:
                table.add_column(metric, justify="right")
            table.add_column(f"{SHOWN_METRICS[0]}, 95%")
            for row in page["data"]:
                metrics = row["benchmarks"].get(benchmark_id, {})
                values = [metrics.get(metric) for metric in SHOWN_METRICS]
                interval = row["intervals"].get(benchmark_id, {}).get(SHOWN_METRICS[0])
                table.add_row(
                    str(row["rank"]),
                    row["architecture"],
                    *("-" if value is None else f"{value:.4f}" for value in values),
                    f"{interval['low']:.4f} to {interval['high']:.4f}" if interval else "-",
                )
            self._console.print(table)

    def _plot(self, models: list[DemoModel], evaluations: dict[DemoModel, Json]) -> None:
        from infra.local.demo_plot import plot, shown

        curves = {
            data_set.title: {
                model.architecture: evaluations[model]["result"] for model in models if model.data_set is data_set
            }
            for data_set in DATA_SETS
        }
        path = plot(curves, self._folder / "curves.png")
        self._step(f"ROC and KS curves of the models: {shown(path)}")

    def _step(self, text: str, *, reused: Any = None) -> None:
        self._console.print(f"✓ {text}{' (exists already)' if reused else ''}", highlight=False, markup=False)


def training_name(data_set: DataSet, architecture: str) -> str:
    return f"{data_set.title}, {architecture}"


def progress_table(trainings: dict[DemoModel, Json]) -> Table:
    """Returns a table of the trainings with the newest metric of each."""
    table = Table(title="Trainings", title_justify="left")
    for heading in ("Training", "Status", "Step", "Reported"):
        table.add_column(heading)
    for model, training in trainings.items():
        points = training.get("metrics") or []
        last = max(points, key=lambda point: point["step"], default=None)
        table.add_row(
            model.name,
            training["status"],
            str(last["step"]) if last else "",
            f"{last['name']} {last['value']:.4f}" if last else "",
        )
    return table


@contextmanager
def _stack(settings: LocalSettings, console: Console) -> Iterator[tuple[launcher.LocalStack | None, Outputs]]:
    """Yields the stack that runs already, or starts one and stops it at the end."""

    def report(text: str) -> None:
        console.print(f"· {text}", highlight=False, markup=False)

    if launcher.running(settings):
        report(f"Using the stack that runs on {settings.api_url}")
        yield None, deployed_outputs(settings)
        return
    stack = launcher.LocalStack(settings, report)
    outputs = stack.start().outputs
    try:
        yield stack, outputs
    finally:
        report("Stopping …")
        stack.stop()
