"""Tests of cached authentication and of the cached state of clusters: how long old values are used."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from functions.api import build_api
from shared.clock import utc_now
from shared.dynamodb.table import Key, delete
from shared.llm.circuits import BROKEN_RESPONSES, SERVER
from shared.resources import Resources
from shared.settings import Settings
from tests.fixtures.upstream import FakeUpstream, Refusal, served


class SteppingClock:
    """Clock that only the test moves."""

    def __init__(self) -> None:
        self.now = utc_now()

    def __call__(self) -> datetime:
        return self.now

    def pass_seconds(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def stepping_clock() -> SteppingClock:
    return SteppingClock()


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"admission_seconds": 10, "cluster_state_seconds": 1})


@pytest.fixture
def resources(aws: None, settings: Settings, stepping_clock: SteppingClock) -> Resources:
    return Resources(settings, clock=stepping_clock)


@pytest.fixture
def chatting(client: TestClient) -> Iterator[TestClient]:
    """Yields a client of a space with a cluster. The models of the cluster are already cached."""
    with served(FakeUpstream()) as upstream:
        created = client.post("/clusters", json={"ingress_url": upstream.url, "manager_url": upstream.url})
        assert created.status_code == 201, created.text
        assert [ask(client).status_code for _ in range(2)] == [201, 201]
        yield client


def ask(client: TestClient) -> Any:
    return client.post("/chats", json={"messages": [{"role": "user", "content": "Which offer?"}], "tags": ["bank"]})


def space_of(client: TestClient) -> str:
    return str(client.headers["X-Space-Id"])


@pytest.mark.row("IL-1", "GW-9")
def test_a_chat_with_cached_authentication_is_stored_and_logged_in_one_request_to_dynamodb(
    chatting: TestClient, resources: Resources
) -> None:
    requests: list[str] = []
    resources.dynamodb.meta.events.register("before-call.dynamodb", lambda model, **_: requests.append(model.name))
    completion = ask(chatting).json()
    assert requests == ["TransactWriteItems"]
    messages = chatting.get(f"/chats/{completion['id']}").json()["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant"]
    logged = chatting.get("/inference-logs", params={"tag": "bank"}).json()
    assert logged["data"][0]["chat_id"] == completion["id"]
    assert logged["count"] == 3


def test_a_removed_membership_is_accepted_for_at_most_ten_seconds(
    chatting: TestClient, resources: Resources, stepping_clock: SteppingClock
) -> None:
    user_id = chatting.get("/me").json()["id"]
    resources.table.write(delete(Key(f"membership#{user_id}", space_of(chatting))))
    # Writes do not use cached authentication.
    assert chatting.post("/connectors", json={"name": "New", "type": "aws-s3"}).status_code == 404
    stepping_clock.pass_seconds(9.9)
    assert (ask(chatting).status_code, chatting.get("/personas").status_code) == (201, 200)
    stepping_clock.pass_seconds(0.2)
    assert (ask(chatting).status_code, chatting.get("/personas").status_code) == (404, 404)


def test_a_read_with_cached_authentication_requests_only_its_entity_from_dynamodb(
    client: TestClient, resources: Resources
) -> None:
    made = client.post("/data-models", json={"name": "Default"}).json()
    assert client.get("/data-models").json()["data"] == [made]
    requests: list[str] = []
    resources.dynamodb.meta.events.register("before-call.dynamodb", lambda model, **_: requests.append(model.name))
    assert client.get(f"/data-models/{made['id']}").json() == made
    assert requests == ["GetItem"]


def test_a_new_member_is_accepted_immediately_after_a_refusal(
    chatting: TestClient, other_client: TestClient, resources: Resources
) -> None:
    bob, space = other_client, space_of(chatting)
    assert bob.get("/chats", headers={"X-Space-Id": space}).status_code == 404
    user_id = bob.get("/me").json()["id"]
    own = resources.table.get(Key(f"membership#{user_id}", space_of(bob)))
    assert own is not None
    resources.table.put_all([{**own, "SK": space, "id": space}])
    assert bob.get("/chats", headers={"X-Space-Id": space}).status_code == 200


def test_a_failure_that_another_process_records_takes_effect_after_a_second(
    chatting: TestClient, resources: Resources, settings: Settings, stepping_clock: SteppingClock
) -> None:
    Resources(settings, clock=stepping_clock).clusters.record_failure(space_of(chatting), SERVER, BROKEN_RESPONSES)
    assert ask(chatting).status_code == 201
    stepping_clock.pass_seconds(1)
    assert ask(chatting).json()["code"] == "circuit_open"


def test_a_success_that_another_process_records_takes_effect_immediately(
    chatting: TestClient, resources: Resources, settings: Settings, stepping_clock: SteppingClock
) -> None:
    other_process = Resources(settings, clock=stepping_clock).clusters
    other_process.record_failure(space_of(chatting), SERVER, BROKEN_RESPONSES)
    stepping_clock.pass_seconds(1)
    assert ask(chatting).json()["code"] == "circuit_open"
    other_process.record_success(space_of(chatting), SERVER)
    assert ask(chatting).status_code == 201


@pytest.mark.row("CL-3")
def test_a_token_that_another_process_replaced_is_used_after_one_refusal(
    client: TestClient, resources: Resources, settings: Settings, stepping_clock: SteppingClock
) -> None:
    other_process = TestClient(build_api(Resources(settings, clock=stepping_clock)), headers=dict(client.headers))
    with served(FakeUpstream()) as upstream:
        body = {"ingress_url": upstream.url, "manager_url": upstream.url, "token": "the-first-token-abcd"}
        client.post("/clusters", json=body)
        assert [ask(client).status_code for _ in range(2)] == [201, 201]
        assert other_process.put("/clusters", json={"token": "the-next-token-abcd"}).status_code == 200
        upstream.script = lambda _: Refusal(401)
        assert ask(client).status_code == 502
        upstream.script = lambda _: "Hello."
        assert ask(client).status_code == 201
        assert upstream.requests[-1][2]["Authorization"] == "Bearer the-next-token-abcd"


def test_a_change_of_the_cluster_takes_effect_immediately_in_the_same_process(chatting: TestClient) -> None:
    assert chatting.delete("/clusters").status_code == 200
    assert ask(chatting).json()["code"] == "no_cluster"
