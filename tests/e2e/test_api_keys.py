"""API keys and limits as deployed: through API Gateway, its authorizer and the functions' own memories."""

import time

import pytest

from infra.local.client import ApiClient
from tests.e2e.conftest import Stack

# What functions remember of a caller, and some room.
REVOKED_WITHIN_SECONDS = 10 + 5


@pytest.mark.row("X-5")
def test_a_key_passes_the_gateway_until_it_is_revoked(stack: Stack) -> None:
    member = stack.member()
    made = member.post("/api-keys", {"name": "Batch", "scopes": ["read", "data-models:create"]})
    holder = ApiClient(stack.url, made["key"])
    created = holder.post("/data-models", {"name": "Churn"})
    assert holder.get(f"/data-models/{created['id']}") == created
    assert holder.send("POST", "/connectors", {"name": "a", "type": "aws-s3"}).status_code == 403
    assert holder.send("GET", "/me").status_code == 403
    mistyped = made["key"][:-4] + ("AAAA" if not made["key"].endswith("AAAA") else "BBBB")
    assert ApiClient(stack.url, mistyped).send("GET", "/data-models").status_code == 401

    member.delete(f"/api-keys/{made['id']}")
    deadline = time.monotonic() + REVOKED_WITHIN_SECONDS
    while (status := holder.send("GET", "/data-models").status_code) == 200 and time.monotonic() < deadline:
        time.sleep(1)
    assert status == 401


@pytest.mark.row("X-5")
def test_a_budget_holds_calls_through_the_gateway(stack: Stack) -> None:
    member = stack.member()
    place = f"/spaces/{member.space_id}/limits"
    member.call("PUT", place, {"space": {"requests_per_minute": 0}})
    refused = member.send("POST", "/chats", {"messages": [{"role": "user", "content": "Hello"}]})
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert 0 < int(refused.headers["Retry-After"]) <= 60
