"""Tests of replayed messages and of test messages."""

import pytest
from fastapi.testclient import TestClient

from functions.events.deliver_webhooks import RETRIES
from shared.resources import Resources
from tests.fixtures.clocks import MovableClock
from tests.fixtures.webhooks import Post, Receiver
from tests.functional.webhook_endpoints.helpers import HOUR, add_endpoint, cause_event, deliveries, fail

pytestmark = pytest.mark.row("X-13")

LAST = len(RETRIES) + 1


def test_failed_messages_are_replayed_one_by_one_or_from_a_given_time(
    client: TestClient, resources: Resources, post: Post, receiver: Receiver, clock: MovableClock
) -> None:
    endpoint, started = add_endpoint(client, receiver.url), clock.now.isoformat()
    path = f"/webhook-endpoints/{endpoint['id']}/deliveries"
    receiver.script = fail
    cause_event(client, resources)
    post.run(HOUR)
    later = clock.now.isoformat()
    for _ in range(3):
        cause_event(client, resources)
    post.run(80 * HOUR)
    oldest = deliveries(client, endpoint)[-1]["id"]
    assert len(deliveries(client, endpoint, status="failed")) == 4

    receiver.script = lambda _: 200
    replayed = client.post(f"{path}/{oldest}/replay")
    assert replayed.status_code == 202
    assert (replayed.json()["id"], replayed.json()["status"]) == (oldest, "pending")
    post.run()
    assert receiver.ids[-1] == oldest
    assert [row["id"] for row in deliveries(client, endpoint, status="delivered")] == [oldest]
    assert client.post(f"{path}/replay", json={"since": later}).json() == {"count": 0, "has_more": False}
    assert client.post(f"{path}/replay", json={"since": started}).json() == {"count": 3, "has_more": False}
    post.run()
    rows = deliveries(client, endpoint)
    assert [row["status"] for row in rows] == ["delivered"] * 4
    assert [row["attempt_count"] for row in rows] == [11] * 4
    # A delivered message can also be replayed and keeps its id.
    client.post(f"{path}/{oldest}/replay")
    post.run()
    assert receiver.ids[-1] == oldest


def test_a_message_that_could_not_be_queued_is_replayed_by_the_next_request(
    client: TestClient, resources: Resources, post: Post, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = add_endpoint(client, receiver.url)
    started, receiver.script = post.clock.now.isoformat(), fail
    cause_event(client, resources)
    post.run(80 * HOUR)
    receiver.script = lambda _: 200
    replay = f"/webhook-endpoints/{endpoint['id']}/deliveries/replay"
    with monkeypatch.context() as broken:
        broken.setattr(post.sqs, "send_message_batch", lambda **_: {"Failed": [{"Id": "0"}]})
        assert client.post(replay, json={"since": started}).status_code == 503
    # This message is in the queue when the next request arrives, and must not be queued twice.
    cause_event(client, resources)
    post.publish()
    assert client.post(replay, json={"since": started}).json() == {"count": 1, "has_more": False}
    post.run()
    assert [row["status"] for row in deliveries(client, endpoint)] == ["delivered"] * 2


def test_a_replayed_message_gets_all_attempts_again(
    client: TestClient, resources: Resources, post: Post, receiver: Receiver
) -> None:
    endpoint = add_endpoint(client, receiver.url)
    receiver.script = fail
    cause_event(client, resources)
    post.run(80 * HOUR)
    [row] = deliveries(client, endpoint)
    client.post(f"/webhook-endpoints/{endpoint['id']}/deliveries/{row['id']}/replay")
    post.run(80 * HOUR)
    [again] = deliveries(client, endpoint)
    assert (again["status"], again["attempt_count"]) == ("failed", 20)


def test_a_test_message_is_sent_and_listed(client: TestClient, post: Post, receiver: Receiver) -> None:
    endpoint = add_endpoint(client, receiver.url, event_types=["insight.created"])
    sent = client.post(f"/webhook-endpoints/{endpoint['id']}/test")
    assert sent.status_code == 202
    post.run()
    assert receiver.types == ["webhook_endpoint.test"]
    assert [row["id"] for row in deliveries(client, endpoint)] == [sent.json()["id"]] == receiver.ids


@pytest.mark.row("EN-4")
def test_a_replay_during_the_last_attempt_is_refused_and_a_later_one_is_sent(
    client: TestClient, resources: Resources, post: Post, receiver: Receiver
) -> None:
    """The end of the last attempt would overwrite the replay, and its message would find no delivery to make."""
    endpoint = add_endpoint(client, receiver.url)
    path = f"/webhook-endpoints/{endpoint['id']}/deliveries"
    answers = []

    def replay_during_last(number: int) -> int:
        if number == LAST:
            [row] = deliveries(client, endpoint)
            answers.append(client.post(f"{path}/{row['id']}/replay"))
        return 503

    receiver.script = replay_during_last
    cause_event(client, resources)
    post.run(80 * HOUR)
    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(409, "conflict")]
    [row] = deliveries(client, endpoint)
    assert (row["status"], row["attempt_count"]) == ("failed", LAST)
    receiver.script = lambda _: 200
    assert client.post(f"{path}/{row['id']}/replay").status_code == 202
    post.run()
    assert [row["status"] for row in deliveries(client, endpoint)] == ["delivered"]


def test_a_replay_of_failed_messages_leaves_out_one_that_is_being_sent(
    client: TestClient, resources: Resources, post: Post, receiver: Receiver
) -> None:
    endpoint, started = add_endpoint(client, receiver.url), post.clock.now.isoformat()
    path = f"/webhook-endpoints/{endpoint['id']}/deliveries"
    receiver.script = fail
    for _ in range(3):
        cause_event(client, resources)
    post.run(80 * HOUR)
    oldest, sent = deliveries(client, endpoint)[-1]["id"], len(receiver.requests)
    answers = []

    def replay_all(number: int) -> int:
        if number == sent + 1:
            answers.append(client.post(f"{path}/replay", json={"since": started}).json())
        return 200

    receiver.script = replay_all
    client.post(f"{path}/{oldest}/replay")
    post.run()
    assert answers == [{"count": 2, "has_more": False}]
    assert [row["status"] for row in deliveries(client, endpoint)] == ["delivered"] * 3
