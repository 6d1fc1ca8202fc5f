"""Tests of API keys and limits through API Gateway, its authorizer and the caches of functions."""

import time

import pytest

from infra.local.client import ApiClient
from tests.e2e.conftest import Stack

# Functions cache an authentication for 10 s. The rest is a margin.
REVOKED_WITHIN_SECONDS = 10 + 5


@pytest.mark.row("X-5")
def test_the_gateway_accepts_a_key_until_it_is_revoked(stack: Stack) -> None:
    member = stack.member()
    api_key = member.post("/api-keys", {"name": "Batch", "scopes": ["read", "data-models:create"]})
    key_client = ApiClient(stack.url, api_key["key"])
    created = key_client.post("/data-models", {"name": "Churn"})
    assert key_client.get(f"/data-models/{created['id']}") == created
    assert key_client.send("POST", "/connectors", {"name": "a", "type": "aws-s3"}).status_code == 403
    assert key_client.send("GET", "/me").status_code == 403
    mistyped = api_key["key"][:-4] + ("AAAA" if not api_key["key"].endswith("AAAA") else "BBBB")
    assert ApiClient(stack.url, mistyped).send("GET", "/data-models").status_code == 401

    member.delete(f"/api-keys/{api_key['id']}")
    deadline = time.monotonic() + REVOKED_WITHIN_SECONDS
    while (status := key_client.send("GET", "/data-models").status_code) == 200 and time.monotonic() < deadline:
        time.sleep(1)
    assert status == 401


@pytest.mark.row("X-5")
def test_a_limit_applies_to_calls_through_the_gateway(stack: Stack) -> None:
    member = stack.member()
    path = f"/spaces/{member.space_id}/limits"
    member.call("PUT", path, {"space": {"requests_per_minute": 0}})
    refused = member.send("POST", "/chats", {"messages": [{"role": "user", "content": "Hello"}]})
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert 0 < int(refused.headers["Retry-After"]) <= 60
