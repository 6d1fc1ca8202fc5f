"""Handles S3 events about files of managed connectors: marks them in the catalog and starts a scan.

The events come through a queue, at least once and in no order. Only a message that fails is delivered again;
the others of its batch are done.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

from shared.connectors.catalog import EventOutcome, ObjectVersion, comparable_sequencer
from shared.connectors.scans import ConnectorScans
from shared.errors import NotFoundError
from shared.models.connector import ScanScope
from shared.models.run import is_manifest
from shared.observability import logger
from shared.resources import Resources

_KEY = re.compile(r"spaces/(?P<space>[0-9a-f-]{36})/connectors/(?P<connector>[0-9a-f-]{36})/(?P<file>.+)", re.DOTALL)
_resources = Resources()


@dataclass(frozen=True)
class ObjectEvent:
    """One event about one file."""

    message_id: str
    space_id: str
    connector_id: str
    file: str
    kind: str
    detail: dict[str, Any]


def connector_scan(event: dict[str, Any], resources: Resources) -> dict[str, list[dict[str, str]]]:
    """Handles a batch and returns the messages to be delivered again."""
    scans = resources.connector_scans
    failed: set[str] = set()
    to_scan: dict[tuple[str, str], list[str]] = {}
    for record in event["Records"]:
        message_id = record["messageId"]
        try:
            found = read_event(message_id, record["body"])
            if found is not None and record_event(scans, found) is EventOutcome.TO_SCAN:
                to_scan.setdefault((found.space_id, found.connector_id), []).append(message_id)
        except Exception:  # noqa: BLE001 - a wrong message must not stop the others of its batch
            logger.exception("an event could not be handled", extra={"message_id": message_id})
            failed.add(message_id)
    for (space_id, connector_id), message_ids in to_scan.items():
        try:
            scans.request(space_id, connector_id, ScanScope.NAMED)
        except NotFoundError:
            logger.info("the connector was deleted in between", extra={"connector_id": connector_id})
        except Exception:  # noqa: BLE001 - nor with one connector
            logger.exception("a scan could not be asked for", extra={"connector_id": connector_id})
            failed.update(message_ids)
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in sorted(failed)]}


def read_event(message_id: str, body: str) -> ObjectEvent | None:
    """Returns the event of a message, if it is about a file of a connector.

    Raises ValueError, KeyError and TypeError.
    """
    event = json.loads(body)
    detail = event["detail"]
    key = _KEY.fullmatch(detail["object"]["key"])
    if key is None or (key["file"].endswith("/") and not detail["object"].get("size")) or is_manifest(key["file"]):
        return None
    return ObjectEvent(message_id, key["space"], key["connector"], key["file"], event["detail-type"], detail)


def record_event(scans: ConnectorScans, event: ObjectEvent) -> EventOutcome:
    """Records an event in the catalog."""
    content, catalog = event.detail["object"], scans.catalog
    sequencer = comparable_sequencer(content["sequencer"])
    where = event.space_id, event.connector_id
    version_id = content.get("version-id")
    if event.kind == "Object Created":
        version = ObjectVersion(event.file, content["etag"].strip('"'), int(content["size"]), sequencer, version_id)
        return catalog.record_created(*where, version)
    if event.detail.get("deletion-type") == "Permanently Deleted" and version_id not in (None, "null"):
        # Only the bucket knows which of several versions is current.
        return catalog.record_unclear(*where, event.file, sequencer)
    return catalog.record_deleted(*where, event.file, sequencer)


@logger.inject_lambda_context
def handler(event: dict[str, Any], _context: Any) -> dict[str, list[dict[str, str]]]:
    return connector_scan(event, _resources)
