"""What the job of a training prints, in CloudWatch's stream of each machine."""

import base64
import contextlib
import time
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from fastapi.testclient import TestClient

from shared.dynamodb.table import Table
from tests.fixtures.trainings import training_request

GROUP = "/aws/sagemaker/TrainingJobs"
Write = Callable[..., None]
DEEP = base64.urlsafe_b64encode(b"[" * 2_900).decode()


@pytest.fixture
def training(client: TestClient, table: Table) -> str:
    return str(client.post("/trainings", json=training_request(client, table)).json()["id"])


@pytest.fixture
def write(aws: None) -> Write:
    """Returns ``write(stream, *lines)``, which adds lines to a stream of SageMaker's."""
    logs = boto3.client("logs")

    def lines(stream: str, *texts: str) -> None:
        exists = logs.exceptions.ResourceAlreadyExistsException
        for create, name in ((logs.create_log_group, {}), (logs.create_log_stream, {"logStreamName": stream})):
            with contextlib.suppress(exists):
                create(logGroupName=GROUP, **name)
        now = round(time.time() * 1000)
        events: Any = [{"timestamp": now, "message": text} for text in texts]
        logs.put_log_events(logGroupName=GROUP, logStreamName=stream, logEvents=events)

    return lines


def read(client: TestClient, training: str, after: str = "", limit: int = 100) -> dict[str, Any]:
    response = client.get(f"/trainings/{training}/logs", params={"after": after, "limit": limit})
    assert response.status_code == 200, response.text
    page: dict[str, Any] = response.json()
    return page


def messages(page: dict[str, Any]) -> list[str]:
    return [line["message"] for line in page["data"]]


@pytest.mark.row("X-3")
def test_new_lines_follow_the_cursor_of_the_last_page(client: TestClient, training: str, write: Write) -> None:
    assert read(client, training) == {"data": [], "next": "", "has_more": False}

    stream = f"training-{training}-1/algo-1-100"
    write(stream, "starts", "round 1", "round 2")
    first = read(client, training, limit=2)
    assert (messages(first), first["has_more"]) == (["starts", "round 1"], True)
    second = read(client, training, first["next"])
    assert (messages(second), second["has_more"]) == (["round 2"], False)
    assert messages(read(client, training, second["next"])) == []

    write(stream, "round 3")
    assert messages(read(client, training, second["next"])) == ["round 3"]


@pytest.mark.row("X-3")
def test_the_jobs_of_a_training_follow_in_the_order_of_their_numbers(
    client: TestClient, training: str, write: Write
) -> None:
    write(f"training-{training}-1/algo-1-100", "no capacity")
    before = read(client, training)
    write(f"training-{training}-10/algo-1-300", "third")
    write(f"training-{training}-2/algo-1-200", "second")
    assert messages(read(client, training)) == ["no capacity", "second", "third"]
    assert messages(read(client, training, before["next"])) == ["second", "third"]
    page = read(client, training, limit=1)
    assert messages(read(client, training, page["next"], limit=1)) == ["second"]


@pytest.mark.row("X-3")
def test_a_log_shows_no_line_of_another_training(
    client: TestClient, other_client: TestClient, training: str, table: Table, write: Write
) -> None:
    other = other_client.post("/trainings", json=training_request(other_client, table)).json()["id"]
    write(f"training-{training}-1/algo-1-1", "ours")
    write(f"training-{other}-1/algo-1-1", "theirs")
    assert messages(read(client, training)) == ["ours"]
    assert other_client.get(f"/trainings/{training}/logs").status_code == 404
    # A cursor of another training names no stream, so it reads nothing of that training.
    theirs = read(other_client, other)["next"]
    assert "theirs" not in messages(read(client, training, theirs))


@pytest.mark.row("X-3")
def test_the_machines_of_a_job_are_read_side_by_side(client: TestClient, training: str, write: Write) -> None:
    for machine in ("algo-1", "algo-2"):
        write(f"training-{training}-1/{machine}-100", f"{machine} starts")
    first = read(client, training)
    assert [(line["machine"], line["message"]) for line in first["data"]] == [
        ("algo-1", "algo-1 starts"),
        ("algo-2", "algo-2 starts"),
    ]
    for machine in ("algo-1", "algo-2"):
        write(f"training-{training}-1/{machine}-100", f"{machine} ends")
    assert messages(read(client, training, first["next"])) == ["algo-1 ends", "algo-2 ends"]
    one = read(client, training, first["next"], limit=1)
    assert (messages(one), one["has_more"]) == (["algo-1 ends"], True)
    assert messages(read(client, training, one["next"], limit=1)) == ["algo-2 ends"]


@pytest.mark.row("X-3")
@pytest.mark.parametrize("after", ["nonsense", "W10=", "WzEsMl0=", "NQ==", "é", DEEP])
def test_an_invalid_cursor_is_refused(client: TestClient, training: str, after: str) -> None:
    response = client.get(f"/trainings/{training}/logs", params={"after": after})
    assert (response.status_code, response.json()["code"]) == (400, "invalid_cursor")


def test_a_long_line_is_cut(client: TestClient, training: str, write: Write) -> None:
    write(f"training-{training}-1/algo-1-1", "x" * 10_000)
    [line] = messages(read(client, training))
    assert len(line) == 4_001


def test_the_log_of_a_deleted_training_stays(client: TestClient, training: str, write: Write) -> None:
    write(f"training-{training}-1/algo-1-1", "ended")
    client.delete(f"/trainings/{training}")
    assert messages(read(client, training)) == ["ended"]
