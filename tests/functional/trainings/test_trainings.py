import json
from typing import Any

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError
from fastapi.testclient import TestClient

from shared.dynamodb.table import Key, Table
from shared.jobs.store import Jobs
from shared.models.job_status import JobStatus
from shared.resources import Resources
from shared.trainings.store import Trainings
from tests.fixtures.aws import state_machine_arn
from tests.fixtures.evaluations import add_connector
from tests.fixtures.sagemaker import FakeSageMaker
from tests.fixtures.trainings import active_uses, add_benchmark, space_of, training_request
from tests.functional.conftest import same_caller

UNKNOWN = "01a2081a-1610-752b-8cc0-d52dcf52e48d"


def execution_arn(training_id: str) -> str:
    return f"{state_machine_arn('training').replace('stateMachine', 'execution')}:{training_id}"


def create(client: TestClient, table: Table, **changes: Any) -> dict[str, Any]:
    response = client.post("/trainings", json=training_request(client, table, **changes))
    assert response.status_code == 201, response.text
    created: dict[str, Any] = response.json()
    return created


@pytest.fixture
def trainings(table: Table) -> Trainings:
    return Trainings(table)


@pytest.mark.row("TR-2")
def test_a_new_training_is_pending_and_starts_an_execution_of_its_name(client: TestClient, table: Table) -> None:
    training = create(client, table)
    assert training["status"] == "pending"
    assert training["created_at"] == training["updated_at"]
    assert (training["checkpoints"], training["metrics"], training["benchmark_ids"]) == ([], [], [])

    execution = boto3.client("stepfunctions").describe_execution(executionArn=execution_arn(training["id"]))
    assert json.loads(execution["input"]) == {"space_id": space_of(client), "training_id": training["id"]}
    assert client.get(f"/trainings/{training['id']}").json() == training
    assert client.get("/trainings").json() == {"count": 1, "data": [training], "has_more": False}


@pytest.mark.row("TR-2")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "resnet"}, "choose one of auto, additive, lightgbm, xgboost"),
        ({"configuration": {"learning_rat": 0.1}}, "did you mean 'learning_rate'?"),
        ({"configuration": {"learning_rate": 7}}, "body.configuration.learning_rate"),
        ({"gpu_count": -1}, "body.gpu_count"),
        ({"architecture": "xgboost", "gpu_count": 9}, "at most 8 GPUs"),
        ({"gpu_count": "1"}, "body.gpu_count"),
        ({"instance_count": 0}, "body.instance_count"),
        ({"architecture": "xgboost", "instance_count": 5}, "at most 4 instances"),
        ({"connectors": []}, "body.connectors"),
        ({"connectors": [{"connector_id": UNKNOWN, "target": "y"}]}, f"there is no connector '{UNKNOWN}'"),
        ({"data_model_id": UNKNOWN}, f"there is no data model '{UNKNOWN}'"),
        ({"benchmark_ids": [UNKNOWN]}, f"there is no benchmark '{UNKNOWN}'"),
        ({"name": None}, "body.name"),
    ],
)
def test_an_invalid_training_is_refused_with_the_reason_and_stores_nothing(
    client: TestClient, table: Table, changes: dict[str, Any], message: str
) -> None:
    body = training_request(client, table)
    refused = client.post("/trainings", json={**body, **changes})
    assert refused.status_code == 400, refused.text
    assert message in refused.json()["error"]
    assert client.get("/trainings").json()["count"] == 0
    assert list(Jobs(table).open_jobs()) == []
    assert active_uses(table, "connector", space_of(client), body["connectors"][0]["connector_id"]) == 0
    assert active_uses(table, "data_model", space_of(client), body["data_model_id"]) == 0


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([{}, {}], "name the column to learn"),
        ([{"target": "a"}, {"target": "b"}], "one target column, not a, b"),
        ([{"target": "a", "positive_label": "x"}, {"positive_label": "y"}], "one positive_label, not x, y"),
    ],
)
def test_connectors_without_a_common_target_and_positive_label_are_refused(
    client: TestClient, table: Table, parts: list[dict[str, Any]], message: str
) -> None:
    connectors = [{"id": add_connector(table, space_of(client)), **part} for part in parts]
    refused = client.post("/trainings", json=training_request(client, table, connectors=connectors))
    assert refused.status_code == 400
    assert message in refused.json()["error"]


@pytest.mark.row("C-12")
def test_a_repeated_request_returns_the_first_training_and_starts_one_execution(
    client: TestClient, table: Table
) -> None:
    body = training_request(client, table)
    headers = {"Idempotency-Key": "once"}
    first, second = (client.post("/trainings", json=body, headers=headers) for _ in range(2))
    assert (second.status_code, second.json()) == (201, first.json())
    assert client.get("/trainings").json()["count"] == 1
    assert active_uses(table, "data_model", space_of(client), body["data_model_id"]) == 1
    assert client.post("/trainings", json={**body, "name": "Other"}, headers=headers).status_code == 409
    executions = boto3.client("stepfunctions").list_executions(stateMachineArn=state_machine_arn("training"))
    assert len(executions["executions"]) == 1


@pytest.mark.row("TR-2")
def test_a_training_is_kept_for_the_reconciler_when_its_workflow_cannot_be_started(
    client: TestClient, table: Table, resources: Resources
) -> None:
    class Down:
        def start_execution(self, **_: Any) -> None:
            raise EndpointConnectionError(endpoint_url="https://states.test")

    training = create(same_caller(client, Resources(resources.settings, step_functions=Down())), table)
    assert training["status"] == "pending"
    assert [job.id for job in Jobs(table).open_jobs()] == [training["id"]]


@pytest.mark.row("TR-1", "C-8")
def test_trainings_are_listed_by_page_number(client: TestClient, table: Table) -> None:
    body = training_request(client, table)
    made = [client.post("/trainings", json={**body, "name": str(number)}).json()["id"] for number in range(5)]
    first = client.get("/trainings", params={"pageSize": 2}).json()
    assert ([each["id"] for each in first["data"]], first["count"], first["has_more"]) == (made[:2:-1], 5, True)
    last = client.get("/trainings", params={"pageSize": 2, "page": 3}).json()
    assert ([each["id"] for each in last["data"]], last["has_more"]) == (made[:1], False)
    beyond = client.get("/trainings", params={"page_size": 2, "page": 9}).json()
    assert (beyond["data"], beyond["count"], beyond["has_more"]) == ([], 5, False)
    assert client.get("/trainings", params={"page": 0}).status_code == 400


@pytest.mark.row("TR-4", "C-11")
def test_every_field_of_a_training_can_change_before_its_start(client: TestClient, table: Table) -> None:
    training = create(client, table)
    address = f"/trainings/{training['id']}"
    known = training["connectors"][0]["connector_id"]
    benchmark_id = add_benchmark(client, known)

    assert client.put(address, json={}).json() == training
    changed = client.put(
        address,
        json={
            "name": "Second",
            "architecture": "xgboost",
            "configuration": {"gamma": 1},
            "benchmark_ids": [benchmark_id],
            "connector": {"connector_id": known, "files": ["a.csv"]},
        },
    )
    assert changed.status_code == 200, changed.text
    after = changed.json()
    assert (after["name"], after["architecture"], after["configuration"]) == ("Second", "xgboost", {"gamma": 1})
    assert after["benchmark_ids"] == [benchmark_id]
    assert [(each["target"], each["files"]) for each in after["connectors"]] == [("churned", ["a.csv"])]
    assert client.get(address).json() == after
    assert client.patch(address, json={"benchmark_ids": None}).json()["benchmark_ids"] == []
    for required in ("name", "architecture", "configuration", "connector"):
        assert client.put(address, json={required: None}).status_code == 400
    wrong = client.put(address, json={"architecture": "lightgbm"})
    assert wrong.status_code == 400, "lightgbm has no setting gamma"
    assert client.get(address).json()["architecture"] == "xgboost"


@pytest.mark.row("TR-4")
def test_an_added_connector_gets_a_reference_and_a_changed_connector_no_second_one(
    client: TestClient, table: Table
) -> None:
    training = create(client, table)
    address, space_id = f"/trainings/{training['id']}", space_of(client)
    known, added = training["connectors"][0]["connector_id"], add_connector(table, space_id)
    for _ in range(2):
        assert client.put(address, json={"connector": {"id": added, "files": ["b.csv"]}}).status_code == 200
    assert client.put(address, json={"connector": {"id": known, "target": "left"}}).json()["connectors"][0][
        "target"
    ] == ("left")
    assert (active_uses(table, "connector", space_id, known), active_uses(table, "connector", space_id, added)) == (
        1,
        1,
    )
    unknown = client.put(address, json={"connector": {"id": UNKNOWN}})
    assert (unknown.status_code, unknown.json()["details"][0]["field"]) == (400, "body.connector")
    client.delete(address)
    assert (active_uses(table, "connector", space_id, known), active_uses(table, "connector", space_id, added)) == (
        0,
        0,
    )


@pytest.mark.row("TR-4")
@pytest.mark.parametrize("status", [status for status in JobStatus if status is not JobStatus.PENDING])
def test_only_the_name_and_the_benchmarks_can_change_after_the_start(
    client: TestClient, table: Table, trainings: Trainings, status: JobStatus
) -> None:
    training = create(client, table)
    move(trainings, space_of(client), training["id"], status)
    address = f"/trainings/{training['id']}"
    connector_id = training["connectors"][0]["connector_id"]
    definition: tuple[dict[str, Any], ...] = (
        {"architecture": "xgboost"},
        {"configuration": {}},
        {"connector": {"id": connector_id}},
    )
    for change in definition:
        refused = client.put(address, json={**change, "name": "Half"})
        assert refused.status_code == 409
        assert f"The training is {status}" in refused.json()["error"]
    benchmark_id = add_benchmark(client, connector_id)
    changed = client.put(address, json={"name": "Renamed", "benchmark_ids": [benchmark_id]}).json()
    assert (changed["name"], changed["benchmark_ids"], changed["status"]) == ("Renamed", [benchmark_id], status)
    assert changed["architecture"] == "lightgbm"


def move(trainings: Trainings, space_id: str, training_id: str, status: JobStatus) -> None:
    if status.is_final:
        trainings.end(space_id, training_id, status, {})
    else:
        trainings.advance(space_id, training_id, status)


@pytest.mark.row("C-13")
def test_the_second_of_two_updates_with_the_same_etag_is_refused(client: TestClient, table: Table) -> None:
    training = create(client, table)
    address = f"/trainings/{training['id']}"
    tag = client.get(address).headers["ETag"]

    def put(name: str) -> int:
        status: int = client.put(address, json={"name": name}, headers={"If-Match": tag}).status_code
        return status

    assert [put("A"), put("B")] == [200, 412]
    assert client.put(address, json={"name": "C"}).status_code == 200


@pytest.mark.row("C-2", "TR-3")
def test_a_training_of_another_space_is_unknown(client: TestClient, other_client: TestClient, table: Table) -> None:
    training = create(client, table)
    address = f"/trainings/{training['id']}"
    for method in ("GET", "DELETE", "PUT"):
        foreign = other_client.request(method, address, json={"name": "Mine"} if method == "PUT" else None)
        random = other_client.request(method, f"/trainings/{UNKNOWN}", json={} if method == "PUT" else None)
        assert foreign.status_code == random.status_code == 404
        assert foreign.json()["error"] == random.json()["error"]
    assert other_client.get(address, params={"include_deleted": True}).status_code == 404
    assert client.get(address).json() == training
    body = training_request(other_client, table, connectors=training["connectors"])
    assert other_client.post("/trainings", json=body).status_code == 400


@pytest.mark.row("DM-1", "CN-2")
def test_a_training_keeps_references_until_its_end_and_removes_them_once(
    client: TestClient, table: Table, trainings: Trainings
) -> None:
    training = create(client, table)
    space_id, model = space_of(client), f"/data-models/{training['data_model_id']}"
    assert client.delete(model).status_code == 409
    trainings.advance(space_id, training["id"], JobStatus.RUNNING)
    assert client.delete(model).status_code == 409
    for status in (JobStatus.FAILED, JobStatus.SUCCEEDED):
        trainings.end(space_id, training["id"], status, {"error": "no"})
    assert client.get(f"/trainings/{training['id']}").json()["status"] == "failed"
    assert active_uses(table, "connector", space_id, training["connectors"][0]["connector_id"]) == 0
    assert client.delete(model).status_code == 200


@pytest.mark.row("TR-5", "C-14")
def test_a_deleted_running_training_is_not_found_and_its_job_is_stopped(
    client: TestClient, table: Table, trainings: Trainings, resources: Resources
) -> None:
    sagemaker = FakeSageMaker()
    client = same_caller(client, Resources(resources.settings, sagemaker=sagemaker))
    training = create(client, table)
    address, space_id = f"/trainings/{training['id']}", space_of(client)
    trainings.advance(space_id, training["id"], JobStatus.RUNNING)
    sagemaker.run(f"training-{training['id']}-1", "Failed")
    sagemaker.run(f"training-{training['id']}-2")

    assert client.delete(address).json() == {"id": training["id"]}
    assert client.delete(address).status_code == 404
    assert client.get(address).status_code == 404
    assert client.put(address, json={"name": "Late"}).status_code == 404
    assert client.get("/trainings").json() == {"count": 0, "data": [], "has_more": False}
    assert client.delete(f"/data-models/{training['data_model_id']}").status_code == 200

    execution = boto3.client("stepfunctions").describe_execution(executionArn=execution_arn(training["id"]))
    assert execution["status"] == "ABORTED"
    assert sagemaker.jobs[f"training-{training['id']}-2"]["TrainingJobStatus"] == "Stopping"


@pytest.mark.row("TR-5")
def test_a_training_that_is_deleted_before_its_start_gets_the_status_stopped(
    client: TestClient, table: Table, resources: Resources
) -> None:
    training = create(client, table)
    boto3.client("stepfunctions").stop_execution(executionArn=execution_arn(training["id"]))
    client.delete(f"/trainings/{training['id']}")
    record = client.get(f"/trainings/{training['id']}", params={"include_deleted": True}).json()
    assert record["status"] == "stopped"
    assert record["deleted_at"] <= record["ended_at"]
    assert list(Jobs(table).open_jobs()) == []


@pytest.mark.row("C-14")
def test_the_deletion_of_an_ended_training_removes_no_reference_twice(
    client: TestClient, table: Table, trainings: Trainings
) -> None:
    training = create(client, table)
    trainings.end(space_of(client), training["id"], JobStatus.FAILED, {"error": "The file is empty."})
    assert client.delete(f"/trainings/{training['id']}").status_code == 200
    assert active_uses(table, "data_model", space_of(client), training["data_model_id"]) == 0
    record = client.get(f"/trainings/{training['id']}", params={"include_deleted": True}).json()
    assert (record["status"], record["error"]) == ("failed", "The file is empty.")
    item = table.get(Key(f"training#{space_of(client)}#deleted", training["id"]))
    assert item is not None
    assert item["expires_at"] > 0
