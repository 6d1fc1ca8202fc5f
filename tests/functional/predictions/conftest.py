"""A space with a model and files, in which a test runs the steps of prediction runs itself."""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import polars as pl
import pytest
from fastapi.testclient import TestClient

from functions.workflows.prediction.fail_prediction import fail_prediction
from functions.workflows.prediction.finish_prediction import finish_prediction
from functions.workflows.prediction.prepare_prediction import prepare_prediction
from functions.workflows.prediction.scoring import score_parts
from shared.errors import JobFailedError
from shared.models.checkpoint import Checkpoint
from shared.resources import Resources
from tests.fixtures.aws import BUCKET
from tests.fixtures.connectors import Lab
from tests.fixtures.evaluations import add_model
from tests.fixtures.trained_models import customers

# As the machine of the workflow does.
ATTEMPTS = 3


@dataclass
class Runs:
    """Prediction runs of one space. ``source`` and ``target`` are managed connectors."""

    lab: Lab
    checkpoint: Checkpoint
    source: str
    target: str

    def upload(self, name: str, content: bytes, connector_id: str | None = None) -> None:
        """Stores a file, and has it scanned."""
        connector_id = connector_id or self.source
        self.lab.deliver(self.lab.put(connector_id, name, content))
        self.lab.work(connector_id)

    def body(self, **changes: Any) -> dict[str, Any]:
        return {
            "checkpoint_id": self.checkpoint.id,
            "connector_id": self.source,
            "output": {"connector_id": self.target, "folder": "scores"},
            **changes,
        }

    def request(self, headers: dict[str, str] | None = None, **changes: Any) -> Any:
        return self.lab.client.post("/predictions", json=self.body(**changes), headers=headers)

    def start(self, **changes: Any) -> dict[str, Any]:
        response = self.request(**changes)
        assert response.status_code == 201, response.text
        run: dict[str, Any] = response.json()
        return run

    def get(self, run: dict[str, Any]) -> dict[str, Any]:
        response = self.lab.client.get(f"/predictions/{run['id']}")
        assert response.status_code == 200, response.text
        shown: dict[str, Any] = response.json()
        return shown

    def event(self, run: dict[str, Any]) -> dict[str, Any]:
        return {"space_id": self.lab.space_id, "prediction_id": run["id"]}

    def tasks(self, run: dict[str, Any]) -> list[dict[str, Any]]:
        """Runs the first step of the workflow, and returns the input of each task."""
        prepared = prepare_prediction(self.lab.resources, self.event(run))
        tasks = json.loads(self.lab.s3.get_object(Bucket=BUCKET, Key=prepared["tasks_key"])["Body"].read())
        return [{**prepared, "task": task} for task in tasks]

    def score(self, task: dict[str, Any]) -> None:
        """Runs a task as the map does: three times, and the others go on."""
        for _ in range(ATTEMPTS):
            try:
                score_parts(self.lab.resources, task)
            except JobFailedError:
                return
            except OSError:
                continue
            else:
                return

    def finish(self, run: dict[str, Any]) -> dict[str, Any]:
        """Runs the last step of the workflow, and returns the run."""
        try:
            finish_prediction(self.lab.resources, self.event(run))
        except JobFailedError as error:
            return self.fail(run, "JobFailedError", str(error))
        return self.get(run)

    def fail(self, run: dict[str, Any], error: str, message: str = "") -> dict[str, Any]:
        """Runs the step that records a failure, and returns the run."""
        cause = json.dumps({"errorType": error, "errorMessage": message})
        fail_prediction(self.lab.resources, {**self.event(run), "error": error, "cause": cause})
        return self.get(run)

    def work(self, run: dict[str, Any]) -> dict[str, Any]:
        """Runs the whole workflow, and returns the run."""
        for task in self.tasks(run):
            self.score(task)
        return self.finish(run)

    def names(self, folder: str = "scores/") -> list[str]:
        """Returns the files in the output's folder."""
        prefix = f"spaces/{self.lab.space_id}/connectors/{self.target}/{folder}"
        found = self.lab.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix)
        return [each["Key"].removeprefix(prefix) for each in found.get("Contents", [])]

    def output(self, name: str, folder: str = "scores/") -> bytes:
        key = f"spaces/{self.lab.space_id}/connectors/{self.target}/{folder}{name}"
        return bytes(self.lab.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())

    def scores(self) -> pl.DataFrame:
        """Returns the whole output."""
        parts = [name for name in self.names() if name.endswith(".parquet")]
        return pl.concat([pl.read_parquet(io.BytesIO(self.output(name))) for name in parts])

    def online(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Returns the predictions of the same rows by a request."""
        response = self.lab.client.post(f"/checkpoints/{self.checkpoint.id}/predictions", json={"rows": rows})
        assert response.status_code == 200, response.text
        predictions: list[dict[str, Any]] = response.json()["predictions"]
        return predictions


def table(rows: int, seed: int = 8, first: int = 1) -> pl.DataFrame:
    """Returns customers with their numbers, which begin with ``first``."""
    return customers(rows, seed).drop("bought").with_row_index("customer_id", first)


def csv(frame: pl.DataFrame) -> bytes:
    return frame.write_csv().encode()


def parquet(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


@pytest.fixture
def runs(client: TestClient, resources: Resources, scoring_model: bytes) -> Runs:
    lab = Lab(client, resources)
    checkpoint = add_model(resources.table, lab.space_id, scoring_model)
    return Runs(lab, checkpoint, lab.connector(name="In"), lab.connector(name="Out"))


PartSize = Callable[[int, int], None]


@pytest.fixture
def part_size(monkeypatch: pytest.MonkeyPatch) -> PartSize:
    """Returns a function that sets how many rows a part and a batch have."""

    def set_size(rows: int, batch: int) -> None:
        monkeypatch.setattr("functions.predictions.service.PART_ROWS", rows)
        monkeypatch.setattr("shared.runs.tasks.BATCH_ROWS", batch)

    return set_size
