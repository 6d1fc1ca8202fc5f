"""The progress and the cost of a training, before it runs, while it runs and at its end."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from functions.jobs.progress import ProgressReporter
from functions.jobs.time_left import Stage
from shared.dynamodb.table import Table
from shared.models.job import JobEstimate, SeriesPoint
from shared.models.job_status import JobStatus
from shared.trainings.store import Trainings
from shared.webhooks.signature import sign
from tests.fixtures.aws import WEBHOOK_SECRET
from tests.fixtures.clocks import MovableClock
from tests.fixtures.trainings import space_of, training_request


@pytest.fixture
def trainings(table: Table, clock: MovableClock) -> Trainings:
    return Trainings(table, clock)


def create(client: TestClient, table: Table, **changes: Any) -> dict[str, Any]:
    training: dict[str, Any] = client.post("/trainings", json=training_request(client, table, **changes)).json()
    return training


def report(client: TestClient, trainings: Trainings, training: str, clock: MovableClock, estimate: Any) -> None:
    points = [SeriesPoint(name="validation_log_loss", value=0.5, step=1, at=clock.now)]
    trainings.report(space_of(client), training, clock.now, points, estimate)


@pytest.mark.row("X-3")
def test_a_training_shows_what_it_costs_while_it_runs(
    client: TestClient, table: Table, trainings: Trainings, clock: MovableClock
) -> None:
    training = create(client, table)
    cost = training["cost"]
    assert (cost["instance_type"], cost["hourly"], cost["so_far"], cost["expected"]) == (
        "ml.m5.2xlarge",
        0.461,
        0,
        None,
    )
    assert (cost["currency"], cost["prices_of"], cost["prices_as_of"]) == ("USD", "us-east-1", "2025-11-01")
    assert training["progress"] is None

    address, space = f"/trainings/{training['id']}", space_of(client)
    trainings.note_waiting(space, training["id"], None, "ml.m5.4xlarge")
    report(client, trainings, training["id"], clock, None)
    clock.now += timedelta(minutes=30)
    report(client, trainings, training["id"], clock, JobEstimate(share_done=0.25, seconds_left=5400))
    clock.now += timedelta(minutes=15)
    running = client.get(address).json()
    assert running["instance_type"] == "ml.m5.4xlarge"
    assert running["progress"] == {"share_done": 0.25, "seconds_left": 4500}
    assert (running["cost"]["so_far"], running["cost"]["expected"]) == (0.6915, pytest.approx(0.922 * 2, rel=0.01))

    values = {"training_seconds": 7300, "billable_seconds": 3600, "instance_type": "ml.m5.4xlarge"}
    trainings.end(space, training["id"], JobStatus.SUCCEEDED, values)
    ended = client.get(address).json()
    assert (ended["cost"]["so_far"], ended["cost"]["expected"], ended["progress"]) == (0.922, 0.922, None)


@pytest.mark.row("X-3")
def test_a_similar_training_says_what_the_next_one_costs(
    client: TestClient, table: Table, trainings: Trainings
) -> None:
    request = training_request(client, table)
    first = client.post("/trainings", json=request).json()
    trainings.end(space_of(client), first["id"], JobStatus.SUCCEEDED, {"billable_seconds": 7200})

    assert client.post("/trainings", json=request).json()["cost"]["expected"] == 0.922
    other = client.post("/trainings", json={**request, "architecture": "xgboost"}).json()
    assert other["cost"]["expected"] is None
    listed = client.get("/trainings").json()["data"]
    assert [each["cost"]["expected"] for each in listed] == [None, 0.922, 0.922]


def test_a_training_that_never_ran_has_no_cost(client: TestClient, table: Table, trainings: Trainings) -> None:
    training = create(client, table)
    trainings.end(space_of(client), training["id"], JobStatus.FAILED, {"error": "no machine"})
    cost = client.get(f"/trainings/{training['id']}").json()["cost"]
    assert (cost["so_far"], cost["expected"]) == (None, None)


@pytest.mark.row("X-3")
def test_the_estimate_of_a_job_reaches_its_training(client: TestClient, anonymous: TestClient, table: Table) -> None:
    """The message is the reporter's own, as it sends it from the container."""
    training = create(client, table)["id"]
    sent: list[bytes] = []
    with ProgressReporter(threading.Event(), sent.append, ("training", training)) as reporter:
        reporter.expect([Stage(4, 1000, 50)])
        for step in range(1, 4):
            reporter.record("validation_log_loss", 0.5, step)
    headers = sign(WEBHOOK_SECRET, "msg_1", datetime.now(UTC), sent[-1])
    received = anonymous.post("/webhooks", content=sent[-1], headers={"content-type": "application/json", **headers})
    assert received.status_code < 300, received.text
    progress = client.get(f"/trainings/{training}").json()["progress"]
    assert 0 < progress["share_done"] < 0.1
