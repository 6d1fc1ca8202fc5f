"""Tests of webhook messages: their signatures, types and events."""

from datetime import UTC, datetime, timedelta

import pytest
from fastapi.testclient import TestClient
from standardwebhooks.webhooks import Webhook

from shared.models.job_status import JobStatus
from shared.resources import Resources
from shared.trainings.store import Trainings
from shared.webhooks.signature import SignatureError, sign, verify
from tests.fixtures.clocks import MovableClock
from tests.fixtures.evaluations import add_checkpoint
from tests.fixtures.trainings import space_of, training_request
from tests.fixtures.webhooks import Post, Receiver
from tests.functional.webhook_endpoints.helpers import add_endpoint, cause_event, deliveries

pytestmark = pytest.mark.row("X-13")


def test_the_signature_equals_the_published_example() -> None:
    # The example comes from the tests of https://github.com/standard-webhooks/standard-webhooks.
    headers = sign(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        datetime.fromtimestamp(1614265330, UTC),
        b'{"test": 2432232314}',
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_message_contains_only_ids_and_is_verified_by_the_public_library(
    client: TestClient, resources: Resources, post: Post, receiver: Receiver
) -> None:
    endpoint = add_endpoint(client, f"{receiver.url}?key=1")
    checkpoint = add_checkpoint(resources.table, space_of(client), name="A name that somebody gave")
    post.run()
    [(headers, body)] = receiver.requests
    assert receiver.paths == ["/hooks?key=1"]
    message = Webhook(endpoint["secret"]).verify(body.decode(), headers)
    assert datetime.fromisoformat(message.pop("timestamp")) <= datetime.now(UTC)
    assert message == {
        "type": "checkpoint.created",
        "data": {
            "id": checkpoint.id,
            "kind": "checkpoint",
            "link": f"/trainings/{checkpoint.training_id}",
            "space_id": space_of(client),
        },
    }
    [delivery] = deliveries(client, endpoint)
    assert (delivery["id"], delivery["status"]) == (headers["webhook-id"], "delivered")
    assert delivery["payload"]["type"] == delivery["event_type"] == "checkpoint.created"
    [attempt] = delivery["attempts"]
    assert (attempt["status_code"], attempt["error"]) == (200, None)
    assert attempt["duration_ms"] >= 0


def test_an_old_secret_signs_for_a_day_after_its_rotation_and_no_list_contains_secrets(
    client: TestClient, resources: Resources, post: Post, receiver: Receiver, clock: MovableClock
) -> None:
    first = add_endpoint(client, receiver.url)
    rotated = client.post(f"/webhook-endpoints/{first['id']}/rotate-secret")
    assert rotated.status_code == 200
    old, new = first["secret"], rotated.json()["secret"]
    assert old != new

    def verified(secret: str) -> bool:
        headers, body = receiver.requests[-1]
        try:
            verify(secret, headers, body, clock.now)
        except SignatureError:
            return False
        return True

    cause_event(client, resources)
    post.run()
    assert (verified(old), verified(new)) == (True, True)
    clock.now += timedelta(hours=23)
    cause_event(client, resources)
    post.run()
    assert (verified(old), verified(new)) == (True, True)
    clock.now += timedelta(hours=2)
    cause_event(client, resources)
    post.run()
    assert len(receiver.requests) == 3
    assert (verified(old), verified(new)) == (False, True)

    for path in ("", f"/{first['id']}", f"/{first['id']}/deliveries"):
        assert "whsec_" not in client.get(f"/webhook-endpoints{path}").text
    for _ in range(6):
        client.post(f"/webhook-endpoints/{first['id']}/rotate-secret")
    cause_event(client, resources)
    post.run()
    assert receiver.requests[-1][0]["webhook-signature"].count("v1,") == 4


def test_each_change_sends_the_event_of_its_name(
    client: TestClient, resources: Resources, post: Post, receiver: Receiver
) -> None:
    add_endpoint(client, receiver.url)
    trainings, space, table = Trainings(resources.table), space_of(client), resources.table
    ids = [client.post("/trainings", json=training_request(client, table)).json()["id"] for _ in range(3)]
    trainings.advance(space, ids[0], JobStatus.QUEUED)
    trainings.advance(space, ids[0], JobStatus.RUNNING)
    trainings.report(space, ids[0], datetime.now(UTC), [])
    for training_id, status in zip(ids, (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.STOPPED), strict=True):
        trainings.end(space, training_id, status, {})
    client.put(f"/trainings/{ids[0]}", json={"name": "Another"})
    checkpoint = add_checkpoint(table, space)
    for _ in range(2):
        client.put("/checkpoints/aliases/champion", json={"checkpoint_id": checkpoint.id})
    client.post("/data-models", json={"name": "Unwanted event"})
    offer = {"name": "Card", "description": "", "priority": "high", "type": "offer", "status": "active"}
    client.post("/actions", json=offer)
    insight = client.post("/insights", json={"client": "Likes to travel"}).json()["id"]
    for reaction in ("accepted", "accepted", "rejected"):
        client.post(f"/insights/{insight}/reactions", json={"reaction": reaction})
    post.run()
    assert sorted(receiver.types) == sorted(
        [
            "training.started", "training.completed", "training.failed", "training.stopped", "checkpoint.created",
            "checkpoint_alias.moved", "insight.created", "reaction.created", "reaction.changed",
        ]
    )  # fmt: skip
    by_type = {message["type"]: message["data"] for message in receiver.messages}
    assert by_type["training.completed"] == {
        "id": ids[0], "kind": "training", "link": f"/trainings/{ids[0]}", "space_id": space, "status": "succeeded",
    }  # fmt: skip
    assert by_type["checkpoint_alias.moved"]["link"] == "/checkpoints/aliases/champion"
    assert client.get(by_type["insight.created"]["link"]).status_code == 200


def test_an_endpoint_receives_only_its_event_types(
    client: TestClient, resources: Resources, post: Post, receiver: Receiver
) -> None:
    endpoint = add_endpoint(client, receiver.url, event_types=["insight.created"])
    cause_event(client, resources)
    post.run()
    assert receiver.types == []
    path = f"/webhook-endpoints/{endpoint['id']}"
    assert client.put(path, json={"event_types": []}).json()["event_types"] == []
    cause_event(client, resources)
    post.run()
    assert receiver.types == ["checkpoint.created"]
    refused = client.put(path, json={"event_types": ["rain.tomorrow"]})
    assert refused.status_code == 400


def test_a_repeated_stream_record_sends_one_message(
    client: TestClient, resources: Resources, post: Post, receiver: Receiver
) -> None:
    endpoint = add_endpoint(client, receiver.url)
    cause_event(client, resources)
    records = post.publish()
    # After a crash, DynamoDB sends the records again, and the queue can contain a message twice.
    post.send(records)
    assert len(post.sqs.waiting) == 2
    post.run(timedelta(minutes=10))
    post.send(records)
    post.run(timedelta(minutes=10))
    assert post.sqs.waiting == []
    assert len(receiver.requests) == 1
    assert len(deliveries(client, endpoint)) == 1
