"""Sends what the queue says is due to webhook endpoints, and says what became of it.

The schedule of retries is Standard Webhooks': https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any

from shared.models.webhook_endpoint import (
    DeliveryAttempt,
    DeliveryStatus,
    DeliveryTask,
    DisabledReason,
    EndpointStatus,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookEventType,
)
from shared.network.address_guard import AddressGuard
from shared.observability import logger
from shared.resources import Resources
from shared.webhooks.deliveries import TooEarlyError, WebhookDeliveries
from shared.webhooks.endpoints import Recipient, WebhookEndpoints
from shared.webhooks.queue import read_task
from shared.webhooks.sender import Answer, WebhookSender
from shared.webhooks.signature import sign

# After the first attempt, each from the end of the one before.
RETRIES = (
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    *(timedelta(hours=hours) for hours in (2, 5, 10, 14, 20, 24)),
)
LONGEST_WAIT = timedelta(hours=24)
GONE = 410

_resources = Resources()


class WebhookDeliverer:
    def __init__(self, resources: Resources, sender: WebhookSender | None = None) -> None:
        self._deliveries = WebhookDeliveries(resources.table, resources.clock)
        self._endpoints = WebhookEndpoints(resources.table, resources.clock)
        self._queue = resources.webhook_queue
        self._clock = resources.clock
        self._sender = sender or WebhookSender(AddressGuard(allow_loopback=resources.settings.allow_loopback))

    def deliver(self, task: DeliveryTask) -> None:
        """Makes an attempt that is due. Raises TooEarlyError if the queue must deliver the message again."""
        wait = task.due_at - self._clock()
        if wait > LONGEST_WAIT:
            # AWS does not stop this function's loop with its queue, so nothing else would end such a message.
            logger.error("a message is due later than any attempt", extra={"due_at": task.due_at.isoformat()})
            raise TooEarlyError
        if wait > timedelta(0):
            self._queue.send([task])
            return
        delivery = self._deliveries.claim(task)
        if delivery is None:
            return
        recipient = self._endpoints.recipient(task.space_id, task.endpoint_id)
        endpoint, refusal = recipient.endpoint, _refusal(recipient, delivery)
        if endpoint is None or refusal:
            self._deliveries.record_attempt(task, delivery, DeliveryStatus.FAILED, error=refusal)
            return
        started_at = self._clock()
        answer = self._send(endpoint, recipient.secrets, delivery, started_at)
        error = answer.error or _error(answer.status_code or 0)
        attempt = DeliveryAttempt(
            started_at=started_at, duration_ms=answer.duration_ms, status_code=answer.status_code, error=error
        )
        # What it says of the endpoint is noted first: should we stop in between, this attempt is made again.
        if error is None:
            self._endpoints.note_success(task.space_id, endpoint)
            self._deliveries.record_attempt(task, delivery, DeliveryStatus.DELIVERED, attempt=attempt)
        elif answer.status_code == GONE:
            self._endpoints.disable(task.space_id, endpoint.id, DisabledReason.GONE)
            self._deliveries.record_attempt(task, delivery, DeliveryStatus.FAILED, attempt=attempt, error=error)
        else:
            self._endpoints.note_failure(task.space_id, endpoint, started_at)
            self._try_again(task, delivery, attempt, answer)

    def _send(self, endpoint: WebhookEndpoint, secrets: list[str], delivery: WebhookDelivery, now: datetime) -> Answer:
        body = json.dumps(delivery.payload, separators=(",", ":")).encode()
        newest, *older = secrets
        signed = sign(newest, delivery.id, now, body, *older)
        fixed = {"Content-Type": "application/json", "User-Agent": "Inference-Webhooks/1", "Connection": "close"}
        return self._sender.post(endpoint.url, {**fixed, **signed}, body)

    def _try_again(
        self, task: DeliveryTask, delivery: WebhookDelivery, attempt: DeliveryAttempt, answer: Answer
    ) -> None:
        number, now = task.attempt - delivery.replayed_at_attempt, self._clock()
        if number >= len(RETRIES):
            error = f"the last of {len(RETRIES) + 1} attempts failed: {attempt.error}"
            self._deliveries.record_attempt(task, delivery, DeliveryStatus.FAILED, attempt=attempt, error=error)
            return
        wait = max(RETRIES[number], min(_asked_for(answer.retry_after, now), LONGEST_WAIT))
        # Queued first: should we stop in between, this attempt is made again, and the next one not lost.
        following = DeliveryTask(task.space_id, task.endpoint_id, task.delivery_id, task.attempt + 1, now + wait)
        self._queue.send([following])
        self._deliveries.record_attempt(
            task, delivery, DeliveryStatus.PENDING, attempt=attempt, next_attempt_at=following.due_at
        )


def deliver_webhooks(event: dict[str, Any], deliverer: WebhookDeliverer) -> list[str]:
    """Delivers a batch in parallel, so that a slow address delays no other. Returns the ids of messages to repeat."""

    def handle(record: dict[str, Any]) -> str | None:
        try:
            deliverer.deliver(read_task(record["body"]))
        except TooEarlyError:
            return str(record["messageId"])
        except Exception:  # noqa: BLE001 - a wrong message must not stop the others of its batch
            logger.exception("a message could not be handled")
            return str(record["messageId"])
        return None

    with ThreadPoolExecutor(max_workers=len(event["Records"])) as threads:
        return [message_id for message_id in threads.map(handle, event["Records"]) if message_id]


def _refusal(recipient: Recipient, delivery: WebhookDelivery) -> str | None:
    """Returns the reason why nothing is sent."""
    if recipient.endpoint is None or not recipient.secrets:
        return "the endpoint was deleted"
    if recipient.endpoint.status is EndpointStatus.DISABLED:
        return "the endpoint is disabled; enable it and replay the message"
    if recipient.endpoint.status is EndpointStatus.PENDING_VERIFICATION:
        return "the address has not been verified; verify the endpoint and replay the message"
    if not recipient.space_in_use and delivery.event_type is not WebhookEventType.SPACE_DELETED:
        return "the space is deleted"
    return None


def _error(status: int) -> str | None:
    if 200 <= status < 300:
        return None
    if 300 <= status < 400:
        return f"it answered with status {status}, and redirects are not followed: give the address it leads to"
    return f"it answered with status {status}"


def _asked_for(retry_after: str | None, now: datetime) -> timedelta:
    """Returns the pause that ``Retry-After`` requests in seconds or as a time (RFC 9110)."""
    text = (retry_after or "").strip()
    if text.isascii() and text.isdigit():
        return timedelta(seconds=min(int(text[:9]), LONGEST_WAIT.total_seconds()))
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return timedelta(0)
    return until.replace(tzinfo=until.tzinfo or UTC) - now


@cache
def _deliverer() -> WebhookDeliverer:
    """For as long as the function is warm: it has read the certificates that senders trust."""
    return WebhookDeliverer(_resources)


@logger.inject_lambda_context
def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    failed = deliver_webhooks(event, _deliverer())
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}
