"""Rules of webhook endpoints."""

from contextlib import suppress
from datetime import datetime
from itertools import islice

from shared.clock import Clock, new_id
from shared.dynamodb.repository import Idempotency
from shared.dynamodb.table import Table
from shared.errors import ConflictError, NotFoundError
from shared.models.base import Page
from shared.models.webhook_endpoint import (
    DeliveryPage,
    DeliveryStatus,
    EndpointStatus,
    ReplayAnswer,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookEndpointCreate,
    WebhookEndpointCreated,
    WebhookEndpointUpdate,
    WebhookEventType,
    WebhookSecret,
)
from shared.network.address_guard import AddressGuard
from shared.spaces.members import SpaceContext
from shared.webhooks.deliveries import REPLAYED_AT_ONCE, WebhookDeliveries
from shared.webhooks.endpoints import WebhookEndpoints
from shared.webhooks.events import event
from shared.webhooks.queue import WebhookQueue


class WebhookEndpointService:
    def __init__(
        self, table: Table, queue: WebhookQueue, guard: AddressGuard, clock: Clock, *, context: SpaceContext
    ) -> None:
        self._queue = queue
        self._clock = clock
        self._context = context
        self._space = context.space_id
        self._endpoints = WebhookEndpoints(table, clock)
        self._deliveries = WebhookDeliveries(table, clock)
        self._guard = guard

    def create(self, request: WebhookEndpointCreate, idempotency: Idempotency | None) -> WebhookEndpointCreated:
        """Raises ForbiddenAddressError, and ConflictError when the space has as many as it may."""
        self._guard.check_url(request.url, "body.url", allow_query=True)
        now = self._clock()
        fields = {**request.model_dump(), "created_by": self._context.user_id}
        new = WebhookEndpoint(id=new_id(), created_at=now, updated_at=now, **fields)
        created, secret = self._endpoints.create(self._space, new, idempotency)
        return WebhookEndpointCreated(**dict(created), secret=secret)

    def list_after(self, after: str, limit: int) -> Page[WebhookEndpoint]:
        return self._endpoints.repository.list_after(self._space, after, limit)

    def get(self, endpoint_id: str) -> WebhookEndpoint:
        return self._endpoints.repository.get(self._space, endpoint_id)

    def update(self, endpoint_id: str, request: WebhookEndpointUpdate, expected_version: int | None) -> WebhookEndpoint:
        """Raises as ``create`` does, NotFoundError and PreconditionFailedError."""
        changes = request.changes()
        if "url" in changes:
            self._guard.check_url(request.url, "body.url", allow_query=True)
        if "url" in changes or request.status is EndpointStatus.ENABLED:
            changes |= {"failing_since": None}
        if request.status is EndpointStatus.ENABLED:
            changes |= {"disabled_reason": None}
        return self._endpoints.repository.update(self._space, endpoint_id, changes, expected_version=expected_version)

    def delete(self, endpoint_id: str, expected_version: int | None) -> None:
        self._endpoints.delete(self._space, endpoint_id, expected_version)

    def rotate_secret(self, endpoint_id: str) -> WebhookSecret:
        return WebhookSecret(secret=self._endpoints.rotate_secret(self._space, endpoint_id))

    def test(self, endpoint_id: str) -> WebhookDelivery:
        """Raises ConflictError for a disabled endpoint."""
        self._require_enabled(endpoint_id)
        data = {
            "id": endpoint_id,
            "kind": "webhook_endpoint",
            "link": f"/webhook-endpoints/{endpoint_id}",
            "space_id": self._space,
        }
        happened = event(new_id(), self._space, WebhookEventType.WEBHOOK_ENDPOINT_TEST, data)
        delivery, task = self._deliveries.add(self._space, endpoint_id, happened)
        self._queue.send([task] if task else [])
        return delivery

    def deliveries(self, endpoint_id: str, status: DeliveryStatus | None, after: str, limit: int) -> DeliveryPage:
        """Raises NotFoundError and InvalidCursorError."""
        self.get(endpoint_id)
        return self._deliveries.list_after(self._space, endpoint_id, status, after, limit)

    def replay(self, endpoint_id: str, delivery_id: str) -> WebhookDelivery:
        """Raises NotFoundError, and ConflictError for a disabled endpoint."""
        self._require_enabled(endpoint_id)
        delivery, task = self._deliveries.replay(self._space, endpoint_id, delivery_id)
        self._queue.send([task])
        return delivery

    def replay_failed(self, endpoint_id: str, since: datetime) -> ReplayAnswer:
        """Replays the failed messages, the oldest first, except for those that are being sent.

        Raises NotFoundError, and ConflictError for a disabled endpoint.
        """
        self._require_enabled(endpoint_id)
        failed = self._deliveries.failed_since(self._space, endpoint_id, since)
        found = list(islice(failed, REPLAYED_AT_ONCE + 1))
        chosen = found[:REPLAYED_AT_ONCE]
        tasks = []
        for each in chosen:
            with suppress(ConflictError, NotFoundError):
                tasks.append(self._deliveries.replay(self._space, endpoint_id, each)[1])
        self._queue.send(tasks)
        return ReplayAnswer(count=len(tasks), has_more=len(found) > len(chosen))

    def _require_enabled(self, endpoint_id: str) -> None:
        if self.get(endpoint_id).status is not EndpointStatus.ENABLED:
            raise ConflictError("The endpoint is disabled: nothing is sent to it. Set its status to enabled first.")
