"""Table of the changes of entities that webhook endpoints get, and their messages.

The message is thin, as Standard Webhooks recommends: what happened to what, and where to read the rest. It holds no
value that a customer entered.
Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from dataclasses import dataclass
from typing import Any

from shared.dynamodb.table import Item
from shared.dynamodb.time_ordered_ids import made_at
from shared.dynamodb.write_markers import WRITE_MARKER, read_write_marker
from shared.models.argument import ReviewStatus
from shared.models.base import format_timestamp
from shared.models.job_status import JobStatus
from shared.models.webhook_endpoint import EndpointStatus, WebhookEventType

_Type = WebhookEventType


@dataclass(frozen=True)
class EventRule:
    """Rule of an event: ``field`` of an entity changes to ``value``, or to any value if ``value`` is missing."""

    kind: str
    field: str
    value: str | None
    type: WebhookEventType
    link: str


# Of several that fit, the first holds: each write is one event at most.
RULES = (
    EventRule("training", "status", JobStatus.RUNNING, _Type.TRAINING_STARTED, "/trainings/{id}"),
    EventRule("training", "status", JobStatus.SUCCEEDED, _Type.TRAINING_COMPLETED, "/trainings/{id}"),
    EventRule("training", "status", JobStatus.FAILED, _Type.TRAINING_FAILED, "/trainings/{id}"),
    EventRule("training", "status", JobStatus.STOPPED, _Type.TRAINING_STOPPED, "/trainings/{id}"),
    EventRule("evaluation", "result.status", JobStatus.SUCCEEDED, _Type.EVALUATION_COMPLETED, "/evaluations/{id}"),
    EventRule("evaluation", "result.status", JobStatus.FAILED, _Type.EVALUATION_FAILED, "/evaluations/{id}"),
    EventRule("evaluation", "result.status", JobStatus.STOPPED, _Type.EVALUATION_STOPPED, "/evaluations/{id}"),
    EventRule("scan", "status", JobStatus.SUCCEEDED, _Type.SCAN_COMPLETED, "/connectors/{connector_id}"),
    EventRule("scan", "status", JobStatus.FAILED, _Type.SCAN_FAILED, "/connectors/{connector_id}"),
    EventRule("schema_drift", "id", None, _Type.CONNECTOR_SCHEMA_DRIFT, "/connectors/{connector_id}/drifts"),
    EventRule("checkpoint", "id", None, _Type.CHECKPOINT_CREATED, "/trainings/{training_id}"),
    EventRule("checkpoint_alias", "checkpoint_id", None, _Type.CHECKPOINT_ALIAS_MOVED, "/checkpoints/aliases/{id}"),
    EventRule("insight", "id", None, _Type.INSIGHT_CREATED, "/insights/{id}"),
    EventRule("insight", "reaction.id", None, _Type.REACTION_CREATED, "/insights/{id}"),
    EventRule("insight", "reaction.reaction", None, _Type.REACTION_CHANGED, "/insights/{id}"),
    EventRule(
        "argument", "review.status", ReviewStatus.WAITING_REVIEW, _Type.ARGUMENT_REVIEW_REQUESTED, "/arguments/{id}"
    ),
    EventRule("argument", "review.status", ReviewStatus.SUCCESS, _Type.ARGUMENT_APPROVED, "/arguments/{id}"),
    EventRule("argument", "review.status", ReviewStatus.FAILED, _Type.ARGUMENT_REJECTED, "/arguments/{id}"),
    EventRule("space", "deleted_at", None, _Type.SPACE_DELETED, "/spaces/{id}"),
    EventRule(
        "webhook_endpoint",
        "status",
        EndpointStatus.DISABLED,
        _Type.WEBHOOK_ENDPOINT_DISABLED,
        "/webhook-endpoints/{id}",
    ),
)


@dataclass(frozen=True)
class WebhookEvent:
    """Event of a change. ``id`` is the id of the write, so a repeated change is one event."""

    id: str
    space_id: str
    type: WebhookEventType
    payload: dict[str, Any]


def event_of(before: Item | None, after: Item | None) -> WebhookEvent | None:
    """Returns the event of a changed item, if endpoints can get one for it."""
    if after is None or WRITE_MARKER not in after or (before and before.get(WRITE_MARKER) == after[WRITE_MARKER]):
        return None
    kind, _, owner = after["PK"].partition("#")
    rule = next((rule for rule in RULES if rule.kind == kind and _applies(rule, before or {}, after)), None)
    if rule is None:
        return None
    write_id = read_write_marker(after[WRITE_MARKER]).write_id
    space_id = owner.partition("#")[0]
    data = {"id": after["id"], "kind": kind, "link": rule.link.format_map(after), "space_id": space_id}
    return event(write_id, space_id, rule.type, {**data, "status": rule.value} if rule.value else data)


def event(event_id: str, space_id: str, event_type: WebhookEventType, data: dict[str, Any]) -> WebhookEvent:
    """Returns an event with the time of its id."""
    payload = {"type": event_type, "timestamp": format_timestamp(made_at(event_id)), "data": data}
    return WebhookEvent(event_id, space_id, event_type, payload)


def _applies(rule: EventRule, before: Item, after: Item) -> bool:
    was, is_ = _value(before, rule.field), _value(after, rule.field)
    return is_ is not None and is_ != was and rule.value in (None, is_)


def _value(item: Item, path: str) -> Any:
    found: Any = item
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found
