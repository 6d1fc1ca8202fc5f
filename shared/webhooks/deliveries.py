"""Messages to webhook endpoints, ``webhook_delivery#<space>#<endpoint>``: what is to be sent, and what became of it.

The queue decides when to try, this table whether: the first to claim the number of an attempt makes it, so that a
message of the queue that comes twice sends nothing twice. Deliveries are kept for 30 days.

``webhook_delivery_index#<space>#<endpoint>#<status>`` lists the deliveries of each status. The transaction that changes
a status moves the delivery's place.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from heapq import merge
from itertools import chain, islice
from typing import Any

from boto3.dynamodb.conditions import Attr, ConditionBase

from shared.clock import Clock, new_id, utc_now
from shared.dynamodb.repository import Repository, cursor_id
from shared.dynamodb.schemas import version_of
from shared.dynamodb.table import (
    ConditionFailedError,
    Item,
    Key,
    Table,
    TransactionFailedError,
    Write,
    check,
    delete,
    put,
    update,
)
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
READ_AT_ONCE = 100

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
        values["expires_at"] = self._end()
        task = DeliveryTask(space_id, endpoint_id, delivery.id, 0, now)
        try:
            new = put(self._key(task), values, Attr("PK").not_exists())
            self._table.transact([new, *self._moves(task, None, delivery.status)])
        except TransactionFailedError as failed:
            delivery = self._deliveries.load(failed.item or values)
            if delivery.status is not DeliveryStatus.PENDING or delivery.attempt_count:
                return delivery, None
        return delivery, task

    def claim(self, task: DeliveryTask) -> WebhookDelivery | None:
        """Returns the delivery for this attempt, or ``None`` if another worker makes it or it is not wanted any more.

        Raises TooEarlyError.
        """
        now, claim = self._clock(), new_id()
        condition = _IS_PENDING & Attr("attempt_count").eq(task.attempt) & _is_free(now)
        try:
            write = self._change(task, {"claimed_until": now + CLAIM, "claim": claim}, condition)
            return self._deliveries.load(self._table.write(write) or {})
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
            "attempt_count": task.attempt + 1,
            "status": status,
            "attempts": [*delivery.attempts, *([attempt] if attempt else [])][-ATTEMPTS_KEPT:],
            "error": error,
            "next_attempt_at": next_attempt_at,
            "claimed_until": None,
        }
        is_ours = Attr("attempt_count").eq(task.attempt) & Attr("claimed_until").eq(delivery.claimed_until)
        write = self._change(task, changes, is_ours)
        with suppress(TransactionFailedError):
            self._table.transact([write, *self._moves(task, delivery.status, status)])

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
            "expires_at": self._end(),
        }
        is_current = Attr("attempt_count").eq(current.attempt_count) & _is_free(now)
        write = self._change(task, changes, is_current)
        try:
            self._table.transact([write, *self._moves(task, current.status, DeliveryStatus.PENDING)])
        except TransactionFailedError:
            raise ConflictError("The message is being sent just now. Look at what becomes of it first.") from None
        return self._deliveries.get(_owner(space_id, endpoint_id), delivery_id), task

    def list_after(
        self, space_id: str, endpoint_id: str, status: DeliveryStatus | None, after: str, limit: int
    ) -> DeliveryPage:
        """Returns the deliveries, newest first. Raises InvalidCursorError."""
        kept = partial(ids_within, self._clock() - KEPT)
        rest = kept(before=cursor_id(after))
        listed = [status] if status else list(DeliveryStatus)
        places = chain.from_iterable(
            self._ids(space_id, endpoint_id, each, kept(), limit=COUNTED_ROWS + 1) for each in listed
        )
        counted = sum(1 for _ in islice(places, COUNTED_ROWS + 1))
        if status is None:
            pk = self._deliveries.key(_owner(space_id, endpoint_id), "").pk
            data = [self._deliveries.load(item) for item in self._table.query(pk, condition=rest, limit=limit + 1)]
        else:
            ids = self._ids(space_id, endpoint_id, status, rest, page_size=limit + 1)
            found = self._load(space_id, endpoint_id, ids, limit + 1, lambda delivery: delivery.status is status)
            data = list(islice(found, limit + 1))
        return DeliveryPage(
            count=min(counted, COUNTED_ROWS),
            data=data[:limit],
            has_more=len(data) > limit,
            count_capped=counted > COUNTED_ROWS,
        )

    def failed_since(self, space_id: str, endpoint_id: str, since: datetime) -> Iterator[str]:
        """Yields the ids of deliveries that failed finally, oldest first.

        Some of them may have been let be sent again by somebody who then failed to queue them.
        """
        period = ids_within(max(since, self._clock() - KEPT))
        failed, pending = (
            self._ids(space_id, endpoint_id, status, period, newest_first=False)
            for status in (DeliveryStatus.FAILED, DeliveryStatus.PENDING)
        )
        for delivery in self._load(space_id, endpoint_id, merge(failed, pending), READ_AT_ONCE, _has_failed):
            yield delivery.id

    def _ids(
        self, space_id: str, endpoint_id: str, status: DeliveryStatus, period: ConditionBase, **options: Any
    ) -> Iterator[str]:
        pk = _place(space_id, endpoint_id, status, "").pk
        for item in self._table.query(pk, condition=period, attributes=("SK",), **options):
            yield item["SK"]

    def _load(
        self,
        space_id: str,
        endpoint_id: str,
        ids: Iterator[str],
        size: int,
        is_wanted: Callable[[WebhookDelivery], bool],
    ) -> Iterator[WebhookDelivery]:
        """Yields the wanted deliveries. They are read ``size`` at a time, and may have changed since the list was."""
        while some := list(islice(ids, size)):
            found = self._deliveries.get_many(_owner(space_id, endpoint_id), some)
            yield from (found[each] for each in some if each in found and is_wanted(found[each]))

    def _change(self, task: DeliveryTask, changes: dict[str, Any], condition: ConditionBase) -> Write:
        return update(self._key(task), {"updated_at": self._clock(), **changes}, condition=condition)

    def _moves(self, task: DeliveryTask, before: DeliveryStatus | None, after: DeliveryStatus) -> list[Write]:
        """Returns the writes that list a delivery under a status, and no longer under the one before."""
        if before is after:
            return []
        place = partial(_place, task.space_id, task.endpoint_id)
        listed = put(place(after, task.delivery_id), {"expires_at": self._end()})
        return [listed, *([delete(place(before, task.delivery_id))] if before else [])]

    def _end(self) -> int:
        return int((self._clock() + KEPT).timestamp())

    def _key(self, task: DeliveryTask) -> Key:
        return self._deliveries.key(_owner(task.space_id, task.endpoint_id), task.delivery_id)


def missing_place(item: Item) -> list[Write]:
    """Returns the writes that list a delivery of the first version under its status, while it has that status."""
    kind, _, owner = item["PK"].partition("#")
    if kind != "webhook_delivery" or version_of(item) > 1:
        return []
    space_id, _, endpoint_id = owner.partition("#")
    place = _place(space_id, endpoint_id, item["status"], item["SK"])
    return [
        check(Key(item["PK"], item["SK"]), Attr("status").eq(item["status"])),
        put(place, {"expires_at": item["expires_at"]}),
    ]


def _has_failed(delivery: WebhookDelivery) -> bool:
    """Returns whether a delivery failed finally, or was let be sent again and has not been tried since."""
    is_marked = 0 < delivery.attempt_count == delivery.replayed_at_attempt
    is_pending = delivery.status is DeliveryStatus.PENDING
    return delivery.status is DeliveryStatus.FAILED or (is_pending and is_marked)


def _place(space_id: str, endpoint_id: str, status: str, delivery_id: str) -> Key:
    return Key(f"webhook_delivery_index#{space_id}#{endpoint_id}#{status}", delivery_id)


def _is_free(now: datetime) -> ConditionBase:
    """Returns the condition that nobody makes an attempt."""
    return Attr("claimed_until").not_exists() | Attr("claimed_until").lt(now)


def _owner(space_id: str, endpoint_id: str) -> str:
    return f"{space_id}#{endpoint_id}"
