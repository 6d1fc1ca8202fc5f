"""Tests of the tokens of a cluster: their storage, replacement and use."""

import boto3
import pytest
from fastapi.testclient import TestClient

from tests.fixtures.upstream import FakeUpstream, served
from tests.functional.clusters.helpers import TOKEN, register, stored_tokens


@pytest.mark.row("CL-3")
def test_the_next_call_uses_a_new_token_and_the_old_token_is_deleted(
    client: TestClient, upstream: FakeUpstream
) -> None:
    register(client, upstream)
    body = {"messages": [{"role": "user", "content": "Hi"}]}
    client.post("/chats", json=body)
    assert upstream.requests[-1][2]["Authorization"] == f"Bearer {TOKEN}"
    client.put("/clusters", json={"token": "the-next-token-abcd"})
    client.post("/chats", json=body)
    assert upstream.requests[-1][2]["Authorization"] == "Bearer the-next-token-abcd"
    assert list(stored_tokens().values()) == ["the-next-token-abcd"]

    assert client.put("/clusters", json={"token": None}).json()["token"] is None
    client.post("/chats", json=body)
    assert "Authorization" not in upstream.requests[-1][2]
    assert stored_tokens() == {}


@pytest.mark.row("CL-3")
def test_a_stored_token_is_never_sent_to_a_changed_address(client: TestClient, upstream: FakeUpstream) -> None:
    register(client, upstream, manager_token="token-of-kubernetes")
    assert client.put("/clusters", json={"ingress_url": f"{upstream.url}/", "name": "as before"}).status_code == 200
    with served(FakeUpstream()) as other:
        for update, field in (
            ({"ingress_url": other.url}, "body.token"),
            ({"ingress_url": other.url, "manager_token": "x" * 20}, "body.token"),
            ({"manager_url": other.url}, "body.manager_token"),
            ({"manager_url": other.url, "manager_token": None}, "body.token"),
        ):
            refused = client.put("/clusters", json=update)
            assert (refused.status_code, refused.json()["details"][0]["field"]) == (400, field)
        # A changed address is accepted with a new token or without a token.
        own = {"manager_url": other.url, "manager_token": "x" * 20}
        assert client.put("/clusters", json=own).status_code == 200
        assert client.put("/clusters", json={"manager_token": None}).status_code == 400
        assert client.put("/clusters", json={"ingress_url": other.url, "token": None}).status_code == 200
        client.post("/chats", json={"messages": [{"role": "user", "content": "Hi"}]})
        client.get("/clusters")
        assert TOKEN not in str(other.requests)


def test_a_refused_update_stores_no_token(client: TestClient, upstream: FakeUpstream) -> None:
    tag = register(client, upstream).headers["etag"]
    client.put("/clusters", json={"name": "Newer"})
    late = client.put("/clusters", json={"token": "the-next-token-abcd"}, headers={"If-Match": tag})
    assert late.status_code == 412
    assert list(stored_tokens().values()) == [TOKEN]


def test_a_call_during_a_token_change_may_be_repeated(client: TestClient, upstream: FakeUpstream) -> None:
    register(client, upstream)
    (parameter,) = stored_tokens()
    boto3.client("ssm").delete_parameter(Name=parameter)
    response = client.get("/models")
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")


def test_a_repeated_registration_stores_one_token(client: TestClient, upstream: FakeUpstream) -> None:
    body = {"ingress_url": upstream.url, "manager_url": upstream.url, "manager_token": "token-of-kubernetes"}
    for _ in range(2):
        assert client.post("/clusters", json=body, headers={"Idempotency-Key": "k"}).status_code == 201
    assert len(stored_tokens()) == 1
