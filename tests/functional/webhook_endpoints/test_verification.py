"""A webhook endpoint receives nothing until its address has answered a challenge, and tests of endpoints are capped."""

import json
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from standardwebhooks.webhooks import Webhook

from functions.webhook_endpoints.verification import _problem
from shared.dynamodb.table import Key, update
from shared.models.webhook_endpoint import MAX_ENDPOINTS
from shared.resources import Resources
from shared.webhooks.endpoints import SENDS_OF_SPACE, SENDS_TO_ENDPOINT
from shared.webhooks.sender import Answer
from tests.fixtures.clocks import MovableClock
from tests.fixtures.trainings import space_of
from tests.fixtures.webhooks import Post, Receiver, received
from tests.functional.webhook_endpoints.helpers import add_endpoint, cause_event, deliveries

pytestmark = pytest.mark.row("SE-8")


@pytest.fixture
def silent(receiver: Receiver) -> Receiver:
    """Returns a receiver of somebody who wants no messages."""
    receiver.answers_challenges = False
    return receiver


def place(endpoint: dict[str, Any]) -> str:
    return f"/webhook-endpoints/{endpoint['id']}"


def test_a_new_endpoint_waits_until_its_address_answers_the_challenge(
    client: TestClient, resources: Resources, post: Post, silent: Receiver
) -> None:
    endpoint = add_endpoint(client, silent.url)
    assert (endpoint["status"], "challenge" in endpoint["verification_error"]) == ("pending_verification", True)
    cause_event(client, resources)
    post.run(timedelta(days=1))
    assert silent.requests == []
    assert deliveries(client, endpoint) == []
    for path in ("test", "deliveries/replay"):
        refused = client.post(f"{place(endpoint)}/{path}", json={"since": "2026-01-01"})
        assert (refused.status_code, "verify" in refused.json()["error"]) == (409, True)

    assert client.post(f"{place(endpoint)}/verify").json()["status"] == "pending_verification"
    silent.answers_challenges = True
    verified = client.post(f"{place(endpoint)}/verify")
    assert (verified.json()["status"], verified.json()["verification_error"]) == ("enabled", None)
    assert verified.headers["ETag"] == client.get(place(endpoint)).headers["ETag"]
    cause_event(client, resources)
    post.run()
    assert silent.types == ["checkpoint.created"]
    assert len(silent.challenges) == 3
    assert client.post(f"{place(endpoint)}/verify").json()["status"] == "enabled"
    assert len(silent.challenges) == 3, "a verified address is not asked again"


def test_a_challenge_is_signed_and_differs_each_time(client: TestClient, silent: Receiver) -> None:
    endpoint = add_endpoint(client, silent.url)
    client.post(f"{place(endpoint)}/verify")
    messages = [Webhook(endpoint["secret"]).verify(body.decode(), headers) for headers, body in silent.challenges]
    assert {message["type"] for message in messages} == {"webhook_endpoint.verification"}
    assert [message["data"]["id"] for message in messages] == [endpoint["id"]] * 2
    assert len({message["data"]["challenge"] for message in messages}) == 2


def test_an_endpoint_cannot_be_enabled_without_its_address(client: TestClient, silent: Receiver) -> None:
    endpoint = add_endpoint(client, silent.url)
    for body in ({"status": "enabled"}, {"status": "enabled", "url": f"{silent.url}?x=1"}, {"url": silent.url}):
        assert client.put(place(endpoint), json=body).json()["status"] == "pending_verification"
    assert client.put(place(endpoint), json={"status": "pending_verification"}).status_code == 400
    assert client.put(place(endpoint), json={"status": "disabled"}).json()["status"] == "disabled"
    assert client.post(f"{place(endpoint)}/verify").status_code == 409
    assert client.put(place(endpoint), json={"status": "enabled"}).json()["status"] == "pending_verification"


def test_a_new_address_has_to_answer_too(
    client: TestClient, resources: Resources, post: Post, receiver: Receiver
) -> None:
    endpoint = add_endpoint(client, receiver.url)
    assert endpoint["status"] == "enabled"
    with received(Receiver(answers_challenges=False)) as victim:
        moved = client.put(place(endpoint), json={"url": victim.url})
        assert moved.json()["status"] == "pending_verification"
        cause_event(client, resources)
        post.run()
        assert victim.requests == []
        assert client.put(place(endpoint), json={"url": receiver.url}).json()["status"] == "enabled"
    assert client.put(place(endpoint), json={"description": "Ours", "url": receiver.url}).json()["status"] == "enabled"
    assert len(receiver.challenges) == 2, "an address that stays is not asked again"


def test_a_message_that_waits_is_not_sent_to_an_unverified_address(
    client: TestClient, resources: Resources, post: Post, receiver: Receiver
) -> None:
    endpoint = add_endpoint(client, receiver.url)
    cause_event(client, resources)
    post.publish()
    with received(Receiver(answers_challenges=False)) as victim:
        client.put(place(endpoint), json={"url": victim.url})
        post.run()
        assert victim.requests == []
    [row] = deliveries(client, endpoint)
    assert (row["status"], "not been verified" in row["error"]) == ("failed", True)


def test_an_endpoint_from_before_stays_enabled(
    client: TestClient, resources: Resources, post: Post, receiver: Receiver
) -> None:
    endpoint = add_endpoint(client, receiver.url)
    fields = {"is_verified": None, "verification_error": None}
    resources.table.write(update(Key(f"webhook_endpoint#{space_of(client)}", endpoint["id"]), fields))
    assert client.put(place(endpoint), json={"status": "disabled"}).json()["status"] == "disabled"
    assert client.put(place(endpoint), json={"status": "enabled"}).json()["status"] == "enabled"
    cause_event(client, resources)
    post.run()
    assert "checkpoint.created" in receiver.types
    assert len(receiver.challenges) == 1, "the one of its creation"


@pytest.mark.parametrize(
    ("status", "body", "passes"),
    [
        (200, b'{"challenge": "c"}', True),
        (204, b"", False),
        (200, b"c", False),
        (200, b'{"challenge": "d"}', False),
        (200, b'{"data": {"challenge": "c"}}', False),
        (200, b'["c"]', False),
        (200, b"[" * 100_000, False),
        (200, b"\xff\xfe\x00", False),
        (302, b'{"challenge": "c"}', False),
        (404, b'{"challenge": "c"}', False),
    ],
)
def test_only_a_right_answer_passes(status: int, body: bytes, passes: bool) -> None:
    problem = _problem(Answer(1, status, None, None, body), "c")
    assert (problem is None) is passes


def test_a_server_that_echoes_requests_does_not_pass() -> None:
    message = json.dumps({"type": "webhook_endpoint.verification", "data": {"challenge": "c"}}).encode()
    assert _problem(Answer(1, 200, None, None, message), "c")


def test_tests_of_an_endpoint_are_capped_in_each_minute(
    client: TestClient, post: Post, receiver: Receiver, clock: MovableClock
) -> None:
    clock.now = clock.now.replace(second=20, microsecond=0)
    endpoint = add_endpoint(client, receiver.url)
    statuses = [client.post(f"{place(endpoint)}/test").status_code for _ in range(SENDS_TO_ENDPOINT + 1)]
    # Its verification counts, too.
    assert statuses == [202] * (SENDS_TO_ENDPOINT - 1) + [429] * 2
    refused = client.post(f"{place(endpoint)}/test")
    assert (refused.json()["code"], refused.headers["Retry-After"]) == ("rate_limited", "40")
    other = add_endpoint(client, receiver.url)
    assert client.post(f"{place(other)}/test").status_code == 202
    clock.now += timedelta(seconds=40)
    assert client.post(f"{place(endpoint)}/test").status_code == 202


def test_verifications_of_a_space_are_capped_also_for_endpoints_that_come_and_go(
    client: TestClient, silent: Receiver, clock: MovableClock
) -> None:
    for _ in range(SENDS_OF_SPACE + 5):
        endpoint = add_endpoint(client, silent.url)
        client.delete(place(endpoint))
    assert len(silent.challenges) == SENDS_OF_SPACE
    assert SENDS_OF_SPACE > MAX_ENDPOINTS, "a space can make all its endpoints in one hour"
    endpoint = add_endpoint(client, silent.url)
    assert (endpoint["status"], endpoint["verification_error"]) == ("pending_verification", None)
    assert client.post(f"{place(endpoint)}/verify").status_code == 429
    clock.now += timedelta(minutes=1)
    assert client.post(f"{place(endpoint)}/verify").status_code == 200
