"""Helpers of the tests of webhook endpoints."""

from datetime import timedelta
from typing import Any

from fastapi.testclient import TestClient

from shared.resources import Resources
from tests.fixtures.evaluations import add_checkpoint
from tests.fixtures.trainings import space_of

HOUR = timedelta(hours=1)


def add_endpoint(client: TestClient, url: str, **fields: Any) -> dict[str, Any]:
    answer = client.post("/webhook-endpoints", json={"url": url, **fields})
    assert answer.status_code == 201, answer.text
    created: dict[str, Any] = answer.json()
    return created


def deliveries(client: TestClient, endpoint: dict[str, Any], **query: Any) -> list[dict[str, Any]]:
    answer = client.get(f"/webhook-endpoints/{endpoint['id']}/deliveries", params={"limit": 100, **query})
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.json()["data"]
    return rows


def happen(client: TestClient, resources: Resources) -> str:
    """Causes an event that endpoints get, and returns the id of its entity."""
    return add_checkpoint(resources.table, space_of(client)).id


def down(_: int) -> int:
    return 503
