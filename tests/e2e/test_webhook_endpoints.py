"""Tests of webhook deliveries, from a write to the receiver."""

import pytest
from standardwebhooks.webhooks import Webhook

from tests.e2e.conftest import Stack
from tests.fixtures.webhooks import Receiver, received

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

DELIVERY_SECONDS = 120.0


@pytest.mark.row("X-13")
def test_a_failed_delivery_is_repeated_with_the_same_signed_message(stack: Stack) -> None:
    owner = stack.member()
    with received(Receiver(script=lambda number: 503 if number == 1 else 200)) as receiver:
        endpoint = owner.post("/webhook-endpoints", {"url": receiver.url, "event_types": ["insight.created"]})
        offer = {"name": "Card", "description": "", "priority": "high", "type": "offer", "status": "active"}
        owner.post("/actions", offer)
        insight = owner.post("/insights", {"client": "Likes to travel"})
        page = owner.wait(
            f"/webhook-endpoints/{endpoint['id']}/deliveries",
            lambda page: [row["status"] for row in page["data"]] == ["delivered"],
            seconds=DELIVERY_SECONDS,
        )
    [delivery] = page["data"]
    assert [attempt["status_code"] for attempt in delivery["attempts"]] == [503, 200]
    assert receiver.ids == [delivery["id"]] * 2
    for headers, body in receiver.requests:
        message = Webhook(endpoint["secret"]).verify(body.decode(), headers)
        assert message["data"]["id"] == insight["id"]
