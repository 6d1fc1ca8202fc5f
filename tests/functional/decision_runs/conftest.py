"""A space with actions, a model and files, in which a test runs the steps of decision runs itself."""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import polars as pl
import pytest
from fastapi.testclient import TestClient

from functions.workflows.decision_run.fail_decision_run import fail_decision_run
from functions.workflows.decision_run.finish_decision_run import finish_decision_run
from shared.errors import JobFailedError
from shared.models.checkpoint import Checkpoint, CheckpointInput
from shared.propensity.artifacts import read_checkpoint_metadata
from shared.resources import Resources
from tests.fixtures.aws import BUCKET
from tests.fixtures.clocks import MovableClock
from tests.fixtures.connectors import Lab
from tests.fixtures.decision_runs import decide
from tests.fixtures.evaluations import add_model
from tests.fixtures.trained_models import customers


@dataclass
class Runs:
    """Decision runs of one space. ``source`` and ``target`` are managed connectors."""

    lab: Lab
    checkpoint: Checkpoint
    source: str
    target: str

    @property
    def client(self) -> TestClient:
        return self.lab.client

    def upload(self, name: str, frame: pl.DataFrame) -> None:
        """Stores a file, and has it scanned."""
        buffer = io.BytesIO()
        frame.write_parquet(buffer)
        self.lab.deliver(self.lab.put(self.source, name, buffer.getvalue()))
        self.lab.work(self.source)

    def action(self, name: str, **fields: Any) -> str:
        offer = {"name": name, "description": "", "priority": "medium", "type": "offer", "status": "active", **fields}
        created = self.client.post("/actions", json=offer)
        assert created.status_code == 201, created.text
        return str(created.json()["id"])

    def body(self, **changes: Any) -> dict[str, Any]:
        output = {} if changes.get("dry_run") else {"output": {"connector_id": self.target, "folder": "offers"}}
        return {"connector_id": self.source, **output, **changes}

    def request(self, headers: dict[str, str] | None = None, **changes: Any) -> Any:
        return self.client.post("/decision-runs", json=self.body(**changes), headers=headers)

    def start(self, **changes: Any) -> dict[str, Any]:
        response = self.request(**changes)
        assert response.status_code == 201, response.text
        run: dict[str, Any] = response.json()
        return run

    def get(self, run: dict[str, Any]) -> dict[str, Any]:
        shown: dict[str, Any] = self.client.get(f"/decision-runs/{run['id']}").json()
        return shown

    def post(self, run: dict[str, Any], verb: str) -> Any:
        return self.client.post(f"/decision-runs/{run['id']}/{verb}")

    def summary(self, run: dict[str, Any], **query: str) -> dict[str, Any]:
        response = self.client.get(f"/decision-runs/{run['id']}/summary", params=query)
        assert response.status_code == 200, response.text
        summary: dict[str, Any] = response.json()
        return summary

    def event(self, run: dict[str, Any]) -> dict[str, Any]:
        return {"space_id": self.lab.space_id, "decision_run_id": run["id"]}

    def decide(self, run: dict[str, Any]) -> None:
        """Runs the first steps of the workflow: all parts are decided."""
        decide(self.lab.resources, self.event(run))

    def finish(self, run: dict[str, Any]) -> dict[str, Any]:
        """Runs the last step of the workflow, and returns the run."""
        try:
            finish_decision_run(self.lab.resources, self.event(run))
        except JobFailedError as error:
            cause = json.dumps({"errorType": "JobFailedError", "errorMessage": str(error)})
            fail_decision_run(self.lab.resources, {**self.event(run), "error": "JobFailedError", "cause": cause})
        return self.get(run)

    def work(self, run: dict[str, Any]) -> dict[str, Any]:
        self.decide(run)
        return self.finish(run)

    def done(self, **changes: Any) -> dict[str, Any]:
        """Returns a run that has succeeded."""
        ended = self.work(self.start(**changes))
        assert ended["status"] == "succeeded", ended["error"]
        return ended

    def offers(self, folder: str = "offers") -> pl.DataFrame:
        """Returns the whole output."""
        prefix = f"spaces/{self.lab.space_id}/connectors/{self.target}/{folder}/"
        found = self.lab.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
        keys = [each["Key"] for each in found if each["Key"].endswith(".parquet")]
        bodies = [self.lab.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys]
        return pl.concat([pl.read_parquet(io.BytesIO(body)) for body in bodies])

    def online(self, row: dict[str, Any], **fields: Any) -> dict[str, Any]:
        response = self.client.post("/insights", json={"client": row, "wording": "none", **fields})
        assert response.status_code == 200, response.text
        insight: dict[str, Any] = response.json()
        return insight


def table(rows: int, first: int = 1, seed: int = 8) -> pl.DataFrame:
    """Returns customers with their numbers."""
    return customers(rows, seed).drop("bought").with_row_index("customer_id", first)


@pytest.fixture
def runs(client: TestClient, resources: Resources, clock: MovableClock, scoring_model: bytes) -> Runs:
    lab = Lab(client, resources)
    read = read_checkpoint_metadata(io.BytesIO(scoring_model)).features.features
    inputs = [CheckpointInput(name=column.name, type=column.kind) for column in read]
    checkpoint = add_model(resources.table, lab.space_id, scoring_model, inputs=inputs)
    return Runs(lab, checkpoint, lab.connector(name="In"), lab.connector(name="Out"))


PartSize = Callable[[int, int], None]


@pytest.fixture
def part_size(monkeypatch: pytest.MonkeyPatch) -> PartSize:
    """Returns a function that sets how many rows a part and a batch have."""

    def set_size(rows: int, batch: int) -> None:
        monkeypatch.setattr("functions.decision_runs.service.PART_ROWS", rows)
        monkeypatch.setattr("shared.runs.tasks.BATCH_ROWS", batch)

    return set_size
