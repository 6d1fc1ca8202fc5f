"""Tests that scans and evaluations follow their executions and SageMaker jobs."""

from dataclasses import dataclass
from typing import Any

import boto3
import pytest
from fastapi.testclient import TestClient

from functions.events.job_state_changed import job_state_changed
from functions.events.reconcile_jobs import reconcile_jobs
from shared.connectors.scan_store import Scans
from shared.dynamodb.table import Table
from shared.models.connector import Scan, ScanScope
from shared.models.job_status import JobStatus
from shared.resources import Resources
from shared.trainings.store import Trainings
from tests.fixtures.evaluations import add_checkpoint, add_connector
from tests.fixtures.trainings import add_benchmark, space_of, training_request
from tests.functional.events.helpers import START, World, execution_event, sagemaker_event


def test_a_training_is_stopped_when_its_execution_in_step_functions_is_stopped(
    client: TestClient, resources: Resources, table: Table
) -> None:
    """A fake of Step Functions, as in the other tests, could differ from the real service."""
    training = client.post("/trainings", json=training_request(client, table)).json()
    assert resources.settings.training_state_machine_arn
    arn = f"{resources.settings.training_state_machine_arn.replace('stateMachine', 'execution')}:{training['id']}"
    boto3.client("stepfunctions").stop_execution(executionArn=arn, cause="An operator did it.")
    reconcile_jobs(resources, 30)
    shown = client.get(f"/trainings/{training['id']}").json()
    assert shown["status"] == "stopped"


@dataclass
class ScanWorld:
    world: World
    connector_id: str
    scan_id: str

    def scan(self) -> Scan:
        return Scans(self.world.table).get(space_of(self.world.client), self.scan_id)

    def connector_scan_id(self) -> str | None:
        connector = Scans(self.world.table).connectors.get(space_of(self.world.client), self.connector_id)
        return connector.scan_id


@pytest.fixture
def scanned(world: World) -> ScanWorld:
    Trainings(world.table).end(space_of(world.client), world.id, JobStatus.FAILED, {})
    connector_id = add_connector(world.table, space_of(world.client))
    scan = world.resources.connector_scans.request(space_of(world.client), connector_id, ScanScope.ALL)
    return ScanWorld(world, connector_id, scan.id)


@pytest.mark.row("Y-9")
def test_a_scan_fails_and_its_connector_becomes_free_when_the_workflow_times_out(scanned: ScanWorld) -> None:
    world = scanned.world
    world.reconcile()
    assert (scanned.scan().status, scanned.connector_scan_id()) == ("pending", scanned.scan_id)
    world.steps.end(scanned.scan_id, "TIMED_OUT", "States.Timeout")
    for _ in range(2):
        job_state_changed(execution_event(scanned.scan_id), world.resources)
        scan = scanned.scan()
        assert (scan.status, scanned.connector_scan_id(), world.open_jobs()) == ("failed", None, [])
        assert scan.error
        assert "exceeded its time limit" in scan.error


@pytest.mark.row("Y-9", "CN-4")
def test_a_requested_scan_starts_when_the_running_scan_has_failed(scanned: ScanWorld) -> None:
    world = scanned.world
    space_id, scans = space_of(world.client), world.resources.connector_scans
    scans.request_files(space_id, scanned.connector_id, ["a.csv"])
    scans.request(space_id, scanned.connector_id, ScanScope.ALL)
    world.steps.end(scanned.scan_id, "FAILED", "Lost")
    world.reconcile()
    assert scans.catalog.states(space_id, scanned.connector_id)["a.csv"].status == "error"
    [following] = world.open_jobs()
    assert following not in (scanned.scan_id, None)
    assert world.steps.executions[following]["input"]["connector_id"] == scanned.connector_id


@pytest.mark.row("EV-1", "Y-9")
@pytest.mark.parametrize(("ended", "wanted"), [("FAILED", "failed"), ("ABORTED", "stopped"), ("SUCCEEDED", "failed")])
def test_an_evaluation_follows_its_job_and_ends_with_its_execution(world: World, ended: str, wanted: str) -> None:
    space_id = space_of(world.client)
    Trainings(world.table).end(space_id, world.id, JobStatus.SUCCEEDED, {})
    benchmark_id = add_benchmark(world.client, world.training["connectors"][0]["connector_id"])
    checkpoint_id = add_checkpoint(world.table, space_id).id
    body = {"benchmark_id": benchmark_id, "checkpoint_id": checkpoint_id, "gpu_count": 0}
    created = world.client.post("/evaluations", json=body)
    assert created.status_code == 201, created.text
    evaluation_id = created.json()["id"]
    job = f"evaluation-{evaluation_id}-1"
    world.sagemaker.run(job, TrainingStartTime=START)
    job_state_changed(sagemaker_event(job), world.resources)

    def result() -> dict[str, Any]:
        found: dict[str, Any] = world.client.get(f"/evaluations/{evaluation_id}").json()["result"]
        return found

    assert result()["status"] == "running"
    world.steps.end(evaluation_id, ended, "Lost", "")
    for _ in range(2):
        world.reconcile()
        assert result()["status"] == wanted
        assert result()["error"]
    assert world.open_jobs() == []
    assert world.sagemaker.jobs[job]["TrainingJobStatus"] == "Stopping"
