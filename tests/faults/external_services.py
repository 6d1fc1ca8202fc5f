"""Unreliable services around the app: mails, a language model, and the delivery of webhooks to their receiver."""

import random
import threading
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from botocore.exceptions import ConnectTimeoutError, ReadTimeoutError

from functions.events.deliver_webhooks import WebhookDeliverer, deliver_webhooks
from functions.events.publish_webhook_events import publish_webhook_events
from shared.dynamodb.codec import decode_images
from shared.webhooks.events import event_of
from tests.faults.boundary import KILLS, KilledError
from tests.faults.emulated_platform import EmulatedPlatform
from tests.faults.stored_items import StoredItems
from tests.fixtures.audit import AUDITED, passes
from tests.fixtures.upstream import argument_about, schema_name
from tests.fixtures.webhooks import VISIBILITY, FakeSqs, Receiver


def complete(body: dict[str, Any]) -> str:
    """Returns a language model's completion: an argument if the schema requires one."""
    return argument_about(body) if schema_name(body) == "argument" else "Hello there."


class UnreliableMails:
    """A mail service that loses some mails, and the confirmations of others."""

    def __init__(self, dice: random.Random, rate: float) -> None:
        self.sent: Counter[str] = Counter()
        self._dice = dice
        self._rate = rate
        self._lock = threading.Lock()

    def send_email(self, **request: Any) -> None:
        with self._lock:
            if self._dice.random() < self._rate:
                raise ConnectTimeoutError(endpoint_url="mails")
            self.sent.update(request["Destination"]["ToAddresses"])
            if self._dice.random() < self._rate:
                raise ReadTimeoutError(endpoint_url="mails")

    def problems(self, invites: Iterable[dict[str, Any]]) -> list[str]:
        """Returns a problem for each invite with the status ``sent`` and without a mail."""
        claimed = [invite["email"] for invite in invites if invite["mail"] == "sent"]
        return [f"no mail was sent to {email}" for email in claimed if not self.sent[email]]


class WebhookPath:
    """The path of webhooks from the table's stream to a receiver, with workers that are killed on the way."""

    def __init__(self, platform: EmulatedPlatform, receiver: Receiver) -> None:
        self._platform = platform
        self._queue = FakeSqs(platform.now)
        self._resources = platform.worker(sqs=self._queue)
        self._receiver = receiver
        self._published: set[str] = set()

    def publish(self, records: list[dict[str, Any]]) -> None:
        """Sends the stream's records to a worker that is killed at random, and then again to another one."""
        ours = [record for record in records if passes(record, AUDITED[0])]
        events = (event_of(*decode_images(record)) for record in ours)
        self._published |= {event.id for event in events if event is not None}
        killed = self._platform.boundary.failing(*KILLS, rate=0.1, services=frozenset({"dynamodb"}))
        with killed, suppress(KilledError):
            publish_webhook_events({"Records": ours}, self._resources)
        publish_webhook_events({"Records": ours}, self._resources)

    def deliver(self, dice: random.Random) -> None:
        """Delivers messages, some of them twice. Messages of killed workers and messages that are not due return."""
        deliverer = WebhookDeliverer(self._resources)
        while self._queue.waiting:
            for record in self._queue.take():
                for _ in range(1 + (dice.random() < 0.2)):
                    if self._fails(deliverer, record):
                        self._queue.show_again(record)
            self._platform.elapsed += VISIBILITY

    def problems(self, found: StoredItems) -> list[str]:
        """Returns a problem for each event that was not delivered to the endpoint or not received."""
        states = {sk: item["status"] for _, sk, item in found.of("webhook_delivery")}
        wrong = [f"the message {sk} is {status}" for sk, status in states.items() if status != "delivered"]
        wrong += [f"the event {each} was sent to nobody" for each in self._published - states.keys()]
        return wrong + [f"the message {each} was not received" for each in states.keys() - set(self._receiver.ids)]

    def _fails(self, deliverer: WebhookDeliverer, record: dict[str, Any]) -> bool:
        with self._platform.boundary.failing(*KILLS, rate=0.05, services=frozenset({"dynamodb"})):
            try:
                return bool(deliver_webhooks({"Records": [record]}, deliverer))
            except KilledError:
                return True
