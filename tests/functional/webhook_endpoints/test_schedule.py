"""Tests of the schedule of delivery attempts."""

from collections import Counter
from datetime import datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from typing import Any

import pytest
from fastapi.testclient import TestClient

from functions.events.deliver_webhooks import LONGEST_WAIT, RETRIES, deliver_webhooks
from shared.models.webhook_endpoint import DeliveryTask
from shared.resources import Resources
from shared.webhooks.queue import LONGEST_DELAY, read_task
from tests.fixtures.clocks import MovableClock
from tests.fixtures.webhooks import Post, Receiver, received
from tests.functional.webhook_endpoints.helpers import HOUR, add_endpoint, cause_event, deliveries, fail

pytestmark = pytest.mark.row("X-13")


def test_a_receiver_gets_each_event_once_after_an_outage_of_an_hour(
    client: TestClient, resources: Resources, post: Post, receiver: Receiver, clock: MovableClock
) -> None:
    endpoint = add_endpoint(client, receiver.url)
    started = clock.now
    receiver.script = lambda _: 200 if clock.now - started >= HOUR else 503
    event_ids = []
    for _ in range(4):
        event_ids.append(cause_event(client, resources))
        post.run(timedelta(minutes=15))
    assert client.get(f"/webhook-endpoints/{endpoint['id']}").json()["failing_since"]
    post.run(3 * HOUR)
    rows = deliveries(client, endpoint)
    assert [row["payload"]["data"]["id"] for row in rows] == event_ids[::-1]
    assert {row["status"] for row in rows} == {"delivered"}
    for row in rows:
        assert [attempt["status_code"] for attempt in row["attempts"]].count(200) == 1
        assert receiver.ids.count(row["id"]) == len(row["attempts"]) > 1
    assert client.get(f"/webhook-endpoints/{endpoint['id']}").json()["failing_since"] is None
    before = len(receiver.requests)
    post.run(100 * HOUR)
    assert len(receiver.requests) == before


def test_attempts_follow_the_schedule_and_no_wait_is_longer_than_sqs_allows(
    client: TestClient, resources: Resources, post: Post, receiver: Receiver
) -> None:
    post.sqs.is_exact = True
    endpoint = add_endpoint(client, receiver.url)
    receiver.script = fail
    cause_event(client, resources)
    post.run(24 * HOUR)
    [waiting] = deliveries(client, endpoint, status="pending")
    assert waiting["next_attempt_at"] > waiting["attempts"][-1]["started_at"]
    post.run(80 * HOUR)
    [row] = deliveries(client, endpoint)
    started = [datetime.fromisoformat(attempt["started_at"]) for attempt in row["attempts"]]
    waits = [after - before for before, after in pairwise(started)]
    assert len(waits) == len(RETRIES) == 9
    for waited, wanted in zip(waits, RETRIES, strict=True):
        assert timedelta(0) <= waited - wanted <= timedelta(seconds=2)
    assert (row["status"], row["next_attempt_at"]) == ("failed", None)
    assert "the last of 10 attempts failed" in row["error"]


def test_a_message_returns_to_the_queue_at_most_once_in_15_minutes_of_its_waits(
    client: TestClient, resources: Resources, post: Post, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    # AWS does not stop this loop (RecursiveLoop), so the number of its rounds must have a limit.
    post.sqs.is_exact = True
    sent: list[DeliveryTask] = []
    send = post.sqs.send_message_batch

    def count(**request: Any) -> Any:
        sent.extend(read_task(entry["MessageBody"]) for entry in request["Entries"])
        return send(**request)

    monkeypatch.setattr(post.sqs, "send_message_batch", count)
    endpoint = add_endpoint(client, receiver.url)
    receiver.script = lambda _: (503, {"Retry-After": "999999999"})
    cause_event(client, resources)
    post.run(timedelta(days=12))
    [row] = deliveries(client, endpoint)
    assert row["status"] == "failed"
    rounds = Counter(task.attempt for task in sent)
    # The endpoint is disabled after five days, in which there is one attempt a day.
    assert len(rounds) == len(row["attempts"]) + 1 == 7
    assert max(rounds.values()) == LONGEST_WAIT / LONGEST_DELAY == 96
    assert post.sqs.waiting == []


def test_a_message_that_is_due_later_than_any_wait_does_not_return_to_the_queue(post: Post) -> None:
    post.sqs.is_exact = True
    late = DeliveryTask("space", "endpoint", "delivery", 0, post.clock.now + LONGEST_WAIT + timedelta(seconds=1))
    post.deliverer._queue.send([late])
    post.clock.now += timedelta(milliseconds=1)
    [(_, entry)], post.sqs.waiting = post.sqs.waiting, []
    record = {"messageId": "1", "body": entry["MessageBody"]}
    # SQS moves it to the dead-letter queue after five times.
    assert deliver_webhooks({"Records": [record]}, post.deliverer) == ["1"]
    assert post.sqs.waiting == []


@pytest.mark.parametrize(
    ("retry_after", "least", "most"),
    [
        ("60", 60, 62),
        ("999999999999", 24 * 3600, 24 * 3600 + 2),
        ("-1", 5, 7),
        ("soon", 5, 7),
        ("²", 5, 7),
        ("0", 5, 7),
        ("Fri, 01 Jan 2021 00:00:00 GMT", 5, 7),
    ],
)
def test_retry_after_is_respected_within_limits(
    client: TestClient, resources: Resources, post: Post, receiver: Receiver, retry_after: str, least: int, most: int
) -> None:
    endpoint = add_endpoint(client, receiver.url)
    header = retry_after.encode().decode("latin-1")
    receiver.script = lambda number: (429, {"Retry-After": header}) if number == 1 else 200
    cause_event(client, resources)
    post.run(timedelta(hours=25))
    [row] = deliveries(client, endpoint)
    first, second = (datetime.fromisoformat(attempt["started_at"]) for attempt in row["attempts"])
    assert least <= (second - first).total_seconds() <= most


def test_retry_after_may_be_a_time(
    client: TestClient, resources: Resources, post: Post, receiver: Receiver, clock: MovableClock
) -> None:
    endpoint = add_endpoint(client, receiver.url)
    until = clock.now + timedelta(minutes=7)
    receiver.script = lambda _: 200 if clock.now >= until else (503, {"Retry-After": format_datetime(until, True)})
    cause_event(client, resources)
    post.run(HOUR)
    [row] = deliveries(client, endpoint)
    assert [attempt["status_code"] for attempt in row["attempts"]] == [503, 200]
    assert datetime.fromisoformat(row["attempts"][1]["started_at"]) - until < timedelta(seconds=2)


def test_the_status_gone_disables_an_endpoint_immediately_with_a_reason(
    client: TestClient, resources: Resources, post: Post, receiver: Receiver
) -> None:
    endpoint = add_endpoint(client, receiver.url)
    with received(Receiver()) as other:
        add_endpoint(client, other.url, event_types=["webhook_endpoint.disabled"])
        receiver.script = lambda _: 410
        cause_event(client, resources)
        post.run(100 * HOUR)
        assert len(receiver.requests) == 1
        found = client.get(f"/webhook-endpoints/{endpoint['id']}").json()
        assert (found["status"], found["disabled_reason"]) == ("disabled", "gone")
        assert [message["data"]["id"] for message in other.messages] == [endpoint["id"]]


def test_an_endpoint_that_fails_for_five_days_is_disabled_and_can_be_enabled_again(
    client: TestClient, resources: Resources, post: Post, receiver: Receiver
) -> None:
    endpoint = add_endpoint(client, receiver.url)
    path = f"/webhook-endpoints/{endpoint['id']}"
    receiver.script = fail
    for _ in range(5):
        cause_event(client, resources)
        post.run(24 * HOUR)
        assert client.get(path).json()["status"] == "enabled"
    cause_event(client, resources)
    post.run(24 * HOUR)
    found = client.get(path).json()
    assert (found["status"], found["disabled_reason"]) == ("disabled", "failing")
    sent = len(receiver.requests)
    cause_event(client, resources)
    post.run(24 * HOUR)
    assert len(receiver.requests) == sent
    assert client.post(f"{path}/test").status_code == 409

    receiver.script = lambda _: 200
    enabled = client.patch(path, json={"status": "enabled"}).json()
    assert (enabled["status"], enabled["disabled_reason"], enabled["failing_since"]) == ("enabled", None, None)
    cause_event(client, resources)
    post.run()
    assert len(receiver.requests) == sent + 1


def test_waiting_messages_of_a_disabled_or_deleted_endpoint_are_not_sent(
    client: TestClient, resources: Resources, post: Post, receiver: Receiver
) -> None:
    receiver.script = fail
    disabled, deleted = (add_endpoint(client, receiver.url) for _ in range(2))
    cause_event(client, resources)
    post.run()
    assert len(receiver.requests) == 2
    client.put(f"/webhook-endpoints/{disabled['id']}", json={"status": "disabled"})
    assert client.delete(f"/webhook-endpoints/{deleted['id']}").status_code == 204
    post.run(100 * HOUR)
    assert len(receiver.requests) == 2
    [row] = deliveries(client, disabled)
    assert row["status"] == "failed"
    assert "disabled" in row["error"]
    assert client.get(f"/webhook-endpoints/{deleted['id']}/deliveries").status_code == 404
