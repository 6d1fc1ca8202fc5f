from typing import Any

import boto3
import pytest
from fastapi.testclient import TestClient

from shared.clock import new_id
from shared.dynamodb.table import Table
from shared.evaluations.store import BenchmarkChangedError, Evaluations
from shared.jobs.store import Jobs
from shared.models.checkpoint import Checkpoint
from shared.models.job import CurvePoint, EvaluationResult, Measurement, MetricName
from shared.models.job_status import JobStatus
from shared.resources import Resources
from shared.settings import Settings
from tests.fixtures.evaluations import add_checkpoint, add_connector, add_member
from tests.functional.conftest import ClientMaker


@pytest.fixture
def resources(aws: None, settings: Settings) -> Resources:
    """Returns resources with a state machine that lists its executions."""
    machine = boto3.client("stepfunctions").create_state_machine(
        name="evaluation", definition="{}", roleArn="arn:aws:iam::123456789012:role/states"
    )
    return Resources(settings.model_copy(update={"evaluation_state_machine_arn": machine["stateMachineArn"]}))


@pytest.fixture
def benchmark(client: TestClient, table: Table) -> dict[str, Any]:
    created: dict[str, Any] = client.post(
        "/benchmarks",
        json={
            "name": "Held out",
            "description": "",
            "metrics": ["roc_auc", "log_loss"],
            "task": "binary_classification",
            "connectors": [{"id": add_connector(table, client.headers["X-Space-Id"])}],
        },
    ).json()
    return created


@pytest.fixture
def checkpoint(client: TestClient, table: Table) -> Checkpoint:
    return add_checkpoint(table, client.headers["X-Space-Id"])


@pytest.fixture
def request_body(benchmark: dict[str, Any], checkpoint: Checkpoint) -> dict[str, Any]:
    return {"benchmark_id": benchmark["id"], "checkpoint_id": checkpoint.id, "gpu_count": 0}


def executions() -> list[str]:
    client = boto3.client("stepfunctions")
    arns = [machine["stateMachineArn"] for machine in client.list_state_machines()["stateMachines"]]
    return [found["name"] for arn in arns for found in client.list_executions(stateMachineArn=arn)["executions"]]


def result(value: float = 0.75, **fields: Any) -> EvaluationResult:
    curve = [
        CurvePoint(threshold=None, true_positive_rate=0, false_positive_rate=0),
        CurvePoint(threshold=0.5, true_positive_rate=1, false_positive_rate=0.25),
    ]
    measurement = Measurement(
        metrics={MetricName.ROC_AUC: value, MetricName.LOG_LOSS: 0.47}, rows=4, positives=2, curve=curve
    )
    return EvaluationResult(
        measurement=measurement, excluded_training_rows=1, dropped_rows=2, duration_seconds=0.5, **fields
    )


@pytest.mark.row("EV-1", "X-2")
def test_a_new_evaluation_is_pending_and_starts_an_execution_of_its_name(
    client: TestClient, table: Table, request_body: dict[str, Any], checkpoint: Checkpoint
) -> None:
    created = client.post("/evaluations", json=request_body)

    assert created.status_code == 201, created.text
    evaluation = created.json()
    assert evaluation["result"]["status"] == "pending"
    assert evaluation["result"]["benchmark_revision"] == 1
    assert evaluation["training_id"] == checkpoint.training_id
    assert executions() == [evaluation["id"]]
    job = Jobs(table).find(evaluation["id"])
    assert job is not None
    assert (job.kind, job.space_id) == ("evaluation", client.headers["X-Space-Id"])
    assert [each.id for each in Jobs(table).open_jobs()] == [evaluation["id"]]
    assert client.get(f"/evaluations/{evaluation['id']}").json() == evaluation
    assert client.get("/evaluations").json() == {"count": 1, "data": [evaluation], "has_more": False}


@pytest.mark.row("EV-1", "C-6")
@pytest.mark.parametrize(
    ("invalid", "field"),
    [
        ({"benchmark_id": new_id()}, "body.benchmark_id"),
        ({"benchmark_id": "none"}, "body.benchmark_id"),
        ({"checkpoint_id": new_id()}, "body.checkpoint_id"),
        ({"checkpoint_id": 7}, "body.checkpoint_id"),
        ({"gpu_count": -1}, "body.gpu_count"),
        ({"gpu_count": 9}, "body.gpu_count"),
        ({"gpu_count": "1"}, "body.gpu_count"),
        ({"gpu_count": None}, "body.gpu_count"),
    ],
)
def test_unknown_ids_and_invalid_gpu_counts_are_refused_and_start_nothing(
    client: TestClient, table: Table, request_body: dict[str, Any], invalid: dict[str, Any], field: str
) -> None:
    response = client.post("/evaluations", json={**request_body, **invalid})
    assert response.status_code == 400, response.text
    assert [detail["field"] for detail in response.json()["details"]] == [field]
    assert client.get("/evaluations").json()["count"] == 0
    assert list(Jobs(table).open_jobs()) == []
    assert executions() == []


@pytest.mark.row("EV-1", "C-2")
def test_the_benchmark_and_checkpoint_of_another_space_are_unknown(
    client: TestClient, other_client: TestClient, request_body: dict[str, Any]
) -> None:
    foreign = other_client.post("/evaluations", json=request_body)
    unknown = other_client.post("/evaluations", json={**request_body, "benchmark_id": new_id()})
    assert foreign.status_code == unknown.status_code == 400
    assert foreign.json()["error"] == unknown.json()["error"]
    evaluation = client.post("/evaluations", json=request_body).json()
    assert other_client.get(f"/evaluations/{evaluation['id']}").status_code == 404
    assert other_client.get("/evaluations").json()["data"] == []


@pytest.mark.row("BM-3")
def test_an_evaluation_on_a_deleted_benchmark_is_refused(client: TestClient, request_body: dict[str, Any]) -> None:
    client.delete(f"/benchmarks/{request_body['benchmark_id']}")
    response = client.post("/evaluations", json=request_body)
    assert response.status_code == 404
    assert "deleted" in response.json()["error"]


@pytest.mark.row("EV-1")
def test_equal_requests_share_one_evaluation_until_it_ends(
    client: TestClient, table: Table, request_body: dict[str, Any]
) -> None:
    space_id = client.headers["X-Space-Id"]
    first = client.post("/evaluations", json=request_body).json()

    assert client.post("/evaluations", json=request_body).json() == first
    assert client.post("/evaluations", json=request_body, headers={"Idempotency-Key": "a"}).json() == first
    other_gpus = client.post("/evaluations", json={**request_body, "gpu_count": 1}).json()
    assert other_gpus["id"] != first["id"]

    Evaluations(table).end(space_id, first["id"], JobStatus.FAILED, "no luck")
    assert client.post("/evaluations", json=request_body, headers={"Idempotency-Key": "a"}).json() == first
    again = client.post("/evaluations", json=request_body).json()
    assert again["id"] not in (first["id"], other_gpus["id"])
    assert client.get("/evaluations").json()["count"] == 3
    assert sorted(executions()) == sorted([first["id"], other_gpus["id"], again["id"]])


@pytest.mark.row("EV-1")
def test_an_evaluation_of_a_changed_benchmark_is_not_answered_with_the_old_revisions_run(
    client: TestClient, table: Table, request_body: dict[str, Any]
) -> None:
    space_id, evaluations = client.headers["X-Space-Id"], Evaluations(table)
    first = client.post("/evaluations", json=request_body).json()
    evaluations.start(space_id, evaluations.get(space_id, first["id"]), 1)
    place = f"/benchmarks/{request_body['benchmark_id']}"
    assert client.put(place, json={"metrics": ["f1"]}).status_code == 200

    second = client.post("/evaluations", json=request_body).json()
    assert second["id"] != first["id"]
    assert (second["result"]["status"], second["result"]["benchmark_revision"]) == ("pending", 2)
    assert client.post("/evaluations", json=request_body).json() == second
    evaluations.end(space_id, first["id"], JobStatus.FAILED, "no luck")
    assert client.post("/evaluations", json=request_body).json() == second, "the end of the first is not its end"
    evaluations.end(space_id, second["id"], JobStatus.FAILED, "no luck")
    assert client.post("/evaluations", json=request_body).json()["id"] not in (first["id"], second["id"])


@pytest.mark.row("EV-1")
def test_an_evaluation_that_still_waits_is_the_answer_for_the_changed_benchmark_too(
    client: TestClient, table: Table, request_body: dict[str, Any]
) -> None:
    first = client.post("/evaluations", json=request_body).json()
    client.put(f"/benchmarks/{request_body['benchmark_id']}", json={"metrics": ["f1"]})
    assert client.post("/evaluations", json=request_body).json() == first
    evaluations, space_id = Evaluations(table), client.headers["X-Space-Id"]
    evaluation = evaluations.get(space_id, first["id"])
    with pytest.raises(BenchmarkChangedError):
        evaluations.start(space_id, evaluation, 1)
    assert evaluations.start(space_id, evaluation, 2).result.benchmark_revision == 2


@pytest.mark.row("C-12")
def test_a_repeated_request_returns_the_same_evaluation_even_after_its_end(
    client: TestClient, table: Table, request_body: dict[str, Any]
) -> None:
    key = {"Idempotency-Key": "once"}
    first = client.post("/evaluations", json=request_body, headers=key).json()
    Evaluations(table).end(client.headers["X-Space-Id"], first["id"], JobStatus.FAILED, "no luck")
    assert client.post("/evaluations", json=request_body, headers=key).json()["id"] == first["id"]
    assert client.post("/evaluations", json={**request_body, "gpu_count": 1}, headers=key).status_code == 409
    assert client.get("/evaluations").json()["count"] == 1


@pytest.mark.row("EV-1", "X-2")
def test_a_finished_evaluation_has_a_curve_and_never_changes_again(
    client: TestClient, table: Table, request_body: dict[str, Any]
) -> None:
    space_id = client.headers["X-Space-Id"]
    evaluation = client.post("/evaluations", json=request_body).json()
    evaluations = Evaluations(table)
    evaluations.advance(space_id, evaluation["id"], JobStatus.RUNNING)
    evaluations.succeed(space_id, evaluation["id"], result(0.75, warnings=["2 % of the values are no numbers."]))

    evaluations.succeed(space_id, evaluation["id"], result(0.1))
    evaluations.end(space_id, evaluation["id"], JobStatus.FAILED, "too late")
    evaluations.advance(space_id, evaluation["id"], JobStatus.RUNNING)

    found = client.get(f"/evaluations/{evaluation['id']}").json()["result"]
    assert found["status"] == "succeeded"
    assert found["metrics"] == {"roc_auc": 0.75, "log_loss": 0.47}
    assert (found["rows"], found["positives"], found["excluded_training_rows"], found["dropped_rows"]) == (4, 2, 1, 2)
    assert [point["threshold"] for point in found["curve"]] == [None, 0.5]
    assert found["error"] is None
    assert found["warnings"] == ["2 % of the values are no numbers."]
    (row,) = client.get("/leaderboards").json()["data"]
    assert row["warnings"] == found["warnings"]
    assert found["started_at"] <= found["finished_at"]
    assert client.get("/evaluations").json()["data"][0]["result"] == {**found, "curve": None}
    assert list(Jobs(table).open_jobs()) == []


@pytest.mark.row("EV-1")
def test_a_failed_evaluation_states_the_reason(client: TestClient, table: Table, request_body: dict[str, Any]) -> None:
    space_id = client.headers["X-Space-Id"]
    evaluation = client.post("/evaluations", json=request_body).json()
    Evaluations(table).end(space_id, evaluation["id"], JobStatus.FAILED, "The file data.csv is empty.")
    found = client.get(f"/evaluations/{evaluation['id']}").json()["result"]
    assert (found["status"], found["error"]) == ("failed", "The file data.csv is empty.")
    assert client.get("/leaderboards").json()["data"] == []


@pytest.mark.row("C-4", "X-2")
def test_members_read_their_own_evaluations_and_the_owner_reads_all(
    client: TestClient, sign_in: ClientMaker, table: Table, request_body: dict[str, Any]
) -> None:
    member = sign_in("carol")
    add_member(table, member, client.headers["X-Space-Id"], [])
    assert "evaluations:create" in member.post("/evaluations", json=request_body).json()["error"]
    creator = sign_in("dave")
    add_member(table, creator, client.headers["X-Space-Id"], ["evaluations:create"])

    owner_evaluation = client.post("/evaluations", json=request_body).json()
    creator_evaluations = [
        creator.post("/evaluations", json={**request_body, "gpu_count": count}).json() for count in (1, 2)
    ]

    assert client.get("/evaluations").json()["count"] == 3
    assert member.get("/evaluations").json() == {"count": 0, "data": [], "has_more": False}
    first = creator.get("/evaluations", params={"limit": 1}).json()
    second = creator.get("/evaluations", params={"limit": 1, "after": first["data"][0]["id"]}).json()
    assert [first["data"], second["data"]] == [[creator_evaluations[1]], [creator_evaluations[0]]]
    assert (first["count"], first["has_more"], second["has_more"]) == (2, True, False)
    assert creator.get(f"/evaluations/{creator_evaluations[0]['id']}").status_code == 200
    assert creator.get(f"/evaluations/{owner_evaluation['id']}").status_code == 403
    assert client.get(f"/evaluations/{creator_evaluations[0]['id']}").status_code == 200
