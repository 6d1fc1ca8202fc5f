"""The queue of messages to webhook endpoints.

SQS waits for 15 minutes at most. The receiver puts a message back that it gets too early: that is exact to
the second, needs no schedule that somebody has to clean up, and costs some four calls an hour. Messages are grouped by
endpoint: a standard queue then hands out those of quiet endpoints first ("fair queues"), and a slow one waits for
itself.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from shared.clock import Clock
from shared.errors import UnavailableError
from shared.models.webhook_endpoint import DeliveryTask

LONGEST_DELAY = timedelta(minutes=15)
BATCH = 10


class WebhookQueue:
    def __init__(self, sqs: Any, url: str, clock: Clock) -> None:
        self._sqs = sqs
        self._url = url
        self._clock = clock

    def send(self, tasks: Sequence[DeliveryTask]) -> None:
        """Raises UnavailableError when not all were taken: it is safe to send all of them again."""
        for start in range(0, len(tasks), BATCH):
            entries = [self._entry(str(number), task) for number, task in enumerate(tasks[start : start + BATCH])]
            answer = self._sqs.send_message_batch(QueueUrl=self._url, Entries=entries)
            if answer.get("Failed"):
                raise UnavailableError("The queue of webhooks is busy. Try again in a moment.")

    def _entry(self, name: str, task: DeliveryTask) -> dict[str, Any]:
        wait = min(max(task.due_at - self._clock(), timedelta(0)), LONGEST_DELAY)
        return {
            "Id": name,
            "MessageBody": json.dumps(
                {
                    "space_id": task.space_id,
                    "endpoint_id": task.endpoint_id,
                    "delivery_id": task.delivery_id,
                    "attempt": task.attempt,
                    "due_at": task.due_at.timestamp(),
                }
            ),
            # Up: to come a second late is better than to be put back for less than one.
            "DelaySeconds": -(-wait // timedelta(seconds=1)),
            "MessageGroupId": task.endpoint_id,
        }


def read_task(body: str) -> DeliveryTask:
    fields = json.loads(body)
    return DeliveryTask(**{**fields, "due_at": datetime.fromtimestamp(fields["due_at"], UTC)})
