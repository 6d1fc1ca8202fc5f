"""What lies outside of AWS: mails that get lost or come twice, a language model, and receivers of webhooks."""

import random
import threading
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from botocore.exceptions import ConnectTimeoutError, ReadTimeoutError

from functions.events.deliver_webhooks import WebhookDeliverer, deliver_webhooks
from functions.events.publish_webhook_events import publish_webhook_events
from shared.aws.resources import Resources
from shared.aws.webhook_queue import WebhookQueue
from shared.store.codec import decode_images
from shared.store.webhook_events import event_of
from tests.faults.boundary import KILLS, KilledError
from tests.faults.recount import Recount
from tests.faults.world import World
from tests.fixtures.audit import AUDITED, passes
from tests.fixtures.upstream import schema_name
from tests.fixtures.webhooks import VISIBILITY, FakeSqs, Receiver


def said(body: dict[str, Any]) -> str:
    """What a language model answers: an argument where one is asked for."""
    is_argument = schema_name(body) == "argument"
    return '{"thinking": "It fits.", "argument": "It suits you."}' if is_argument else "Hello there."


class Mails:
    """A mail service that loses some mails, and of others only the word that it has sent them."""

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

    def untruths(self, invites: Iterable[dict[str, Any]]) -> list[str]:
        """Of which mails it is said that they were sent, and they were not."""
        told = [invite["email"] for invite in invites if invite["mail"] == "sent"]
        return [f"no mail was sent to {email}" for email in told if not self.sent[email]]


class Hooks:
    """The way of webhooks from the table's stream to a receiver, with workers that die on it."""

    def __init__(self, world: World, resources: Resources, receiver: Receiver) -> None:
        self._world = world
        self._resources = resources
        self._receiver = receiver
        self._queue = FakeSqs(resources.clock)
        self._told: set[str] = set()
        resources.__dict__["webhook_queue"] = WebhookQueue(self._queue, "https://sqs.test/queue", resources.clock)

    def publish(self, records: list[dict[str, Any]]) -> None:
        """Records of the stream come again when the worker died."""
        ours = [record for record in records if passes(record, AUDITED[0])]
        events = (event_of(*decode_images(record)) for record in ours)
        self._told |= {event.id for event in events if event is not None}
        dies = self._world.boundary.failing(*KILLS, rate=0.1, services=frozenset({"dynamodb"}))
        with dies, suppress(KilledError):
            publish_webhook_events({"Records": ours}, self._resources)
        publish_webhook_events({"Records": ours}, self._resources)

    def deliver(self, dice: random.Random) -> None:
        """Some messages come twice; those whose worker died, or that are too early, come again."""
        deliverer = WebhookDeliverer(self._resources)
        while self._queue.waiting:
            for record in self._queue.take():
                for _ in range(1 + (dice.random() < 0.2)):
                    if self._fails(deliverer, record):
                        self._queue.show_again(record)
            self._world.later += VISIBILITY

    def untruths(self, found: Recount) -> list[str]:
        """Events that were not delivered to the endpoint, or not received."""
        states = {sk: item["status"] for _, sk, item in found.of("webhook_delivery")}
        wrong = [f"the message {sk} is {status}" for sk, status in states.items() if status != "delivered"]
        wrong += [f"of the event {each} nobody was told" for each in self._told - states.keys()]
        return wrong + [f"the message {each} never came" for each in states.keys() - set(self._receiver.ids)]

    def _fails(self, deliverer: WebhookDeliverer, record: dict[str, Any]) -> bool:
        with self._world.boundary.failing(*KILLS, rate=0.05, services=frozenset({"dynamodb"})):
            try:
                return bool(deliver_webhooks({"Records": [record]}, deliverer))
            except KilledError:
                return True
