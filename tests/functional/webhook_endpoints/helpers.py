"""Helpers of the tests of webhook endpoints."""

from datetime import timedelta
from typing import Any

from fastapi.testclient import TestClient

from shared.resources import Resources
from tests.fixtures.evaluations import add_checkpoint
from tests.fixtures.trainings import space_of

HOUR = timedelta(hours=1)


def add_endpoint(client: TestClient, url: str, **fields: Any) -> dict[str, Any]:
    response = client.post("/webhook-endpoints", json={"url": url, **fields})
    assert response.status_code == 201, response.text
    created: dict[str, Any] = response.json()
    return created


def deliveries(client: TestClient, endpoint: dict[str, Any], **query: Any) -> list[dict[str, Any]]:
    response = client.get(f"/webhook-endpoints/{endpoint['id']}/deliveries", params={"limit": 100, **query})
    assert response.status_code == 200, response.text
    rows: list[dict[str, Any]] = response.json()["data"]
    return rows


def cause_event(client: TestClient, resources: Resources) -> str:
    """Creates a checkpoint, which causes an event, and returns its id."""
    return add_checkpoint(resources.table, space_of(client)).id


def fail(_: int) -> int:
    return 503
