"""Tests of the addresses that a webhook may call, and of slow or missing receivers."""

import time

import pytest
from fastapi.testclient import TestClient

from functions.events.deliver_webhooks import WebhookDeliverer
from shared.network.address_guard import AddressGuard
from shared.resources import Resources
from shared.webhooks.sender import WebhookSender
from tests.fixtures.webhooks import Post, Receiver, received
from tests.functional.conftest import same_caller
from tests.functional.webhook_endpoints.helpers import add_endpoint, cause_event, deliveries

pytestmark = pytest.mark.row("X-13")


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


def test_a_name_that_later_resolves_to_a_private_address_is_not_called(
    client: TestClient, resources: Resources, post: Post, receiver: Receiver
) -> None:
    endpoint = add_endpoint(client, receiver.url)
    post.deliverer = WebhookDeliverer(resources, WebhookSender(AddressGuard()))
    cause_event(client, resources)
    post.run()
    [row] = deliveries(client, endpoint)
    assert "not public" in row["attempts"][0]["error"]
    assert receiver.requests == []


def test_the_address_is_checked_again_after_the_connection_is_made(receiver: Receiver) -> None:
    class TrustingGuard(AddressGuard):
        def check_url(self, url: str, field: str, *, allow_query: bool = False) -> None:
            """Accepts the URL, as if its name resolved to a public address before the connection."""

    response = WebhookSender(TrustingGuard()).post(receiver.url, {}, b"{}")
    assert response.status_code is None
    assert "can't be reached" in str(response.error)
    assert receiver.requests == []


def test_a_redirect_is_not_followed(client: TestClient, resources: Resources, post: Post, receiver: Receiver) -> None:
    endpoint = add_endpoint(client, receiver.url)
    receiver.script = lambda _: (302, {"Location": receiver.url})
    cause_event(client, resources)
    post.run()
    assert len(receiver.requests) == 1
    [row] = deliveries(client, endpoint)
    assert (row["status"], row["attempts"][0]["status_code"]) == ("pending", 302)
    assert "redirects are not followed" in row["attempts"][0]["error"]


def test_a_slow_request_is_stopped_at_its_time_limit(receiver: Receiver) -> None:
    def respond_late(_: int) -> int:
        time.sleep(3)
        return 200

    receiver.script = respond_late
    sender = WebhookSender(AddressGuard(allow_loopback=True), limit_seconds=0.3)
    started = time.monotonic()
    response = sender.post(receiver.url, {}, b"{}")
    assert response.error == "did not answer within 0.3 s"
    assert time.monotonic() - started < 2.5


def test_an_unreachable_address_is_reported_as_an_error_without_an_exception(receiver: Receiver) -> None:
    with received(Receiver()) as gone:
        pass
    response = WebhookSender(AddressGuard(allow_loopback=True)).post(gone.url, {}, b"{}")
    assert response.error == "can't be reached: ConnectionRefusedError"
    secure = receiver.url.replace("http://", "https://")
    assert (
        WebhookSender(AddressGuard(allow_loopback=True)).post(secure, {}, b"{}").error == "can't be reached: SSLError"
    )
