"""What the commands do in several requests: find or make things by name, upload, and watch trainings."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import httpx
from inference_client.api.benchmarks import create_benchmark
from inference_client.api.connectors import (
    create_connector,
    create_connector_uploads,
    list_connector_catalog,
    list_connectors,
)
from inference_client.api.data_models import create_data_model, list_data_models
from inference_client.api.leaderboards import list_leaderboards
from inference_client.api.trainings import create_training, get_training
from inference_client.client import AuthenticatedClient
from inference_client.models import (
    BenchmarkCreate,
    CatalogEntry,
    CatalogStatus,
    Connector,
    ConnectorCreate,
    DataModelCreate,
    JobStatus,
    LeaderboardRow,
    MetricName,
    Training,
    TrainingCreate,
    UploadRequest,
)
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

METRICS = ["roc_auc", "ks", "log_loss", "f1"]
RANKED_BY = MetricName.ROC_AUC
ENDED = (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.STOPPED)
PAUSE_SECONDS = 1.0
# After so long, an entry that has not changed describes the same content.
STALE_SECONDS = 30.0
# For one part of a file, not for all of it.
UPLOAD_SECONDS = 60.0
T = TypeVar("T")


class CommandError(Exception):
    """Error raised when a command can't go on. The message says what to do."""


def present(value: T | None) -> T:
    """Returns what a call returned. Errors were raised before, so it is there."""
    if value is None:
        raise CommandError("The API answered with a status that this client does not know. Install a newer client.")
    return value


def managed_connector(client: AuthenticatedClient, name: str) -> Connector:
    """Returns the managed connector with this name, and creates it the first time."""
    after = ""
    while True:
        page = present(list_connectors.sync(client=client, limit=100, after=after))
        for connector in page.data:
            if connector.name == name and connector.is_managed:
                return connector
        if not page.has_more:
            return present(
                create_connector.sync(client=client, body=ConnectorCreate.from_dict({"name": name, "type": "aws-s3"}))
            )
        after = page.data[-1].id


def catalog(client: AuthenticatedClient, connector_id: str) -> Iterator[CatalogEntry]:
    """Yields the entries of a connector's catalog."""
    page, has_more = 1, True
    while has_more:
        found = present(list_connector_catalog.sync(connector_id, client=client, page=page, page_size=100))
        yield from found.data
        page, has_more = page + 1, found.has_more


def upload(client: AuthenticatedClient, connector_id: str, paths: Sequence[Path]) -> None:
    """Uploads files directly to the storage, with a bar of the bytes."""
    files = {path.name: path for path in paths}
    request = UploadRequest.from_dict({"files": list(files)})
    forms = present(create_connector_uploads.sync(connector_id, client=client, body=request)).uploads
    with Progress(TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn()) as progress:
        for form in forms:
            path = files[form.file]
            with progress.open(path, "rb", description=f"Uploading {form.file}") as content:
                response = httpx.post(
                    form.url, data=form.fields.to_dict(), files={"file": (form.file, content)}, timeout=UPLOAD_SECONDS
                )
            if response.is_error:
                raise CommandError(f"The upload of {form.file} was refused ({response.status_code}): {response.text}")


def wait_for_scans(
    client: AuthenticatedClient, connector_id: str, names: Sequence[str], before: Sequence[CatalogEntry]
) -> list[CatalogEntry]:
    """Waits until a scan has read the files, and returns their entries. ``before`` holds those before the upload."""
    deadline = time.monotonic() + STALE_SECONDS
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), transient=True) as progress:
        progress.add_task(f"Reading {', '.join(names)}", total=None)
        while True:
            entries = [each for each in catalog(client, connector_id) if each.file in names]
            done = [each for each in entries if each not in before or time.monotonic() > deadline]
            if len(done) == len(set(names)) and all(each.status != CatalogStatus.PENDING for each in done):
                return done
            time.sleep(PAUSE_SECONDS)


def start_training(
    client: AuthenticatedClient,
    connector_id: str,
    files: Sequence[str],
    *,
    name: str,
    target: str,
    architecture: str,
    configuration: dict[str, Any],
) -> Training:
    """Starts a training, with a benchmark on the rows that it holds out."""
    source = [{"connector_id": connector_id, "files": list(files), "target": target}]
    benchmark = {
        "name": name,
        "description": f"Rows of {', '.join(files)} held out from the training",
        "task": "binary_classification",
        "metrics": METRICS,
        "connectors": source,
    }
    body = {
        "name": name,
        "architecture": architecture,
        "configuration": configuration,
        "connectors": source,
        "data_model_id": _data_model(client),
        "benchmark_ids": [present(create_benchmark.sync(client=client, body=BenchmarkCreate.from_dict(benchmark))).id],
        "gpu_count": 0,
    }
    return present(create_training.sync(client=client, body=TrainingCreate.from_dict(body)))


def _data_model(client: AuthenticatedClient) -> str:
    known = present(list_data_models.sync(client=client, limit=1)).data
    if known:
        return known[0].id
    return present(create_data_model.sync(client=client, body=DataModelCreate(name="Customers"))).id


def watch(client: AuthenticatedClient, training_id: str) -> tuple[Training, list[LeaderboardRow]]:
    """Shows the progress of a training and of its evaluation, and returns both when they have ended."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[latest]}"), TimeElapsedColumn())
    with Progress(*columns) as progress:
        bar = progress.add_task("waiting", total=None, latest="")

        def show(training: Training) -> bool:
            progress.update(bar, description=str(training.status), **_progress(training))
            return training.status in ENDED

        training = _until(lambda: present(get_training.sync(training_id, client=client)), show)
        if training.status != JobStatus.SUCCEEDED:
            return training, []
        progress.update(bar, description="evaluating", total=None, completed=0)
        benchmark_id = (training.benchmark_ids or [""])[0]
        rows = _until(lambda: ranking(client, benchmark_id), lambda rows: _is_ranked(rows, training_id, benchmark_id))
        progress.update(bar, description="done", total=1, completed=1)
        return training, rows


def _progress(training: Training) -> dict[str, Any]:
    """Returns how far a training is: the rounds that its job has reported, of those that it may take."""
    points = training.metrics or []
    if not points:
        return {"latest": ""}
    last = points[-1]
    most = training.configuration.to_dict().get("n_estimators")
    return {"latest": f"{last.name} {last.value:.4f} at round {last.step}", "total": most, "completed": last.step}


def _is_ranked(rows: list[LeaderboardRow], training_id: str, benchmark_id: str) -> bool:
    return any(row.training_id == training_id and benchmark_id in row.benchmarks for row in rows)


def _until(read: Callable[[], T], is_reached: Callable[[T], bool]) -> T:
    while not is_reached(found := read()):
        time.sleep(PAUSE_SECONDS)
    return found


def ranking(client: AuthenticatedClient, benchmark_id: str, metric: MetricName = RANKED_BY) -> list[LeaderboardRow]:
    """Returns the best models by a metric on a benchmark."""
    page = list_leaderboards.sync(
        client=client,
        limit=100,
        benchmarks=[benchmark_id],
        order_by_metric_benchmark_id=benchmark_id,
        order_by_metric_metric_name=metric,
    )
    return [row for row in present(page).data if benchmark_id in row.benchmarks]
