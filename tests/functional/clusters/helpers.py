"""Helpers of the tests of clusters."""

from typing import Any

from fastapi.testclient import TestClient

from tests.fixtures.upstream import FakeUpstream

TOKEN = "a-token-of-the-cluster-1234"


def register(client: TestClient, upstream: FakeUpstream, **fields: Any) -> Any:
    body = {"ingress_url": upstream.url, "manager_url": upstream.url, "token": TOKEN, **fields}
    return client.post("/clusters", json=body)
