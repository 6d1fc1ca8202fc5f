"""Reads writes from the entity table's stream, and queues a message for each endpoint that wants the event.

When something fails the whole batch comes again, halved; a message that was noted by then is queued once more unless
it was tried since.
"""

from functools import cache
from typing import Any

from shared.dynamodb.codec import decode_images
from shared.models.webhook_endpoint import DeliveryTask, WebhookEndpoint
from shared.observability import logger
from shared.resources import Resources
from shared.webhooks.deliveries import WebhookDeliveries
from shared.webhooks.endpoints import WebhookEndpoints
from shared.webhooks.events import event_of

_resources = Resources()


def publish_webhook_events(event: dict[str, Any], resources: Resources) -> int:
    """Queues the messages of a batch and returns their number."""
    deliveries = WebhookDeliveries(resources.table, resources.clock)
    endpoints = WebhookEndpoints(resources.table, resources.clock)
    tasks: list[DeliveryTask] = []

    @cache
    def enabled(space_id: str) -> list[WebhookEndpoint]:
        return endpoints.enabled(space_id)

    for record in event["Records"]:
        happened = event_of(*decode_images(record))
        if happened is None:
            continue
        for endpoint in enabled(happened.space_id):
            if endpoint.wants(happened.type):
                _, task = deliveries.add(happened.space_id, endpoint.id, happened)
                tasks += [task] if task else []
    if tasks:
        resources.webhook_queue.send(tasks)
    return len(tasks)


@logger.inject_lambda_context
def handler(event: dict[str, Any], _context: Any) -> None:
    logger.info("queued", extra={"messages": publish_webhook_events(event, _resources)})
