"""Webhook endpoints of a space, and the deliveries to them."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from shared.models.base import KEEP, Description, Entity, Model, Page, PartialUpdate, Timestamp

MAX_ENDPOINTS = 20


class WebhookEventType(StrEnum):
    TRAINING_STARTED = "training.started"
    TRAINING_COMPLETED = "training.completed"
    TRAINING_FAILED = "training.failed"
    TRAINING_STOPPED = "training.stopped"
    EVALUATION_COMPLETED = "evaluation.completed"
    EVALUATION_FAILED = "evaluation.failed"
    EVALUATION_STOPPED = "evaluation.stopped"
    SCAN_COMPLETED = "scan.completed"
    SCAN_FAILED = "scan.failed"
    CONNECTOR_SCHEMA_DRIFT = "connector.schema_drift"
    CHECKPOINT_CREATED = "checkpoint.created"
    CHECKPOINT_ALIAS_MOVED = "checkpoint_alias.moved"
    INSIGHT_CREATED = "insight.created"
    REACTION_CREATED = "reaction.created"
    REACTION_CHANGED = "reaction.changed"
    ARGUMENT_REVIEW_REQUESTED = "argument.review_requested"
    ARGUMENT_APPROVED = "argument.approved"
    ARGUMENT_REJECTED = "argument.rejected"
    SPACE_DELETED = "space.deleted"
    WEBHOOK_ENDPOINT_DISABLED = "webhook_endpoint.disabled"
    WEBHOOK_ENDPOINT_TEST = "webhook_endpoint.test"


class EndpointStatus(StrEnum):
    """An endpoint with a new address receives nothing until the address has answered the challenge."""

    PENDING_VERIFICATION = "pending_verification"
    ENABLED = "enabled"
    DISABLED = "disabled"


class DisabledReason(StrEnum):
    """Why an endpoint was disabled automatically."""

    FAILING = "failing"
    GONE = "gone"


WebhookUrl = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=2048, pattern=r"^https?://[\x21-\x7e]+$"),
    Field(description="a public https address, without user and fragment"),
]
EventTypes = Annotated[
    list[WebhookEventType], Field(max_length=len(WebhookEventType), description="all event types when empty")
]


class WebhookEndpointCreate(Model):
    description: Description = ""
    event_types: EventTypes = Field(default_factory=list)
    url: WebhookUrl


class WebhookEndpointUpdate(PartialUpdate):
    description: Description = KEEP
    event_types: EventTypes = KEEP
    status: Literal[EndpointStatus.ENABLED, EndpointStatus.DISABLED] = KEEP
    url: WebhookUrl = KEEP


class WebhookEndpoint(Entity):
    description: str
    event_types: list[WebhookEventType]
    status: EndpointStatus = EndpointStatus.ENABLED
    url: str
    created_by: str
    failing_since: Timestamp | None = Field(default=None, description="no message has been accepted since this time")
    disabled_reason: DisabledReason | None = Field(
        default=None, description="set after failing for five days, or a 410"
    )

    verification_error: str | None = Field(
        default=None, description="why the address did not pass the last verification"
    )
    # Endpoints from before there was a verification count as verified.
    is_verified: bool = Field(default=True, exclude=True, repr=False)

    def wants(self, event_type: WebhookEventType) -> bool:
        return self.status is EndpointStatus.ENABLED and (not self.event_types or event_type in self.event_types)


class WebhookSecret(Model):
    secret: str = Field(description="signs the messages; only this response returns it")


class WebhookEndpointCreated(WebhookEndpoint, WebhookSecret):
    """The new endpoint, with its secret."""


class DeliveryStatus(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class DeliveryAttempt(Model):
    started_at: Timestamp
    duration_ms: int
    status_code: int | None = None
    error: str | None = None


class WebhookDelivery(Entity):
    """One message to one endpoint; its id is the header ``webhook-id``, the same at every attempt."""

    attempts: list[DeliveryAttempt] = Field(default_factory=list, description="the latest 50, oldest first")
    # All attempts ever made, and those made before the message was last replayed.
    attempt_count: int = 0
    replayed_at_attempt: int = Field(default=0, exclude=True, repr=False)
    claimed_until: Timestamp | None = Field(default=None, exclude=True, repr=False)
    error: str | None = Field(default=None, description="why the delivery failed for good")
    event_type: WebhookEventType
    next_attempt_at: Timestamp | None = None
    payload: dict[str, Any]
    status: DeliveryStatus = DeliveryStatus.PENDING


class DeliveryPage(Page[WebhookDelivery]):
    count_capped: bool = Field(default=False, description="whether `count` covers only the newest 1000 deliveries")


class ReplayRequest(Model):
    since: Timestamp = Field(description="messages created at or after this time")


class ReplayAnswer(Model):
    count: int = Field(description="number of messages that are sent again")
    has_more: bool = Field(description="whether to repeat the request: each request sends 500 messages again")


@dataclass(frozen=True)
class DeliveryTask:
    """Message of the queue: attempt number ``attempt`` (from 0) of a delivery, not before ``due_at``."""

    space_id: str
    endpoint_id: str
    delivery_id: str
    attempt: int
    due_at: datetime
