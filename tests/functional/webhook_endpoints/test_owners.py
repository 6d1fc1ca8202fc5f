"""Tests of the access to webhook endpoints and of their limits."""

from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from fastapi.testclient import TestClient

from shared.models.webhook_endpoint import MAX_ENDPOINTS
from shared.resources import Resources
from tests.fixtures.evaluations import add_checkpoint, add_member
from tests.fixtures.trainings import space_of
from tests.fixtures.webhooks import Post, Receiver
from tests.functional.conftest import ClientMaker
from tests.functional.webhook_endpoints.helpers import HOUR, add_endpoint, cause_event, deliveries, fail

pytestmark = pytest.mark.row("X-13")


def test_another_space_receives_no_messages(
    client: TestClient, other_client: TestClient, resources: Resources, post: Post, receiver: Receiver
) -> None:
    theirs = add_endpoint(other_client, receiver.url)
    cause_event(client, resources)
    post.run()
    assert receiver.requests == []
    for path in ("", "/deliveries"):
        assert client.get(f"/webhook-endpoints/{theirs['id']}{path}").status_code == 404


def test_a_deleted_space_sends_only_the_event_of_its_deletion(
    client: TestClient, resources: Resources, post: Post, receiver: Receiver
) -> None:
    add_endpoint(client, receiver.url)
    receiver.script = fail
    cause_event(client, resources)
    post.run()
    space = space_of(client)
    assert client.delete(f"/spaces/{space}").status_code < 300
    add_checkpoint(resources.table, space)
    receiver.script = lambda _: 200
    post.run(100 * HOUR)
    assert receiver.types == ["checkpoint.created", "space.deleted"]


def test_only_the_owner_of_a_space_may_use_its_endpoints(
    client: TestClient, resources: Resources, sign_in: ClientMaker, receiver: Receiver
) -> None:
    endpoint = add_endpoint(client, receiver.url)
    carol = sign_in("carol")
    add_member(resources.table, carol, space_of(client), [])
    path = f"/webhook-endpoints/{endpoint['id']}"
    for response in (
        carol.get("/webhook-endpoints"),
        carol.post("/webhook-endpoints", json={"url": receiver.url}),
        carol.get(path),
        carol.put(path, json={}),
        carol.delete(path),
        carol.post(f"{path}/rotate-secret"),
        carol.post(f"{path}/test"),
        carol.get(f"{path}/deliveries"),
    ):
        assert (response.status_code, response.json()["code"]) == (403, "permission_denied")


def test_the_number_of_endpoints_of_a_space_is_limited(client: TestClient, receiver: Receiver) -> None:
    def create(_: int) -> int:
        return client.post("/webhook-endpoints", json={"url": receiver.url}).status_code

    statuses = [create(number) for number in range(MAX_ENDPOINTS + 2)]
    assert statuses == [201] * MAX_ENDPOINTS + [409] * 2
    newest = client.get("/webhook-endpoints").json()["data"][0]["id"]
    client.delete(f"/webhook-endpoints/{newest}")
    assert create(0) == 201


def test_a_repeated_request_returns_the_same_endpoint_and_secret(client: TestClient, receiver: Receiver) -> None:
    headers, body = {"Idempotency-Key": "once"}, {"url": receiver.url}
    first, again = (client.post("/webhook-endpoints", json=body, headers=headers).json() for _ in range(2))
    assert first == again
    assert client.get("/webhook-endpoints").json()["count"] == 1


def test_deliveries_are_listed_newest_first_and_deleted_after_thirty_days(
    client: TestClient, resources: Resources, post: Post, receiver: Receiver
) -> None:
    endpoint = add_endpoint(client, receiver.url)
    for _ in range(5):
        cause_event(client, resources)
    post.run()
    read_ids: list[str] = []
    while True:
        params: dict[str, Any] = {"limit": 2, "after": read_ids[-1] if read_ids else ""}
        page = client.get(f"/webhook-endpoints/{endpoint['id']}/deliveries", params=params).json()
        assert page["count"] == 5
        read_ids += [row["id"] for row in page["data"]]
        if not page["has_more"]:
            break
    assert read_ids == [row["id"] for row in deliveries(client, endpoint)]
    assert len(read_ids) == 5
    item = boto3.client("dynamodb").query(
        TableName=resources.table.name,
        KeyConditionExpression="PK = :pk",
        ExpressionAttributeValues={":pk": {"S": f"webhook_delivery#{space_of(client)}#{endpoint['id']}"}},
    )["Items"][0]
    kept = datetime.fromtimestamp(int(item["expires_at"]["N"]), UTC) - datetime.now(UTC)
    assert timedelta(days=29) < kept <= timedelta(days=30, seconds=60)
    post.run(timedelta(days=31))
    assert deliveries(client, endpoint) == []
