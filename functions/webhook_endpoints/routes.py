"""Webhook endpoints over HTTP."""

from typing import Annotated

from fastapi import Depends, Query, Response

from functions.webhook_endpoints.service import WebhookEndpointService
from functions.webhook_endpoints.verification import LIMIT_SECONDS
from shared.dependencies import CurrentResources
from shared.http.errors import errors
from shared.http.parameters import After, ExpectedVersion, IdempotencyKey, Limit, tagged
from shared.http.routers import CurrentContext, GroupRouter
from shared.models.base import Page
from shared.models.webhook_endpoint import (
    DeliveryPage,
    DeliveryStatus,
    ReplayAnswer,
    ReplayRequest,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookEndpointCreate,
    WebhookEndpointCreated,
    WebhookEndpointUpdate,
    WebhookSecret,
)
from shared.webhooks.sender import WebhookSender

router = GroupRouter("webhook-endpoints")


async def _service(resources: CurrentResources, context: CurrentContext) -> WebhookEndpointService:
    guard = resources.address_guard
    sender = WebhookSender(guard, LIMIT_SECONDS)
    return WebhookEndpointService(
        resources.table, resources.webhook_queue, guard, sender, resources.clock, context=context
    )


CurrentWebhookEndpointService = Annotated[WebhookEndpointService, Depends(_service)]
DeliveryStatusFilter = Annotated[DeliveryStatus | None, Query(description="Only messages of this status.")]


@router.get("", extension=True, responses=errors(403))
def list_webhook_endpoints(
    service: CurrentWebhookEndpointService, limit: Limit = 10, after: After = ""
) -> Page[WebhookEndpoint]:
    """List where the space's events are sent, newest first."""
    return service.list_after(after, limit)


@router.post("", extension=True, status_code=201, responses=errors(403, 409))
def create_webhook_endpoint(
    body: WebhookEndpointCreate, service: CurrentWebhookEndpointService, idempotency: IdempotencyKey, response: Response
) -> WebhookEndpointCreated:
    """Have the space's events sent to an address, signed with the secret that is answered here and never again.

    The address gets a challenge, and nothing else until it answers `{"challenge": "…"}`.
    """
    return tagged(response, service.create(body, idempotency))


@router.get("/{id}", extension=True, responses=errors(403))
def get_webhook_endpoint(id: str, service: CurrentWebhookEndpointService, response: Response) -> WebhookEndpoint:
    """Get a webhook endpoint."""
    return tagged(response, service.get(id))


@router.update("/{id}", extension=True, responses=errors(403, 409, 412))
def update_webhook_endpoint(
    id: str,
    body: WebhookEndpointUpdate,
    service: CurrentWebhookEndpointService,
    expected_version: ExpectedVersion,
    response: Response,
) -> WebhookEndpoint:
    """Update the fields that are sent; `status` disables an endpoint, and enables it again.

    A new address has to answer a challenge first.
    """
    return tagged(response, service.update(id, body, expected_version))


@router.delete("/{id}", extension=True, status_code=204, responses=errors(403, 412))
def delete_webhook_endpoint(id: str, service: CurrentWebhookEndpointService, expected_version: ExpectedVersion) -> None:
    """Delete a webhook endpoint: nothing more is sent to it."""
    service.delete(id, expected_version)


@router.post("/{id}/rotate-secret", extension=True, responses=errors(403, 409))
def rotate_webhook_secret(id: str, service: CurrentWebhookEndpointService) -> WebhookSecret:
    """Make a new signing secret; for 24 hours messages are signed with the one before as well."""
    return service.rotate_secret(id)


@router.post("/{id}/verify", extension=True, responses=errors(403, 409, 429))
def verify_webhook_endpoint(id: str, service: CurrentWebhookEndpointService, response: Response) -> WebhookEndpoint:
    """Send the challenge to the address again; a right answer enables the endpoint."""
    return tagged(response, service.verify(id))


@router.post("/{id}/test", extension=True, status_code=202, responses=errors(403, 409, 429, 503))
def test_webhook_endpoint(id: str, service: CurrentWebhookEndpointService) -> WebhookDelivery:
    """Send a `webhook_endpoint.test` message."""
    return service.test(id)


@router.get("/{id}/deliveries", extension=True, responses=errors(403))
def list_webhook_deliveries(
    id: str,
    service: CurrentWebhookEndpointService,
    status: DeliveryStatusFilter = None,
    limit: Limit = 10,
    after: After = "",
) -> DeliveryPage:
    """List the messages of the last 30 days with each attempt to deliver them, newest first."""
    return service.deliveries(id, status, after, limit)


@router.post("/{id}/deliveries/replay", extension=True, status_code=202, responses=errors(403, 409, 503))
def replay_failed_webhook_deliveries(
    id: str, body: ReplayRequest, service: CurrentWebhookEndpointService
) -> ReplayAnswer:
    """Send all messages again that failed for good since a time, the oldest first."""
    return service.replay_failed(id, body.since)


@router.post("/{id}/deliveries/{delivery_id}/replay", extension=True, status_code=202, responses=errors(403, 409, 503))
def replay_webhook_delivery(id: str, delivery_id: str, service: CurrentWebhookEndpointService) -> WebhookDelivery:
    """Send a message again under the same `webhook-id`, whether it was delivered or not."""
    return service.replay(id, delivery_id)
