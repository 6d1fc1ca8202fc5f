"""Messages to webhook endpoints, ``webhook_delivery#<space>#<endpoint>``: what is to be sent, and what became of it.

The queue decides when to try, this table whether: the first to claim the number of an attempt makes it, so that a
message of the queue that comes twice sends nothing twice. Deliveries are kept for 30 days.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from typing import Any

from boto3.dynamodb.conditions import Attr, ConditionBase

from shared.clock import Clock, new_id, utc_now
from shared.dynamodb.repository import Repository, cursor_id
from shared.dynamodb.table import ConditionFailedError, Item, Table, put, update
from shared.dynamodb.time_ordered_ids import ids_within, made_at
from shared.errors import ConflictError
from shared.models.webhook_endpoint import DeliveryAttempt, DeliveryPage, DeliveryStatus, DeliveryTask, WebhookDelivery
from shared.webhooks.events import WebhookEvent

KEPT = timedelta(days=30)
# Longer than the function that sends may run.
CLAIM = timedelta(seconds=90)
ATTEMPTS_KEPT = 50
COUNTED_ROWS = 1000
REPLAYED_AT_ONCE = 500

_IS_PENDING = Attr("status").eq(DeliveryStatus.PENDING.value)


class TooEarlyError(Exception):
    """The attempt is being made by somebody else, or the one before it has not been noted yet."""


class WebhookDeliveries:
    def __init__(self, table: Table, clock: Clock = utc_now) -> None:
        self._deliveries = Repository(table, WebhookDelivery, kind="webhook_delivery", clock=clock)
        self._table = table
        self._clock = clock

    def add(self, space_id: str, endpoint_id: str, event: WebhookEvent) -> tuple[WebhookDelivery, DeliveryTask | None]:
        """Stores a message once, and returns its task for the queue; ``None`` if it was tried already."""
        now = self._clock()
        delivery = WebhookDelivery(
            id=event.id,
            created_at=made_at(event.id),
            updated_at=now,
            event_type=event.type,
            payload=event.payload,
            next_attempt_at=now,
        )
        values: Item = {name: getattr(delivery, name) for name in WebhookDelivery.model_fields}
        values["expires_at"] = int((now + KEPT).timestamp())
        key = self._deliveries.key(_owner(space_id, endpoint_id), event.id)
        try:
            self._table.write(put(key, values, Attr("PK").not_exists()))
        except ConditionFailedError as failed:
            delivery = self._deliveries.load(failed.item or values)
            if delivery.status is not DeliveryStatus.PENDING or delivery.attempt_count:
                return delivery, None
        return delivery, DeliveryTask(space_id, endpoint_id, delivery.id, 0, now)

    def claim(self, task: DeliveryTask) -> WebhookDelivery | None:
        """Returns the delivery for this attempt, or ``None`` if another worker makes it or it is not wanted any more.

        Raises TooEarlyError.
        """
        now, claim = self._clock(), new_id()
        condition = _IS_PENDING & Attr("attempt_count").eq(task.attempt) & _is_free(now)
        try:
            return self._update(task, {"claimed_until": now + CLAIM, "claim": claim}, condition)
        except ConditionFailedError as failed:
            if failed.item is None:
                return None
            current = self._deliveries.load(failed.item)
            if failed.item.get("claim") == claim:  # stored before, without a response
                return current
            if current.status is not DeliveryStatus.PENDING or current.attempt_count > task.attempt:
                return None
            raise TooEarlyError from None

    def record_attempt(
        self,
        task: DeliveryTask,
        delivery: WebhookDelivery,
        status: DeliveryStatus,
        *,
        attempt: DeliveryAttempt | None = None,
        error: str | None = None,
        next_attempt_at: datetime | None = None,
    ) -> None:
        """Notes what became of a claimed attempt, unless its time was over and somebody else has made it since."""
        changes = {
            "status": status,
            "attempts": [*delivery.attempts, *([attempt] if attempt else [])][-ATTEMPTS_KEPT:],
            "error": error,
            "next_attempt_at": next_attempt_at,
            "claimed_until": None,
        }
        is_ours = Attr("attempt_count").eq(task.attempt) & Attr("claimed_until").eq(delivery.claimed_until)
        try:
            self._update(task, {**changes, "attempt_count": task.attempt + 1}, is_ours)
        except ConditionFailedError:
            return

    def replay(self, space_id: str, endpoint_id: str, delivery_id: str) -> tuple[WebhookDelivery, DeliveryTask]:
        """Allows a message to be sent again, with all attempts of a new one.

        Raises NotFoundError, and ConflictError while an attempt is being made, because its end decides the status.
        """
        now = self._clock()
        current = self._deliveries.get(_owner(space_id, endpoint_id), delivery_id)
        task = DeliveryTask(space_id, endpoint_id, delivery_id, current.attempt_count, now)
        changes = {
            "status": DeliveryStatus.PENDING,
            "replayed_at_attempt": current.attempt_count,
            "error": None,
            "next_attempt_at": now,
            "expires_at": int((now + KEPT).timestamp()),
        }
        try:
            is_current = Attr("attempt_count").eq(current.attempt_count) & _is_free(now)
            return self._update(task, changes, is_current), task
        except ConditionFailedError:
            raise ConflictError("The message is being sent just now. Look at what becomes of it first.") from None

    def list_after(
        self, space_id: str, endpoint_id: str, status: DeliveryStatus | None, after: str, limit: int
    ) -> DeliveryPage:
        """Returns the deliveries, newest first. Raises InvalidCursorError."""
        kept = partial(ids_within, self._clock() - KEPT)
        rest = kept(before=cursor_id(after))
        pk, wanted = self._partition(space_id, endpoint_id), Attr("status").eq(status.value) if status else None
        counted = list(
            islice(self._table.query(pk, condition=kept(), filter=wanted, attributes=("SK",)), COUNTED_ROWS + 1)
        )
        found = self._table.query(pk, condition=rest, filter=wanted, limit=None if wanted else limit + 1)
        items = list(islice(found, limit + 1))
        return DeliveryPage(
            count=min(len(counted), COUNTED_ROWS),
            data=[self._deliveries.load(item) for item in items[:limit]],
            has_more=len(items) > limit,
            count_capped=len(counted) > COUNTED_ROWS,
        )

    def failed_since(self, space_id: str, endpoint_id: str, since: datetime) -> Iterator[str]:
        """Yields the ids of deliveries that failed finally, oldest first.

        Some of them may have been let be sent again by somebody who then failed to queue them.
        """
        is_marked = Attr("attempt_count").eq(Attr("replayed_at_attempt")) & Attr("attempt_count").gt(0)
        wanted = Attr("status").eq(DeliveryStatus.FAILED.value) | (_IS_PENDING & is_marked)
        pk = self._partition(space_id, endpoint_id)
        period = ids_within(max(since, self._clock() - KEPT))
        for item in self._table.query(pk, condition=period, newest_first=False, attributes=("SK",), filter=wanted):
            yield item["SK"]

    def _update(self, task: DeliveryTask, changes: dict[str, Any], condition: ConditionBase) -> WebhookDelivery:
        key = self._deliveries.key(_owner(task.space_id, task.endpoint_id), task.delivery_id)
        item = self._table.write(update(key, {"updated_at": self._clock(), **changes}, condition=condition))
        return self._deliveries.load(item or {})

    def _partition(self, space_id: str, endpoint_id: str) -> str:
        return self._deliveries.key(_owner(space_id, endpoint_id), "").pk


def _is_free(now: datetime) -> ConditionBase:
    """Returns the condition that nobody makes an attempt."""
    return Attr("claimed_until").not_exists() | Attr("claimed_until").lt(now)


def _owner(space_id: str, endpoint_id: str) -> str:
    return f"{space_id}#{endpoint_id}"
