import json
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from fastapi.testclient import TestClient

from functions.webhooks import secrets as webhook_secrets
from shared.dynamodb.cleanup_list import CleanupList
from shared.dynamodb.table import Table
from shared.models.base import format_timestamp
from shared.models.job_status import JobStatus
from shared.trainings.store import Trainings
from shared.webhooks.signature import sign
from tests.faults.boundary import Boundary, Fault, KilledError
from tests.fixtures.aws import WEBHOOK_SECRET, WEBHOOK_SECRET_NAME
from tests.fixtures.cloudwatch import embedded_points
from tests.fixtures.evaluations import add_checkpoint, add_connector
from tests.fixtures.trainings import add_benchmark, space_of, training_request

UNKNOWN = "01a2081a-1610-752b-8cc0-d52dcf52e48d"
OTHER_SECRET = "whsec_b3RoZXI="


class Reporter:
    """Client that sends signed progress messages like a job."""

    def __init__(self, client: TestClient) -> None:
        self._client = client
        self._sent = 0

    def send(
        self,
        message: Any,
        *,
        secret: str = WEBHOOK_SECRET,
        message_id: str | None = None,
        sent_at: datetime | None = None,
        headers: dict[str, str] | None = None,
    ) -> Any:
        self._sent += 1
        body = message if isinstance(message, bytes) else json.dumps(message).encode()
        signed = sign(secret, message_id or f"msg_{self._sent}", sent_at or datetime.now(UTC), body)
        every = {"content-type": "application/json", **signed, **(headers or {})}
        return self._client.post("/webhooks", content=body, headers=every)


@pytest.fixture
def reporter(anonymous: TestClient) -> Reporter:
    return Reporter(anonymous)


@pytest.fixture
def training(client: TestClient, table: Table) -> dict[str, Any]:
    created: dict[str, Any] = client.post("/trainings", json=training_request(client, table)).json()
    return created


def points(*values: float) -> list[dict[str, Any]]:
    return [
        {"name": "log_loss", "value": value, "step": step, "at": "2026-01-01T00:00:00Z"}
        for step, value in enumerate(values, start=1)
    ]


def progress(training: dict[str, Any], at: datetime, *values: float, status: str = "running") -> dict[str, Any]:
    return {
        "id": training["id"],
        "type": "training",
        "event": "progress",
        "status": status,
        "timestamp": format_timestamp(at),
        "payload": {"metrics": points(*values)},
    }


def status_and_metrics(client: TestClient, training: dict[str, Any]) -> tuple[str, list[float]]:
    now = client.get(f"/trainings/{training['id']}").json()
    return now["status"], [point["value"] for point in now["metrics"]]


@pytest.mark.row("WH-1")
def test_a_progress_message_changes_the_training_but_not_its_etag(
    client: TestClient, reporter: Reporter, training: dict[str, Any]
) -> None:
    now = datetime.now(UTC)
    first = reporter.send(progress(training, now, 0.7))
    assert (first.status_code, first.json()) == (200, {"id": training["id"]})
    assert status_and_metrics(client, training) == ("running", [0.7])
    tag = client.get(f"/trainings/{training['id']}").headers["ETag"]
    reporter.send(progress(training, now + timedelta(seconds=-1) + timedelta(seconds=1, milliseconds=1), 0.7, 0.6))
    assert status_and_metrics(client, training) == ("running", [0.7, 0.6])
    assert client.get(f"/trainings/{training['id']}").headers["ETag"] == tag
    assert client.get(f"/trainings/{training['id']}").json()["started_at"]


@pytest.mark.row("WH-1", "EV-1")
def test_an_evaluation_is_running_after_its_first_progress_message(
    client: TestClient, reporter: Reporter, training: dict[str, Any], table: Table
) -> None:
    benchmark_id = add_benchmark(client, training["connectors"][0]["connector_id"])
    checkpoint_id = add_checkpoint(table, space_of(client)).id
    body = {"benchmark_id": benchmark_id, "checkpoint_id": checkpoint_id, "gpu_count": 0}
    evaluation = client.post("/evaluations", json=body).json()
    assert reporter.send(progress(evaluation, datetime.now(UTC))).status_code == 200
    assert client.get(f"/evaluations/{evaluation['id']}").json()["result"]["status"] == "running"


@pytest.mark.row("EN-4", "Y-9")
def test_a_message_whose_function_was_killed_advances_the_evaluation_when_it_is_repeated(
    client: TestClient, table: Table, reporter: Reporter, boundary: Boundary
) -> None:
    checkpoint = add_checkpoint(table, space_of(client))
    benchmark_id = add_benchmark(client, add_connector(table, space_of(client)))
    body = {"benchmark_id": benchmark_id, "checkpoint_id": checkpoint.id, "gpu_count": 0}
    evaluation = client.post("/evaluations", json=body).json()
    message = progress(evaluation, datetime.now(UTC))
    with boundary.failing(Fault.LATE_KILLED, at=1), pytest.raises(KilledError):
        reporter.send(message, message_id="msg_once")
    assert reporter.send(message, message_id="msg_once").status_code == 200
    assert client.get(f"/evaluations/{evaluation['id']}").json()["result"]["status"] == "running"


@pytest.mark.row("WH-1")
@pytest.mark.parametrize("minutes", [-6, 6])
def test_a_message_with_a_wrong_signature_or_time_is_refused_and_not_read(
    client: TestClient, anonymous: TestClient, reporter: Reporter, training: dict[str, Any], minutes: int
) -> None:
    message = progress(training, datetime.now(UTC), 0.1)
    off = datetime.now(UTC) + timedelta(minutes=minutes)
    attempts = [
        anonymous.post("/webhooks", json=message),
        anonymous.post("/webhooks", content=b"{broken"),
        reporter.send(message, secret=OTHER_SECRET),
        reporter.send(message, sent_at=off),
        reporter.send(message, headers={"webhook-timestamp": str(int(off.timestamp()))}),
        reporter.send(message, headers={"webhook-signature": "v1,AAAA"}),
        reporter.send(message, headers={"webhook-timestamp": "yesterday"}),
        reporter.send(message, headers={"webhook-id": "msg_other"}),
        anonymous.post("/webhooks", json=message, headers={"Authorization": "Bearer wrong"}),
        anonymous.post(
            "/webhooks",
            json=message,
            headers={"Authorization": f"Bearer {WEBHOOK_SECRET}", "webhook-timestamp": str(int(off.timestamp()))},
        ),
    ]
    assert [each.status_code for each in attempts] == [401] * len(attempts)
    assert attempts[0].json()["code"] == "unauthenticated"
    assert status_and_metrics(client, training) == ("pending", [])


@pytest.mark.row("WH-1")
def test_a_replayed_message_gets_the_same_response_and_changes_nothing(
    client: TestClient, reporter: Reporter, training: dict[str, Any]
) -> None:
    now = datetime.now(UTC)
    message = progress(training, now, 0.7)
    assert reporter.send(message, message_id="msg_once").status_code == 200
    again = reporter.send(progress(training, now + timedelta(milliseconds=1), 0.9), message_id="msg_once")
    assert (again.status_code, again.json()) == (200, {"id": training["id"]})
    assert status_and_metrics(client, training) == ("running", [0.7])


@pytest.mark.row("WH-1")
def test_an_older_progress_message_never_overwrites_a_newer_one(
    client: TestClient, reporter: Reporter, training: dict[str, Any]
) -> None:
    now = datetime.now(UTC)
    reporter.send(progress(training, now, 0.7, 0.6))
    assert reporter.send(progress(training, now - timedelta(seconds=2), 0.7)).status_code == 200
    assert status_and_metrics(client, training) == ("running", [0.7, 0.6])
    reporter.send(progress(training, now + timedelta(days=300), 0.7, 0.6, 0.5))
    later = progress(training, datetime.now(UTC), 0.7, 0.6, 0.5, 0.4)
    assert reporter.send(later).status_code == 200
    assert status_and_metrics(client, training)[1][-1] == 0.4, (
        "a message from a clock that is ahead must not block later messages"
    )


@pytest.mark.row("WH-1")
def test_an_unknown_id_is_not_found(client: TestClient, reporter: Reporter, training: dict[str, Any]) -> None:
    for identifier in (UNKNOWN, "x", training["data_model_id"]):
        response = reporter.send({"id": identifier, "status": "running"})
        assert (response.status_code, response.json()["code"]) == (404, "not_found")
    client.delete(f"/trainings/{training['id']}")
    assert reporter.send(progress(training, datetime.now(UTC), 0.7)).status_code == 404


@pytest.mark.row("WH-1", "TR-3")
@pytest.mark.parametrize("final", [JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.STOPPED])
def test_a_progress_message_does_not_change_an_ended_training(
    client: TestClient, reporter: Reporter, training: dict[str, Any], table: Table, final: JobStatus
) -> None:
    Trainings(table).end(space_of(client), training["id"], final, {})
    assert reporter.send(progress(training, datetime.now(UTC), 0.7)).status_code == 200
    assert status_and_metrics(client, training) == (final, [])


@pytest.mark.row("WH-1")
@pytest.mark.parametrize("status", ["succeeded", "failed", "stopped", "pending", "banana"])
def test_a_progress_message_cannot_end_a_training(
    client: TestClient, reporter: Reporter, training: dict[str, Any], status: str
) -> None:
    assert reporter.send(progress(training, datetime.now(UTC), 0.7, status=status)).status_code == 200
    assert status_and_metrics(client, training) == ("pending", [])


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{broken", "body"),
        (b"[]", "body"),
        (b"{}", "body.id"),
        ({"id": 5}, "body.id"),
        ({"timestamp": "noon"}, "body.timestamp"),
        ({"payload": {"metrics": [{"name": "loss"}]}}, "body.payload.metrics.0.value"),
        ({"payload": {"metrics": points(*range(1001))}}, "body.payload.metrics"),
    ],
)
def test_an_invalid_signed_message_is_refused_with_the_name_of_the_field(
    client: TestClient, reporter: Reporter, training: dict[str, Any], body: Any, field: str
) -> None:
    message = {"id": training["id"], **body} if isinstance(body, dict) else body
    response = reporter.send(message)
    assert (response.status_code, response.json()["details"][0]["field"]) == (400, field)
    assert status_and_metrics(client, training) == ("pending", [])


def test_a_service_may_send_the_secret_as_a_bearer_token(
    client: TestClient, anonymous: TestClient, training: dict[str, Any]
) -> None:
    headers = {"Authorization": f"Bearer {WEBHOOK_SECRET}"}
    message = progress(training, datetime.now(UTC), 0.7)
    for _ in range(2):
        assert anonymous.post("/webhooks", json=message, headers=headers).status_code == 200
    assert status_and_metrics(client, training) == ("running", [0.7])


def test_a_message_about_a_connector_of_the_space_is_accepted_and_changes_nothing(
    client: TestClient, reporter: Reporter, table: Table
) -> None:
    connector_id = add_connector(table, space_of(client))
    message = {"id": connector_id, "type": "aws-s3", "event": "updated", "payload": {"space_id": space_of(client)}}
    assert reporter.send(message).json() == {"id": connector_id}
    purges = CleanupList(table, "connector")
    purges.write(purges.note(space_of(client), connector_id))
    for other in (UNKNOWN, 5, "", "purges", "x" * 3000):
        assert reporter.send({**message, "payload": {"space_id": other}}).status_code == 404


def test_the_new_and_the_previous_secret_are_accepted_after_a_rotation(
    reporter: Reporter, training: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert reporter.send(progress(training, datetime.now(UTC), 0.7)).status_code == 200
    boto3.client("secretsmanager").put_secret_value(SecretId=WEBHOOK_SECRET_NAME, SecretString=OTHER_SECRET)
    assert reporter.send(progress(training, datetime.now(UTC), 0.6), secret=OTHER_SECRET).status_code == 401
    monkeypatch.setattr(webhook_secrets, "REFRESH_PAUSE_SECONDS", 0)
    for secret in (OTHER_SECRET, WEBHOOK_SECRET):
        assert reporter.send(progress(training, datetime.now(UTC), 0.6), secret=secret).status_code == 200


@pytest.mark.row("SE-7")
@pytest.mark.parametrize("malformed", ["not base64!", "whsec_", " ", "whsec_ÄÄÄÄ"])
def test_a_malformed_secret_is_skipped_and_counted_and_the_other_one_is_used(
    reporter: Reporter,
    anonymous: TestClient,
    training: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    malformed: str,
) -> None:
    boto3.client("secretsmanager").put_secret_value(SecretId=WEBHOOK_SECRET_NAME, SecretString=malformed)
    assert anonymous.post("/webhooks", json={}).status_code == 401
    bearer = {b"Authorization": b"Bearer " + malformed.encode()}
    assert anonymous.post("/webhooks", json={}, headers=bearer).status_code == 401
    assert reporter.send(progress(training, datetime.now(UTC), 0.6)).status_code == 200
    [counted] = [point for point in embedded_points(capsys.readouterr().out) if point.name == "UnusableWebhookKeys"]
    assert counted.value == 1


@pytest.mark.row("SE-7")
def test_without_any_usable_secret_messages_are_refused_without_reading_it_each_time(
    reporter: Reporter, anonymous: TestClient, training: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    for malformed in ("first!", "second!"):
        boto3.client("secretsmanager").put_secret_value(SecretId=WEBHOOK_SECRET_NAME, SecretString=malformed)
    assert {anonymous.post("/webhooks", json={}).status_code for _ in range(3)} == {401}
    assert reporter.send(progress(training, datetime.now(UTC), 0.6)).status_code == 401
    [counted] = [point for point in embedded_points(capsys.readouterr().out) if point.name == "UnusableWebhookKeys"]
    assert counted.value == 2


@pytest.mark.row("SE-7")
def test_a_binary_secret_is_skipped(reporter: Reporter, training: dict[str, Any]) -> None:
    boto3.client("secretsmanager").put_secret_value(SecretId=WEBHOOK_SECRET_NAME, SecretBinary=b"\xff\x00")
    assert reporter.send(progress(training, datetime.now(UTC), 0.6)).status_code == 200
