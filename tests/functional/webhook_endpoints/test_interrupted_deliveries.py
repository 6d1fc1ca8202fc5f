"""Deliveries whose function dies or that arrive twice."""

from datetime import timedelta
from threading import Event
from typing import Any

import pytest
from fastapi.testclient import TestClient

from functions.events.deliver_webhooks import RETRIES, WebhookDeliverer, deliver_webhooks
from functions.events.webhook_sender import Answer, WebhookSender
from shared.network.address_guard import AddressGuard
from shared.resources import Resources
from shared.webhooks.deliveries import CLAIM, TooEarlyError, WebhookDeliveries
from shared.webhooks.queue import read_task
from tests.fixtures.clocks import MovableClock
from tests.fixtures.webhooks import Post, Receiver, received
from tests.functional.webhook_endpoints.helpers import add_endpoint, deliveries, down, happen

pytestmark = pytest.mark.row("X-13")


# --- concurrency


def test_a_message_that_comes_again_while_it_is_sent_is_sent_once(
    client: TestClient, resources: Resources, post: Post, receiver: Receiver
) -> None:
    endpoint = add_endpoint(client, receiver.url)
    happen(client, resources)
    post.publish()
    [record] = post.sqs.take()
    task, refused = read_task(record["body"]), []

    def meanwhile(_: int) -> int:
        with pytest.raises(TooEarlyError) as error:
            post.deliverer.deliver(task)
        refused.append(error)
        return 200

    receiver.script = meanwhile
    post.deliverer.deliver(task)
    assert (len(refused), len(receiver.requests)) == (1, 1)
    # It was left in the queue, comes again later, and is found to be done.
    post.deliverer.deliver(task)
    assert len(receiver.requests) == 1
    assert [row["status"] for row in deliveries(client, endpoint)] == ["delivered"]


def test_an_attempt_whose_function_died_is_made_again(
    client: TestClient, resources: Resources, post: Post, receiver: Receiver, clock: MovableClock
) -> None:
    class Dying(WebhookSender):
        def post(self, *_: Any) -> Answer:
            raise SystemExit

    add_endpoint(client, receiver.url)
    happen(client, resources)
    post.publish()
    [record] = post.sqs.take()
    task = read_task(record["body"])
    with pytest.raises(SystemExit):
        WebhookDeliverer(resources, Dying(AddressGuard())).deliver(task)
    clock.now += CLAIM + timedelta(seconds=1)
    post.deliverer.deliver(task)
    assert len(receiver.requests) == 1


def test_a_function_that_dies_after_a_success_does_not_let_the_endpoint_count_as_failing(
    client: TestClient, resources: Resources, post: Post, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: Any, **__: Any) -> None:
        raise SystemExit

    endpoint, receiver.script = add_endpoint(client, receiver.url), down
    happen(client, resources)
    post.run()
    assert client.get(f"/webhook-endpoints/{endpoint['id']}").json()["failing_since"]
    receiver.script = lambda _: 200
    post.clock.now += RETRIES[0]
    [record] = post.sqs.take()
    monkeypatch.setattr(WebhookDeliveries, "record_attempt", die)
    with pytest.raises(SystemExit):
        post.deliverer.deliver(read_task(record["body"]))
    assert client.get(f"/webhook-endpoints/{endpoint['id']}").json()["failing_since"] is None


def test_a_slow_receiver_holds_up_no_other_of_the_same_batch(
    client: TestClient, resources: Resources, post: Post, receiver: Receiver
) -> None:
    waited = []

    def slow_answer(_: int) -> int:
        # Until the other one has got his message, or for ever if it waits behind these.
        waited.append(all_received.wait(20))
        return 200

    def answer(_: int) -> int:
        all_received.set()
        return 200

    all_received = Event()
    receiver.script = answer
    with received(Receiver(script=slow_answer)) as slow:
        add_endpoint(client, receiver.url)
        for _ in range(3):
            add_endpoint(client, slow.url)
        happen(client, resources)
        post.publish()
        assert deliver_webhooks({"Records": post.sqs.take()}, post.deliverer) == []
    assert waited == [True] * 3
