"""What happens in a space is sent, signed, to where its owner wants it: once, as soon as it can be."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from threading import Event
from typing import Any

import boto3
import pytest
from fastapi.testclient import TestClient
from standardwebhooks.webhooks import Webhook

from functions.events.deliver_webhooks import RETRIES, WebhookDeliverer, deliver_webhooks
from functions.events.webhook_sender import Answer, WebhookSender
from shared.models.job_status import JobStatus
from shared.models.webhook_endpoint import MAX_ENDPOINTS
from shared.network.address_guard import AddressGuard
from shared.resources import Resources
from shared.settings import Settings
from shared.trainings.store import Trainings
from shared.webhooks.deliveries import CLAIM, TooEarlyError, WebhookDeliveries
from shared.webhooks.queue import read_task
from shared.webhooks.signature import SignatureError, sign, verify
from tests.fixtures.audit import Stream, watch_table
from tests.fixtures.clocks import MovableClock
from tests.fixtures.evaluations import add_checkpoint, add_member
from tests.fixtures.trainings import space_of, training_request
from tests.fixtures.webhooks import FakeSqs, Post, Receiver, received
from tests.functional.conftest import ClientMaker, same_caller

pytestmark = pytest.mark.row("X-13")

HOUR = timedelta(hours=1)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"allow_loopback": True})


@pytest.fixture
def sqs(movable_clock: MovableClock) -> FakeSqs:
    return FakeSqs(movable_clock)


@pytest.fixture
def resources(aws: None, settings: Settings, movable_clock: MovableClock, sqs: FakeSqs) -> Resources:
    return Resources(
        settings.model_copy(update={"webhook_queue_url": "https://sqs.test/queue"}), movable_clock, sqs=sqs
    )


@pytest.fixture
def post(resources: Resources, clock: MovableClock, sqs: FakeSqs) -> Post:
    watch_table()
    return Post(resources, clock, sqs, Stream())


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with received(Receiver()) as receiver:
        yield receiver


def add_endpoint(client: TestClient, url: str, **fields: Any) -> dict[str, Any]:
    answer = client.post("/webhook-endpoints", json={"url": url, **fields})
    assert answer.status_code == 201, answer.text
    created: dict[str, Any] = answer.json()
    return created


def deliveries(client: TestClient, endpoint: dict[str, Any], **query: Any) -> list[dict[str, Any]]:
    answer = client.get(f"/webhook-endpoints/{endpoint['id']}/deliveries", params={"limit": 100, **query})
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.json()["data"]
    return rows


def happen(client: TestClient, resources: Resources) -> str:
    """Something that endpoints are told of; what it is about."""
    return add_checkpoint(resources.table, space_of(client)).id


def down(_: int) -> int:
    return 503


# --- signatures


def test_the_signature_is_that_of_the_published_vector() -> None:
    # https://github.com/standard-webhooks/standard-webhooks, in the tests of its libraries
    headers = sign(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        datetime.fromtimestamp(1614265330, UTC),
        b'{"test": 2432232314}',
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_message_is_thin_and_verified_by_the_public_library(
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


def test_a_rotated_secret_signs_along_for_a_day_and_no_list_tells_any(
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

    happen(client, resources)
    post.run()
    assert (verified(old), verified(new)) == (True, True)
    clock.now += timedelta(hours=23)
    happen(client, resources)
    post.run()
    assert (verified(old), verified(new)) == (True, True)
    clock.now += timedelta(hours=2)
    happen(client, resources)
    post.run()
    assert len(receiver.requests) == 3
    assert (verified(old), verified(new)) == (False, True)

    for path in ("", f"/{first['id']}", f"/{first['id']}/deliveries"):
        assert "whsec_" not in client.get(f"/webhook-endpoints{path}").text
    for _ in range(6):
        client.post(f"/webhook-endpoints/{first['id']}/rotate-secret")
    happen(client, resources)
    post.run()
    assert receiver.requests[-1][0]["webhook-signature"].count("v1,") == 4


# --- what is told


def test_each_kind_of_event_comes_from_the_change_that_it_is_named_after(
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
    client.post("/data-models", json={"name": "Not told of"})
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


def test_an_endpoint_is_told_of_the_types_that_it_wants(
    client: TestClient, resources: Resources, post: Post, receiver: Receiver
) -> None:
    endpoint = add_endpoint(client, receiver.url, event_types=["insight.created"])
    happen(client, resources)
    post.run()
    assert receiver.types == []
    place = f"/webhook-endpoints/{endpoint['id']}"
    assert client.put(place, json={"event_types": []}).json()["event_types"] == []
    happen(client, resources)
    post.run()
    assert receiver.types == ["checkpoint.created"]
    refused = client.put(place, json={"event_types": ["rain.tomorrow"]})
    assert refused.status_code == 400


def test_a_change_told_of_twice_is_one_message(
    client: TestClient, resources: Resources, post: Post, receiver: Receiver
) -> None:
    endpoint = add_endpoint(client, receiver.url)
    happen(client, resources)
    records = post.publish()
    # Again before anything was sent, as after a crash between noting and queueing: two messages in the queue.
    post.tell(records)
    assert len(post.sqs.waiting) == 2
    post.run(timedelta(minutes=10))
    post.tell(records)
    post.run(timedelta(minutes=10))
    assert post.sqs.waiting == []
    assert len(receiver.requests) == 1
    assert len(deliveries(client, endpoint)) == 1


# --- retries


def test_a_receiver_that_was_down_for_an_hour_gets_each_event_once_it_is_up_and_once(
    client: TestClient, resources: Resources, post: Post, receiver: Receiver, clock: MovableClock
) -> None:
    endpoint = add_endpoint(client, receiver.url)
    started = clock.now
    receiver.script = lambda _: 200 if clock.now - started >= HOUR else 503
    happened = []
    for _ in range(4):
        happened.append(happen(client, resources))
        post.run(timedelta(minutes=15))
    assert client.get(f"/webhook-endpoints/{endpoint['id']}").json()["failing_since"]
    post.run(3 * HOUR)
    rows = deliveries(client, endpoint)
    assert [row["payload"]["data"]["id"] for row in rows] == happened[::-1]
    assert {row["status"] for row in rows} == {"delivered"}
    for row in rows:
        assert [attempt["status_code"] for attempt in row["attempts"]].count(200) == 1
        assert receiver.ids.count(row["id"]) == len(row["attempts"]) > 1
    assert client.get(f"/webhook-endpoints/{endpoint['id']}").json()["failing_since"] is None
    before = len(receiver.requests)
    post.run(100 * HOUR)
    assert len(receiver.requests) == before


def test_attempts_follow_the_schedule_to_its_end_without_a_wait_that_sqs_does_not_know(
    client: TestClient, resources: Resources, post: Post, receiver: Receiver
) -> None:
    post.sqs.is_exact = True
    endpoint = add_endpoint(client, receiver.url)
    receiver.script = down
    happen(client, resources)
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
def test_retry_after_is_honoured_within_bounds(
    client: TestClient, resources: Resources, post: Post, receiver: Receiver, retry_after: str, least: int, most: int
) -> None:
    endpoint = add_endpoint(client, receiver.url)
    header = retry_after.encode().decode("latin-1")
    receiver.script = lambda number: (429, {"Retry-After": header}) if number == 1 else 200
    happen(client, resources)
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
    happen(client, resources)
    post.run(HOUR)
    [row] = deliveries(client, endpoint)
    assert [attempt["status_code"] for attempt in row["attempts"]] == [503, 200]
    assert datetime.fromisoformat(row["attempts"][1]["started_at"]) - until < timedelta(seconds=2)


def test_gone_disables_at_once_and_says_so(
    client: TestClient, resources: Resources, post: Post, receiver: Receiver
) -> None:
    endpoint = add_endpoint(client, receiver.url)
    with received(Receiver()) as other:
        add_endpoint(client, other.url, event_types=["webhook_endpoint.disabled"])
        receiver.script = lambda _: 410
        happen(client, resources)
        post.run(100 * HOUR)
        assert len(receiver.requests) == 1
        found = client.get(f"/webhook-endpoints/{endpoint['id']}").json()
        assert (found["status"], found["disabled_reason"]) == ("disabled", "gone")
        assert [message["data"]["id"] for message in other.messages] == [endpoint["id"]]


def test_an_endpoint_that_fails_for_five_days_is_disabled_and_can_be_enabled_again(
    client: TestClient, resources: Resources, post: Post, receiver: Receiver
) -> None:
    endpoint = add_endpoint(client, receiver.url)
    place = f"/webhook-endpoints/{endpoint['id']}"
    receiver.script = down
    for _ in range(5):
        happen(client, resources)
        post.run(24 * HOUR)
        assert client.get(place).json()["status"] == "enabled"
    happen(client, resources)
    post.run(24 * HOUR)
    found = client.get(place).json()
    assert (found["status"], found["disabled_reason"]) == ("disabled", "failing")
    asked = len(receiver.requests)
    happen(client, resources)
    post.run(24 * HOUR)
    assert len(receiver.requests) == asked
    assert client.post(f"{place}/test").status_code == 409

    receiver.script = lambda _: 200
    enabled = client.patch(place, json={"status": "enabled"}).json()
    assert (enabled["status"], enabled["disabled_reason"], enabled["failing_since"]) == ("enabled", None, None)
    happen(client, resources)
    post.run()
    assert len(receiver.requests) == asked + 1


def test_what_still_waits_for_a_disabled_or_deleted_endpoint_is_not_sent(
    client: TestClient, resources: Resources, post: Post, receiver: Receiver
) -> None:
    receiver.script = down
    disabled, deleted = (add_endpoint(client, receiver.url) for _ in range(2))
    happen(client, resources)
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


# --- addresses


@pytest.mark.parametrize(
    "url",
    [
        "https://10.0.0.1/hook",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]:1/",
        "http://93.184.216.34/",
        "https://user:password@93.184.216.34/",
        "https://93.184.216.34/#part",
        "ftp://93.184.216.34/",
        "https://93.184.216.34/a b",
        "https://" + "a" * 3000,
        "",
    ],
)
def test_an_address_that_may_not_be_called_is_refused(client: TestClient, resources: Resources, url: str) -> None:
    settings = resources.settings.model_copy(update={"allow_loopback": False})
    refused = same_caller(client, Resources(settings, sqs=resources.sqs)).post("/webhook-endpoints", json={"url": url})
    assert refused.status_code == 400, refused.text
    assert refused.json()["details"][0]["field"] == "body.url"
    assert client.get("/webhook-endpoints").json()["count"] == 0


def test_a_name_that_leads_to_a_private_address_later_is_not_called(
    client: TestClient, resources: Resources, post: Post, receiver: Receiver
) -> None:
    endpoint = add_endpoint(client, receiver.url)
    post.deliverer = WebhookDeliverer(resources, WebhookSender(AddressGuard()))
    happen(client, resources)
    post.run()
    [row] = deliveries(client, endpoint)
    assert "not public" in row["attempts"][0]["error"]
    assert receiver.requests == []


def test_the_peer_is_checked_again_once_the_connection_stands(receiver: Receiver) -> None:
    class Rebound(AddressGuard):
        def check_url(self, url: str, field: str, *, allow_query: bool = False) -> None:
            """The name still meant something else."""

    answer = WebhookSender(Rebound()).post(receiver.url, {}, b"{}")
    assert answer.status_code is None
    assert "can't be reached" in str(answer.error)
    assert receiver.requests == []


def test_a_redirect_is_not_followed(client: TestClient, resources: Resources, post: Post, receiver: Receiver) -> None:
    endpoint = add_endpoint(client, receiver.url)
    receiver.script = lambda _: (302, {"Location": receiver.url})
    happen(client, resources)
    post.run()
    assert len(receiver.requests) == 1
    [row] = deliveries(client, endpoint)
    assert (row["status"], row["attempts"][0]["status_code"]) == ("pending", 302)
    assert "redirects are not followed" in row["attempts"][0]["error"]


def test_an_answer_that_drips_is_cut_off_when_the_time_is_up(receiver: Receiver) -> None:
    def late(_: int) -> int:
        time.sleep(3)
        return 200

    receiver.script = late
    sender = WebhookSender(AddressGuard(allow_loopback=True), limit_seconds=0.3)
    started = time.monotonic()
    answer = sender.post(receiver.url, {}, b"{}")
    assert answer.error == "did not answer within 0.3 s"
    assert time.monotonic() - started < 2.5


def test_an_address_where_nobody_listens_is_an_error_and_no_exception(receiver: Receiver) -> None:
    with received(Receiver()) as gone:
        pass
    answer = WebhookSender(AddressGuard(allow_loopback=True)).post(gone.url, {}, b"{}")
    assert answer.error == "can't be reached: ConnectionRefusedError"
    secure = receiver.url.replace("http://", "https://")
    assert (
        WebhookSender(AddressGuard(allow_loopback=True)).post(secure, {}, b"{}").error == "can't be reached: SSLError"
    )


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
    monkeypatch.setattr(WebhookDeliveries, "settle", die)
    with pytest.raises(SystemExit):
        post.deliverer.deliver(read_task(record["body"]))
    assert client.get(f"/webhook-endpoints/{endpoint['id']}").json()["failing_since"] is None


def test_a_slow_receiver_holds_up_no_other_of_the_same_batch(
    client: TestClient, resources: Resources, post: Post, receiver: Receiver
) -> None:
    waited = []

    def slow_answer(_: int) -> int:
        # Until the other one has got his message, or for ever if it waits behind these.
        waited.append(told.wait(20))
        return 200

    def answer(_: int) -> int:
        told.set()
        return 200

    told = Event()
    receiver.script = answer
    with received(Receiver(script=slow_answer)) as slow:
        add_endpoint(client, receiver.url)
        for _ in range(3):
            add_endpoint(client, slow.url)
        happen(client, resources)
        post.publish()
        assert deliver_webhooks({"Records": post.sqs.take()}, post.deliverer) == []
    assert waited == [True] * 3


# --- replay


def test_failed_messages_are_replayed_one_by_one_and_all_since_a_time(
    client: TestClient, resources: Resources, post: Post, receiver: Receiver, clock: MovableClock
) -> None:
    endpoint, started = add_endpoint(client, receiver.url), clock.now.isoformat()
    place = f"/webhook-endpoints/{endpoint['id']}/deliveries"
    receiver.script = down
    happen(client, resources)
    post.run(HOUR)
    later = clock.now.isoformat()
    for _ in range(3):
        happen(client, resources)
    post.run(80 * HOUR)
    oldest = deliveries(client, endpoint)[-1]["id"]
    assert len(deliveries(client, endpoint, status="failed")) == 4

    receiver.script = lambda _: 200
    replayed = client.post(f"{place}/{oldest}/replay")
    assert replayed.status_code == 202
    assert (replayed.json()["id"], replayed.json()["status"]) == (oldest, "pending")
    post.run()
    assert receiver.ids[-1] == oldest
    assert [row["id"] for row in deliveries(client, endpoint, status="delivered")] == [oldest]
    assert client.post(f"{place}/replay", json={"since": later}).json() == {"count": 0, "has_more": False}
    assert client.post(f"{place}/replay", json={"since": started}).json() == {"count": 3, "has_more": False}
    post.run()
    rows = deliveries(client, endpoint)
    assert [row["status"] for row in rows] == ["delivered"] * 4
    assert [row["attempt_count"] for row in rows] == [11] * 4
    # What was delivered can be sent again as well, under its old id.
    client.post(f"{place}/{oldest}/replay")
    post.run()
    assert receiver.ids[-1] == oldest


def test_what_could_not_be_queued_is_replayed_when_that_is_asked_for_again(
    client: TestClient, resources: Resources, post: Post, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = add_endpoint(client, receiver.url)
    started, receiver.script = post.clock.now.isoformat(), down
    happen(client, resources)
    post.run(80 * HOUR)
    receiver.script = lambda _: 200
    replay = f"/webhook-endpoints/{endpoint['id']}/deliveries/replay"
    with monkeypatch.context() as broken:
        broken.setattr(post.sqs, "send_message_batch", lambda **_: {"Failed": [{"Id": "0"}]})
        assert client.post(replay, json={"since": started}).status_code == 503
    happen(client, resources)  # and waits in the queue
    post.publish()
    assert client.post(replay, json={"since": started}).json() == {"count": 1, "has_more": False}
    post.run()
    assert [row["status"] for row in deliveries(client, endpoint)] == ["delivered"] * 2


def test_a_replayed_message_has_all_its_attempts_again(
    client: TestClient, resources: Resources, post: Post, receiver: Receiver
) -> None:
    endpoint = add_endpoint(client, receiver.url)
    receiver.script = down
    happen(client, resources)
    post.run(80 * HOUR)
    [row] = deliveries(client, endpoint)
    client.post(f"/webhook-endpoints/{endpoint['id']}/deliveries/{row['id']}/replay")
    post.run(80 * HOUR)
    [again] = deliveries(client, endpoint)
    assert (again["status"], again["attempt_count"]) == ("failed", 20)


def test_a_test_message_is_sent_and_listed(client: TestClient, post: Post, receiver: Receiver) -> None:
    endpoint = add_endpoint(client, receiver.url, event_types=["insight.created"])
    asked = client.post(f"/webhook-endpoints/{endpoint['id']}/test")
    assert asked.status_code == 202
    post.run()
    assert receiver.types == ["webhook_endpoint.test"]
    assert [row["id"] for row in deliveries(client, endpoint)] == [asked.json()["id"]] == receiver.ids


# --- spaces


def test_another_space_is_told_nothing(
    client: TestClient, other_client: TestClient, resources: Resources, post: Post, receiver: Receiver
) -> None:
    theirs = add_endpoint(other_client, receiver.url)
    happen(client, resources)
    post.run()
    assert receiver.requests == []
    for path in ("", "/deliveries"):
        assert client.get(f"/webhook-endpoints/{theirs['id']}{path}").status_code == 404


def test_of_a_deleted_space_its_end_is_told_and_nothing_more(
    client: TestClient, resources: Resources, post: Post, receiver: Receiver
) -> None:
    add_endpoint(client, receiver.url)
    receiver.script = down
    happen(client, resources)
    post.run()
    space = space_of(client)
    assert client.delete(f"/spaces/{space}").status_code < 300
    add_checkpoint(resources.table, space)
    receiver.script = lambda _: 200
    post.run(100 * HOUR)
    assert receiver.types == ["checkpoint.created", "space.deleted"]


def test_members_that_do_not_own_the_space_have_nothing_to_do_with_its_endpoints(
    client: TestClient, resources: Resources, sign_in: ClientMaker, receiver: Receiver
) -> None:
    endpoint = add_endpoint(client, receiver.url)
    carol = sign_in("carol")
    add_member(resources.table, carol, space_of(client), [])
    place = f"/webhook-endpoints/{endpoint['id']}"
    for answer in (
        carol.get("/webhook-endpoints"),
        carol.post("/webhook-endpoints", json={"url": receiver.url}),
        carol.get(place),
        carol.put(place, json={}),
        carol.delete(place),
        carol.post(f"{place}/rotate-secret"),
        carol.post(f"{place}/test"),
        carol.get(f"{place}/deliveries"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")


def test_a_space_has_so_many_endpoints_and_no_more(client: TestClient, receiver: Receiver) -> None:
    def create(_: int) -> int:
        return client.post("/webhook-endpoints", json={"url": receiver.url}).status_code

    statuses = [create(number) for number in range(MAX_ENDPOINTS + 2)]
    assert statuses == [201] * MAX_ENDPOINTS + [409] * 2
    newest = client.get("/webhook-endpoints").json()["data"][0]["id"]
    client.delete(f"/webhook-endpoints/{newest}")
    assert create(0) == 201


def test_a_retried_create_answers_the_same_endpoint_and_secret(client: TestClient, receiver: Receiver) -> None:
    headers, body = {"Idempotency-Key": "once"}, {"url": receiver.url}
    first, again = (client.post("/webhook-endpoints", json=body, headers=headers).json() for _ in range(2))
    assert first == again
    assert client.get("/webhook-endpoints").json()["count"] == 1


def test_deliveries_are_walked_newest_first_and_forgotten_after_thirty_days(
    client: TestClient, resources: Resources, post: Post, receiver: Receiver
) -> None:
    endpoint = add_endpoint(client, receiver.url)
    for _ in range(5):
        happen(client, resources)
    post.run()
    walked: list[str] = []
    while True:
        params: dict[str, Any] = {"limit": 2, "after": walked[-1] if walked else ""}
        page = client.get(f"/webhook-endpoints/{endpoint['id']}/deliveries", params=params).json()
        assert page["count"] == 5
        walked += [row["id"] for row in page["data"]]
        if not page["has_more"]:
            break
    assert walked == [row["id"] for row in deliveries(client, endpoint)]
    assert len(walked) == 5
    item = boto3.client("dynamodb").query(
        TableName=resources.table.name,
        KeyConditionExpression="PK = :pk",
        ExpressionAttributeValues={":pk": {"S": f"webhook_delivery#{space_of(client)}#{endpoint['id']}"}},
    )["Items"][0]
    kept = datetime.fromtimestamp(int(item["expires_at"]["N"]), UTC) - datetime.now(UTC)
    assert timedelta(days=29) < kept <= timedelta(days=30, seconds=60)
    post.run(timedelta(days=31))
    assert deliveries(client, endpoint) == []
