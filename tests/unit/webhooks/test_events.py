"""Changes of items become events for webhook endpoints."""

from typing import Any

import pytest

from shared.clock import new_id
from shared.dynamodb.write_markers import WRITE_MARKER, write_marker
from shared.models.webhook_endpoint import WebhookEventType
from shared.webhooks.events import RULES, EventRule, event_of

SPACE, ENTITY = new_id(), new_id()


def item(rule: EventRule, value: Any) -> dict[str, Any]:
    """Returns an entity with this value in the field of the rule."""
    values: dict[str, Any] = {
        "id": ENTITY,
        "connector_id": "c",
        "training_id": "t",
        "name": "Ada",
        WRITE_MARKER: write_marker(),
    }
    *parents, name = rule.field.split(".")
    holder = values
    for parent in parents:
        holder = holder.setdefault(parent, {})
    holder[name] = value
    return {"PK": f"{rule.kind}#{SPACE}", "SK": ENTITY, **values}


@pytest.mark.row("X-13")
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.type)
def test_an_event_is_sent_for_its_own_change_only(rule: EventRule) -> None:
    before, after = item(rule, "another"), item(rule, rule.value or "new")
    happened = event_of(before, after)
    assert happened is not None
    assert (happened.type, happened.space_id) == (rule.type, SPACE)
    assert happened.id == after[WRITE_MARKER].partition("#")[2]
    assert happened.payload["data"]["kind"] == rule.kind
    assert "{" not in happened.payload["data"]["link"]
    assert "Ada" not in str(happened.payload)
    for unchanged in (
        event_of(after, after | {"name": "Mary", WRITE_MARKER: write_marker()}),
        event_of(before, after | {WRITE_MARKER: before[WRITE_MARKER]}),
        event_of(before, {name: value for name, value in after.items() if name != WRITE_MARKER}),
        event_of(after, None),
    ):
        assert unchanged is None or unchanged.type is not rule.type


def test_every_event_type_except_the_test_has_a_rule() -> None:
    assert {rule.type for rule in RULES} | {WebhookEventType.WEBHOOK_ENDPOINT_TEST} == set(WebhookEventType)
