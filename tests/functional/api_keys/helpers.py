"""Helpers of the tests of API keys."""

from typing import Any

from fastapi.testclient import TestClient


def create_key(client: TestClient, *scopes: str, **fields: Any) -> dict[str, Any]:
    response = client.post("/api-keys", json={"name": "Batch", "scopes": list(scopes), **fields})
    assert response.status_code == 201, response.text
    created: dict[str, Any] = response.json()
    return created


def client_with_key(client: TestClient, key: str, space_id: str | None = None) -> TestClient:
    holder = TestClient(client.app)
    holder.headers["Authorization"] = f"Bearer {key}"
    if space_id:
        holder.headers["X-Space-Id"] = space_id
    return holder
