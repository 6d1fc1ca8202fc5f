"""Tests that the jobs of deleted spaces are stopped and that the data of deleted spaces is purged."""

from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError
from fastapi.testclient import TestClient

from functions.events.job_state_changed import job_state_changed
from functions.events.purge_spaces import PurgeError, SpacePurge
from functions.events.reconcile_jobs import reconcile_jobs
from shared.dynamodb.table import Key, Table
from shared.errors import NotFoundError
from shared.jobs.store import Jobs
from shared.models.job_status import JobStatus
from shared.resources import Resources
from shared.spaces.store import RESTORABLE, Spaces
from shared.trainings.store import Trainings
from tests.fixtures.aws import BUCKET
from tests.fixtures.clocks import MovableClock
from tests.fixtures.evaluations import add_checkpoint
from tests.fixtures.inference_logs import call
from tests.fixtures.sagemaker import FakeSageMaker
from tests.fixtures.spaces import ACCESS_KEYS, fill, held_by_aws
from tests.fixtures.trainings import active_uses, add_benchmark, space_of, training_request
from tests.fixtures.upstream import FakeUpstream
from tests.functional.conftest import same_caller
from tests.functional.spaces.deletion.helpers import InterruptedTable, contents, space_path, spaces_of


def start_jobs(client: TestClient, table: Table) -> tuple[dict[str, Any], dict[str, Any]]:
    """Creates a running training and a pending evaluation and returns both."""
    training = client.post("/trainings", json=training_request(client, table)).json()
    Trainings(table).advance(space_of(client), training["id"], JobStatus.RUNNING)
    benchmark = add_benchmark(client, training["connectors"][0]["connector_id"])
    checkpoint = add_checkpoint(table, space_of(client)).id
    body = {"benchmark_id": benchmark, "checkpoint_id": checkpoint, "gpu_count": 0}
    return training, client.post("/evaluations", json=body).json()


def execution_statuses() -> list[str]:
    steps = boto3.client("stepfunctions")
    return [
        execution["status"]
        for machine in steps.list_state_machines()["stateMachines"]
        for execution in steps.list_executions(stateMachineArn=machine["stateMachineArn"])["executions"]
    ]


@pytest.mark.row("SP-2", "TR-5")
def test_the_jobs_of_a_deleted_space_are_stopped(
    client: TestClient, other_client: TestClient, resources: Resources, table: Table
) -> None:
    sagemaker = FakeSageMaker()
    client = same_caller(client, Resources(resources.settings, sagemaker=sagemaker))
    training, evaluation = start_jobs(client, table)
    others, _ = start_jobs(other_client, table)
    job = f"training-{training['id']}-1"
    sagemaker.run(job)
    client.delete(space_path(client))
    assert sorted(execution_statuses()) == ["ABORTED", "ABORTED", "RUNNING", "RUNNING"]
    assert sagemaker.jobs[job]["TrainingJobStatus"] == "Stopping"

    reconcile_jobs(resources, 30)
    sagemaker.run(job, "Stopped")
    event = {"source": "aws.sagemaker", "detail": {"TrainingJobName": job, "TrainingJobStatus": "Stopped"}}
    job_state_changed(event, resources)
    reconcile_jobs(resources, 30)
    assert {found.space_id for found in Jobs(table).open_jobs()} == {space_of(other_client)}

    client.post(f"{space_path(client)}/restore")
    stopped = client.get(f"/trainings/{training['id']}").json()
    assert (stopped["status"], stopped["error"]) == ("stopped", "Its space was deleted.")
    result = client.get(f"/evaluations/{evaluation['id']}").json()["result"]
    assert (result["status"], result["error"]) == ("stopped", "Its space was deleted.")
    assert active_uses(table, "data_model", space_of(client), training["data_model_id"]) == 0
    assert other_client.get(f"/trainings/{others['id']}").json()["status"] == "running"


class Unreachable:
    """AWS client that cannot reach AWS."""

    def __getattr__(self, operation: str) -> Any:
        raise EndpointConnectionError(endpoint_url="https://states.test")


@pytest.mark.row("SP-2")
def test_a_space_is_deleted_when_its_jobs_cannot_be_stopped_yet(
    client: TestClient, resources: Resources, table: Table
) -> None:
    training, _ = start_jobs(client, table)
    offline_client = same_caller(client, Resources(resources.settings, step_functions=Unreachable()))
    assert offline_client.delete(space_path(client)).status_code == 200
    assert client.get(space_path(client)).status_code == 404

    reconcile_jobs(resources, 30)
    assert execution_statuses() == ["ABORTED", "ABORTED"]
    reconcile_jobs(resources, 30)
    assert list(Jobs(table).open_jobs()) == []
    client.post(f"{space_path(client)}/restore")
    assert client.get(f"/trainings/{training['id']}").json()["status"] == "stopped"


def remaining_keys(space_id: str) -> list[str]:
    """Returns the keys of all data in AWS with the id of the space in the key or in the value."""
    found = [key for key, item in held_by_aws().items() if space_id in key or space_id in str(item)]
    versions = boto3.client("s3").list_object_versions(Bucket=BUCKET)
    old = [each["Key"] for each in [*versions.get("Versions", []), *versions.get("DeleteMarkers", [])]]
    return found + [key for key in old if space_id in key]


def add_audit_row(resources: Resources, client: TestClient) -> None:
    """Creates a data model and adds the row to the audit log that the stream would cause."""
    made = client.post("/data-models", json={"name": "Audited"}).json()
    resources.audit_logs.record([(None, resources.table.get(Key(f"data_model#{space_of(client)}", made["id"])))])


@pytest.mark.row("SP-2")
def test_a_purge_removes_all_data_of_the_space_and_no_other_data(
    client: TestClient,
    other_client: TestClient,
    members: list[TestClient],
    resources: Resources,
    clock: MovableClock,
    upstream: FakeUpstream,
) -> None:
    for each in (client, other_client):
        fill(each, resources, upstream.url)
        add_audit_row(resources, each)
    theirs = held_by_aws(about=space_of(other_client))
    assert len(theirs) > 100
    client.delete(space_path(client))
    clock.now += RESTORABLE - timedelta(minutes=1)
    assert SpacePurge(resources).run(60) == 0
    assert len(contents(client)) > 100

    clock.now += timedelta(minutes=2)
    assert SpacePurge(resources).run(60) == 1
    assert remaining_keys(space_of(client)) == []
    assert held_by_aws(about=space_of(other_client)) == theirs
    assert client.post(f"{space_path(client)}/restore").status_code == 404
    assert all(len(spaces_of(member)) == 1 for member in members)
    assert SpacePurge(resources).run(60) == 0


class InterruptedPurgeError(Exception):
    """Error that simulates the sudden end of the function."""


@pytest.mark.row("SP-2")
@pytest.mark.parametrize("calls", [1, 3, 5, 8, 11, 14])
def test_the_next_run_completes_an_interrupted_purge(
    client: TestClient, resources: Resources, clock: MovableClock, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    _fill_a_little(client, resources)
    client.delete(space_path(client))
    clock.now += RESTORABLE + timedelta(minutes=1)
    left = calls

    def interrupt(*_: Any, **__: Any) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise InterruptedPurgeError

    events = resources.dynamodb.meta.events
    events.register("before-call", interrupt)
    resources.s3.meta.events.register("before-call", interrupt)
    with pytest.raises((InterruptedPurgeError, PurgeError)):
        SpacePurge(resources).run(60)
    SpacePurge(resources).run(60)
    assert left < 0
    assert remaining_keys(space_of(client)) == []


@pytest.mark.row("SE-4")
def test_a_space_that_cannot_be_removed_keeps_no_other_space(
    client: TestClient, other_client: TestClient, resources: Resources, clock: MovableClock
) -> None:
    for each in (client, other_client):
        _fill_a_little(each, resources)
        each.delete(space_path(each))
        clock.now += timedelta(minutes=1)
    clock.now += RESTORABLE

    def refuse(params: dict[str, Any], **_: Any) -> None:
        if space_of(client) in params["Prefix"]:
            raise InterruptedPurgeError

    resources.s3.meta.events.register("provide-client-params.s3.ListObjectVersions", refuse)
    with pytest.raises(PurgeError):
        SpacePurge(resources).run(60)
    assert remaining_keys(space_of(other_client)) == []
    assert remaining_keys(space_of(client)) != []


@pytest.mark.row("SP-2", "EN-5")
def test_a_secret_that_cannot_be_removed_keeps_no_other_space(
    client: TestClient, other_client: TestClient, resources: Resources, clock: MovableClock
) -> None:
    for each in (client, other_client):
        _fill_a_little(each, resources)
        each.delete(space_path(each))
    clock.now += RESTORABLE + timedelta(minutes=1)
    [connector_id] = [key.rpartition(" ")[2] for key in contents(client) if f" connector#{space_of(client)} " in key]
    is_refused = True

    def refuse(params: dict[str, Any], **_: Any) -> None:
        if is_refused and connector_id in params["Name"]:
            raise InterruptedPurgeError

    resources.ssm.meta.events.register("provide-client-params.ssm.DeleteParameter", refuse)
    for _ in range(2):
        with pytest.raises(PurgeError):
            SpacePurge(resources).run(60)
        assert remaining_keys(space_of(other_client)) == []
        assert remaining_keys(space_of(client)) != []
    is_refused = False
    assert SpacePurge(resources).run(60) == 1
    assert remaining_keys(space_of(client)) == []


def _fill_a_little(client: TestClient, resources: Resources) -> None:
    client.post("/connectors", json={"name": "Theirs", "type": "aws-s3", "s3": ACCESS_KEYS})
    client.post("/personas", json={"name": "Ada", "birthdate": "1815-12-10", "notes": ""})
    resources.s3.put_object(Bucket=BUCKET, Key=f"spaces/{space_of(client)}/chats/1/2.json", Body=b"{}")
    resources.inference_logs.record(space_of(client), call(datetime.now(UTC), tags=["first"]))


@pytest.mark.row("SP-2")
def test_a_space_that_is_restored_just_before_the_deadline_is_not_purged(
    client: TestClient, resources: Resources, table: Table, clock: MovableClock
) -> None:
    owner_id = client.get("/me").json()["id"]
    client.delete(space_path(client))
    spaces = Spaces(table, clock)
    clock.now += RESTORABLE - timedelta(seconds=1)
    late = Spaces(InterruptedTable(table, 0, lambda: pass_deadline(clock)), clock)
    late.restore(space_of(client), owner_id)
    spaces.move_memberships(space_of(client))
    assert SpacePurge(resources).run(60) == 0
    assert client.get(space_path(client)).status_code == 200


def pass_deadline(clock: MovableClock) -> None:
    """Moves the clock past the time in which a space can be restored."""
    clock.now += timedelta(minutes=1)


@pytest.mark.row("SP-2")
def test_a_space_cannot_be_restored_after_its_purge_has_started(
    client: TestClient, table: Table, clock: MovableClock
) -> None:
    owner_id = client.get("/me").json()["id"]
    client.delete(space_path(client))
    clock.now += RESTORABLE - timedelta(seconds=1)
    spaces = Spaces(table, clock)

    def close() -> None:
        clock.now += timedelta(minutes=1)
        assert [spaces.close(space) for space in spaces.due()] == [True]

    with pytest.raises(NotFoundError):
        Spaces(InterruptedTable(table, 0, close), clock).restore(space_of(client), owner_id)
    assert client.get(space_path(client)).status_code == 404
