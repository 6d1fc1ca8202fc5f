"""Tests of deliveries whose function stops suddenly or that SQS delivers twice."""

from datetime import timedelta
from threading import Event
from typing import Any

import pytest
from fastapi.testclient import TestClient

from functions.events.deliver_webhooks import RETRIES, WebhookDeliverer, deliver_webhooks
from shared.network.address_guard import AddressGuard
from shared.resources import Resources
from shared.webhooks.deliveries import CLAIM, TooEarlyError, WebhookDeliveries
from shared.webhooks.queue import read_task
from shared.webhooks.sender import Answer, WebhookSender
from tests.faults.boundary import Boundary, Fault
from tests.fixtures.clocks import MovableClock
from tests.fixtures.webhooks import Post, Receiver, received
from tests.functional.webhook_endpoints.helpers import add_endpoint, cause_event, deliveries, fail

pytestmark = pytest.mark.row("X-13")


def test_a_message_that_is_received_again_during_its_delivery_is_sent_once(
    client: TestClient, resources: Resources, post: Post, receiver: Receiver
) -> None:
    endpoint = add_endpoint(client, receiver.url)
    cause_event(client, resources)
    post.publish()
    [record] = post.sqs.take()
    task, refused = read_task(record["body"]), []

    def deliver_again(_: int) -> int:
        with pytest.raises(TooEarlyError) as error:
            post.deliverer.deliver(task)
        refused.append(error)
        return 200

    receiver.script = deliver_again
    post.deliverer.deliver(task)
    assert (len(refused), len(receiver.requests)) == (1, 1)
    # SQS delivers the refused message again after the first delivery has ended.
    post.deliverer.deliver(task)
    assert len(receiver.requests) == 1
    assert [row["status"] for row in deliveries(client, endpoint)] == ["delivered"]


def test_an_attempt_is_repeated_when_its_function_has_stopped(
    client: TestClient, resources: Resources, post: Post, receiver: Receiver, clock: MovableClock
) -> None:
    class StoppingSender(WebhookSender):
        def post(self, *_: Any, **__: Any) -> Answer:
            raise SystemExit

    add_endpoint(client, receiver.url)
    cause_event(client, resources)
    post.publish()
    [record] = post.sqs.take()
    task = read_task(record["body"])
    with pytest.raises(SystemExit):
        WebhookDeliverer(resources, StoppingSender(AddressGuard())).deliver(task)
    clock.now += CLAIM + timedelta(seconds=1)
    post.deliverer.deliver(task)
    assert len(receiver.requests) == 1


def test_an_endpoint_is_not_failing_when_the_function_stops_after_a_success(
    client: TestClient, resources: Resources, post: Post, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop_function(*_: Any, **__: Any) -> None:
        raise SystemExit

    endpoint, receiver.script = add_endpoint(client, receiver.url), fail
    cause_event(client, resources)
    post.run()
    assert client.get(f"/webhook-endpoints/{endpoint['id']}").json()["failing_since"]
    receiver.script = lambda _: 200
    post.clock.now += RETRIES[0]
    [record] = post.sqs.take()
    monkeypatch.setattr(WebhookDeliveries, "record_attempt", stop_function)
    with pytest.raises(SystemExit):
        post.deliverer.deliver(read_task(record["body"]))
    assert client.get(f"/webhook-endpoints/{endpoint['id']}").json()["failing_since"] is None


def test_a_slow_receiver_does_not_delay_the_other_receivers_of_a_batch(
    client: TestClient, resources: Resources, post: Post, receiver: Receiver
) -> None:
    waited = []

    def respond_slowly(_: int) -> int:
        # This wait fails when the fast receiver gets its message only after the slow receivers.
        waited.append(all_received.wait(20))
        return 200

    def respond(_: int) -> int:
        all_received.set()
        return 200

    all_received = Event()
    receiver.script = respond
    with received(Receiver(script=respond_slowly)) as slow:
        add_endpoint(client, receiver.url)
        for _ in range(3):
            add_endpoint(client, slow.url)
        cause_event(client, resources)
        post.publish()
        assert deliver_webhooks({"Records": post.sqs.take()}, post.deliverer) == []
    assert waited == [True] * 3


@pytest.mark.row("EN-4")
def test_a_claim_without_a_response_does_not_wait_for_itself(
    client: TestClient, resources: Resources, post: Post, receiver: Receiver, boundary: Boundary
) -> None:
    endpoint = add_endpoint(client, receiver.url)
    cause_event(client, resources)
    post.publish()
    with boundary.failing(Fault.LATE_LOST, at=1, about="claimed_until"):
        assert deliver_webhooks({"Records": post.sqs.take()}, post.deliverer) == []
    assert boundary.injected.total() == 1
    assert [row["status"] for row in deliveries(client, endpoint)] == ["delivered"]
    assert len(receiver.requests) == 1


@pytest.mark.row("EN-4")
def test_a_rotated_secret_is_returned_although_the_response_of_the_table_is_lost(
    client: TestClient, receiver: Receiver, boundary: Boundary
) -> None:
    endpoint = add_endpoint(client, receiver.url)
    with boundary.failing(Fault.LATE_LOST, at=1, about="webhook_endpoint_secret#"):
        rotated = client.post(f"/webhook-endpoints/{endpoint['id']}/rotate-secret")
    assert (rotated.status_code, boundary.injected.total()) == (200, 1)
    assert rotated.json()["secret"] != endpoint["secret"]
