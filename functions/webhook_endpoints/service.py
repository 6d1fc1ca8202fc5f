"""Rules of webhook endpoints."""

from contextlib import suppress
from datetime import datetime
from itertools import islice
from typing import Any

from boto3.dynamodb.conditions import Attr

from functions.webhook_endpoints.verification import verification_problem
from shared.clock import Clock, new_id
from shared.dynamodb.repository import ConditionNotMetError, Idempotency
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
from shared.webhooks.endpoints import TooManySendsError, WebhookEndpoints
from shared.webhooks.events import event
from shared.webhooks.queue import WebhookQueue
from shared.webhooks.sender import WebhookSender

UNVERIFIED = {"status": EndpointStatus.PENDING_VERIFICATION, "is_verified": False}


class WebhookEndpointService:
    def __init__(
        self,
        table: Table,
        queue: WebhookQueue,
        guard: AddressGuard,
        sender: WebhookSender,
        clock: Clock,
        *,
        context: SpaceContext,
    ) -> None:
        self._queue = queue
        self._clock = clock
        self._context = context
        self._space = context.space_id
        self._endpoints = WebhookEndpoints(table, clock)
        self._deliveries = WebhookDeliveries(table, clock)
        self._guard = guard
        self._sender = sender

    def create(self, request: WebhookEndpointCreate, idempotency: Idempotency | None) -> WebhookEndpointCreated:
        """Stores an endpoint, and verifies its address once.

        Raises ForbiddenAddressError, and ConflictError when the space has as many as it may.
        """
        self._guard.check_url(request.url, "body.url", allow_query=True)
        now = self._clock()
        fields = {**request.model_dump(), "created_by": self._context.user_id, **UNVERIFIED}
        new = WebhookEndpoint(id=new_id(), created_at=now, updated_at=now, **fields)
        created, secret = self._endpoints.create(self._space, new, idempotency)
        # A repeated request gets the endpoint of the first one, which has been verified or not.
        created = self._try_to_verify(created) if created.id == new.id else self.get(created.id)
        return WebhookEndpointCreated(**dict(created), secret=secret)

    def list_after(self, after: str, limit: int) -> Page[WebhookEndpoint]:
        return self._endpoints.repository.list_after(self._space, after, limit)

    def get(self, endpoint_id: str) -> WebhookEndpoint:
        return self._endpoints.repository.get(self._space, endpoint_id)

    def update(self, endpoint_id: str, request: WebhookEndpointUpdate, expected_version: int | None) -> WebhookEndpoint:
        """A new address is verified once before anything is sent to it.

        Raises as ``create`` does, NotFoundError and PreconditionFailedError.
        """
        changes = request.changes()
        if "url" in changes:
            self._guard.check_url(request.url, "body.url", allow_query=True)
        if not changes.keys() & {"url", "status"}:
            return self._update(endpoint_id, changes, expected_version)
        current = self.get(endpoint_id)
        is_moved = changes.get("url", current.url) != current.url
        if is_moved:
            changes |= {"is_verified": False, "verification_error": None}
        if "url" in changes or request.status is EndpointStatus.ENABLED:
            changes |= {"failing_since": None}
        if request.status is EndpointStatus.ENABLED:
            changes |= {"disabled_reason": None}
        if changes.get("status", current.status) is not EndpointStatus.DISABLED and (
            is_moved or not current.is_verified
        ):
            changes |= {"status": EndpointStatus.PENDING_VERIFICATION}
        changed = self._update(endpoint_id, changes, expected_version, current)
        is_pending = changed.status is EndpointStatus.PENDING_VERIFICATION
        return self._try_to_verify(changed) if is_pending else changed

    def _update(
        self,
        endpoint_id: str,
        changes: dict[str, Any],
        expected_version: int | None,
        current: WebhookEndpoint | None = None,
    ) -> WebhookEndpoint:
        unchanged = Attr("version").eq(current.version) if current else None
        try:
            return self._endpoints.repository.update(
                self._space, endpoint_id, changes, expected_version=expected_version, condition=unchanged
            )
        except ConditionNotMetError:
            raise ConflictError("Others are changing the endpoint at the same time. Try again.") from None

    def verify(self, endpoint_id: str) -> WebhookEndpoint:
        """Sends the challenge again, and returns the endpoint with its new status.

        Raises NotFoundError, TooManySendsError, and ConflictError unless the endpoint waits for its verification.
        """
        endpoint = self.get(endpoint_id)
        if endpoint.status is EndpointStatus.DISABLED:
            raise ConflictError("The endpoint is disabled. Set its status to enabled, which verifies it.")
        if endpoint.status is EndpointStatus.ENABLED:
            return endpoint
        self._endpoints.count_send(self._space, endpoint_id)
        secrets = self._endpoints.recipient(self._space, endpoint_id).secrets
        if not secrets:
            raise self._endpoints.repository.not_found()  # deleted just now
        problem = verification_problem(self._sender, self._space, endpoint, secrets, self._clock())
        return self._endpoints.note_verification(self._space, endpoint, problem)

    def _try_to_verify(self, endpoint: WebhookEndpoint) -> WebhookEndpoint:
        """Returns the endpoint as it was stored if it can't be verified now, because the user can do that later."""
        try:
            return self.verify(endpoint.id)
        except (ConflictError, NotFoundError, TooManySendsError):
            return endpoint

    def delete(self, endpoint_id: str, expected_version: int | None) -> None:
        self._endpoints.delete(self._space, endpoint_id, expected_version)

    def rotate_secret(self, endpoint_id: str) -> WebhookSecret:
        return WebhookSecret(secret=self._endpoints.rotate_secret(self._space, endpoint_id))

    def test(self, endpoint_id: str) -> WebhookDelivery:
        """Raises ConflictError for an endpoint that is not enabled, and TooManySendsError."""
        self._require_enabled(endpoint_id)
        self._endpoints.count_send(self._space, endpoint_id)
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
        status = self.get(endpoint_id).status
        if status is EndpointStatus.PENDING_VERIFICATION:
            raise ConflictError(
                "The address has not been verified: nothing is sent to it. "
                f"Call POST /webhook-endpoints/{endpoint_id}/verify once it answers the challenge."
            )
        if status is EndpointStatus.DISABLED:
            raise ConflictError("The endpoint is disabled: nothing is sent to it. Set its status to enabled first.")
