"""Rows of an earlier release are in lists that it did not have, once they are migrated."""

from collections.abc import Iterator
from typing import Any

import boto3

from functions import migration
from shared.audit.store import AuditFilters, AuditLogs
from shared.clock import new_id, utc_now
from shared.dynamodb.codec import decode_item
from shared.dynamodb.table import Item, Key, Table
from shared.dynamodb.write_markers import WRITE_MARKER
from shared.models.webhook_endpoint import DeliveryStatus, WebhookEventType
from shared.webhooks.deliveries import KEPT, WebhookDeliveries
from shared.webhooks.events import event
from tests.fixtures.aws import LOGS_TABLE, TABLE

SPACE, ENDPOINT = new_id(), new_id()


def stored() -> Iterator[Item]:
    client: Any = boto3.client("dynamodb")
    for page in client.get_paginator("scan").paginate(TableName=TABLE):
        yield from map(decode_item, page["Items"])


def forget(table: Table, *lists: str) -> None:
    """Makes the table as it was before there were these lists, and versions of its items."""
    for item in list(stored()):
        if item["PK"].startswith(lists):
            table.delete_all([Key(item["PK"], item["SK"])])
        else:
            boto3.client("dynamodb").update_item(
                TableName=TABLE,
                Key={"PK": {"S": item["PK"]}, "SK": {"S": item["SK"]}},
                UpdateExpression="REMOVE schema_version",
            )


def migrate() -> None:
    assert migration.main([TABLE, LOGS_TABLE]) == 0


def test_deliveries_are_listed_by_their_status(table: Table) -> None:
    deliveries = WebhookDeliveries(table)
    statuses = {}
    for status in (*DeliveryStatus, *DeliveryStatus):
        message = event(new_id(), SPACE, WebhookEventType.TRAINING_STARTED, {})
        delivery, task = deliveries.add(SPACE, ENDPOINT, message)
        if task and status is not DeliveryStatus.PENDING and (claimed := deliveries.claim(task)):
            deliveries.record_attempt(task, claimed, status)
        statuses[delivery.id] = status
    before = sorted(stored(), key=str)

    def listed(status: DeliveryStatus) -> list[str]:
        return [row.id for row in deliveries.list_after(SPACE, ENDPOINT, status, "", 10).data]

    forget(table, "webhook_delivery_index")
    assert {status: listed(status) for status in DeliveryStatus} == {status: [] for status in DeliveryStatus}
    for _ in range(2):
        migrate()
        for status in DeliveryStatus:
            assert listed(status) == sorted((each for each, of in statuses.items() if of is status), reverse=True)
    places = [{name: item[name] for name in ("PK", "SK")} for item in sorted(stored(), key=str)]
    assert places == [{name: item[name] for name in ("PK", "SK")} for item in before]


def test_a_delivery_that_is_sent_during_the_migration_is_left_to_the_next_one(table: Table) -> None:
    deliveries = WebhookDeliveries(table)
    _, task = deliveries.add(SPACE, ENDPOINT, event(new_id(), SPACE, WebhookEventType.TRAINING_STARTED, {}))
    assert task is not None
    forget(table, "webhook_delivery_index")
    migrating = migration.Migration(boto3.client("dynamodb"))
    [read] = [item for item in stored() if item["PK"].startswith("webhook_delivery#")]
    claimed = deliveries.claim(task)
    assert claimed is not None
    deliveries.record_attempt(task, claimed, DeliveryStatus.DELIVERED)
    assert not migrating._list(TABLE, read)
    assert migrating.busy == 1
    migrate()
    assert [len(deliveries.list_after(SPACE, ENDPOINT, each, "", 10).data) for each in DeliveryStatus] == [0, 1, 0]


def test_rows_of_the_audit_log_are_listed_by_two_things_and_their_chain_holds(table: Table) -> None:
    logs = AuditLogs(table, utc_now, KEPT)
    for entity, actor in (("action", "ann"), ("action", "bob"), ("training", "ann"), ("action", "ann#key")):
        logs.record([(None, {"PK": f"{entity}#{SPACE}", "SK": new_id(), WRITE_MARKER: f"{actor}#{new_id()}"})])
    filters = (AuditFilters(entity="action", actor="ann"), AuditFilters(entity="action", api_key_id="key"))
    before = [logs.list_after(SPACE, each, "", 10) for each in filters]
    assert [page.count for page in before] == [2, 1]

    forget(table, f"audit#{SPACE}#actor+entity", f"audit#{SPACE}#api_key_id+entity")
    assert [logs.list_after(SPACE, each, "", 10).count for each in filters] == [0, 0]
    for _ in range(2):
        migrate()
        assert [logs.list_after(SPACE, each, "", 10) for each in filters] == before
    verified = logs.verify(SPACE, 0, None, 10)
    assert (verified.is_intact, verified.checked) == (True, 4)
