"""Reads and a conversation's calls go by what was read a moment ago, and for no longer than that."""

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


class Watch:
    """A clock that is put forward by hand."""

    def __init__(self) -> None:
        self.now = utc_now()

    def __call__(self) -> datetime:
        return self.now

    def pass_seconds(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"admission_seconds": 10, "cluster_state_seconds": 1})


@pytest.fixture
def resources(aws: None, settings: Settings, watch: Watch) -> Resources:
    return Resources(settings, clock=watch)


@pytest.fixture
def chatting(client: TestClient) -> Iterator[TestClient]:
    """Returns a client whose space has a cluster, and who has just chatted: the first call lists the models."""
    with served(FakeUpstream()) as upstream:
        created = client.post("/clusters", json={"ingress_url": upstream.url, "manager_url": upstream.url})
        assert created.status_code == 201, created.text
        assert [ask(client).status_code for _ in range(2)] == [201, 201]
        yield client


def ask(client: TestClient) -> Any:
    return client.post("/chats", json={"messages": [{"role": "user", "content": "Which offer?"}], "tags": ["bank"]})


def space_of(client: TestClient) -> str:
    return str(client.headers["X-Space-Id"])


@pytest.mark.row("IL-1")
def test_the_next_call_is_one_request_to_the_store_that_keeps_and_logs_it(
    chatting: TestClient, resources: Resources
) -> None:
    requests: list[str] = []
    resources.dynamodb.meta.events.register("before-call.dynamodb", lambda model, **_: requests.append(model.name))
    asked = ask(chatting).json()
    assert requests == ["TransactWriteItems"]
    messages = chatting.get(f"/chats/{asked['id']}").json()["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant"]
    logged = chatting.get("/inference-logs", params={"tag": "bank"}).json()
    assert logged["data"][0]["chat_id"] == asked["id"]
    assert logged["count"] == 3


def test_a_membership_that_was_taken_away_counts_for_ten_seconds_at_most(
    chatting: TestClient, resources: Resources, watch: Watch
) -> None:
    user_id = chatting.get("/me").json()["id"]
    resources.table.write(delete(Key(f"membership#{user_id}", space_of(chatting))))
    assert chatting.post("/connectors", json={"name": "New", "type": "aws-s3"}).status_code == 404  # writes never do
    watch.pass_seconds(9.9)
    assert (ask(chatting).status_code, chatting.get("/personas").status_code) == (201, 200)
    watch.pass_seconds(0.2)
    assert (ask(chatting).status_code, chatting.get("/personas").status_code) == (404, 404)


def test_a_read_by_what_was_checked_a_moment_ago_asks_the_store_for_nothing_but_what_it_answers(
    client: TestClient, resources: Resources
) -> None:
    made = client.post("/data-models", json={"name": "Default"}).json()
    assert client.get("/data-models").json()["data"] == [made]
    requests: list[str] = []
    resources.dynamodb.meta.events.register("before-call.dynamodb", lambda model, **_: requests.append(model.name))
    assert client.get(f"/data-models/{made['id']}").json() == made
    assert requests == ["GetItem"]


def test_who_was_refused_is_let_in_at_once_when_that_is_allowed(
    chatting: TestClient, other_client: TestClient, resources: Resources
) -> None:
    theirs, space = other_client, space_of(chatting)
    assert theirs.get("/chats", headers={"X-Space-Id": space}).status_code == 404
    user_id = theirs.get("/me").json()["id"]
    own = resources.table.get(Key(f"membership#{user_id}", space_of(theirs)))
    assert own is not None
    resources.table.put_all([{**own, "SK": space, "id": space}])
    assert theirs.get("/chats", headers={"X-Space-Id": space}).status_code == 200


def test_what_another_process_learns_of_a_server_counts_a_second_later(
    chatting: TestClient, resources: Resources, settings: Settings, watch: Watch
) -> None:
    Resources(settings, clock=watch).clusters.record_failure(space_of(chatting), SERVER, BROKEN_RESPONSES)
    assert ask(chatting).status_code == 201
    watch.pass_seconds(1)
    assert ask(chatting).json()["code"] == "circuit_open"


def test_what_another_process_makes_good_counts_at_once(
    chatting: TestClient, resources: Resources, settings: Settings, watch: Watch
) -> None:
    elsewhere = Resources(settings, clock=watch).clusters
    elsewhere.record_failure(space_of(chatting), SERVER, BROKEN_RESPONSES)
    watch.pass_seconds(1)
    assert ask(chatting).json()["code"] == "circuit_open"
    elsewhere.record_success(space_of(chatting), SERVER)
    assert ask(chatting).status_code == 201


@pytest.mark.row("CL-3")
def test_after_one_refusal_a_token_that_was_replaced_elsewhere_is_used(
    client: TestClient, resources: Resources, settings: Settings, watch: Watch
) -> None:
    elsewhere = TestClient(build_api(Resources(settings, clock=watch)), headers=dict(client.headers))
    with served(FakeUpstream()) as upstream:
        body = {"ingress_url": upstream.url, "manager_url": upstream.url, "token": "the-first-token-abcd"}
        client.post("/clusters", json=body)
        assert [ask(client).status_code for _ in range(2)] == [201, 201]
        assert elsewhere.put("/clusters", json={"token": "the-next-token-abcd"}).status_code == 200
        upstream.script = lambda _: Refusal(401)
        assert ask(client).status_code == 502
        upstream.script = lambda _: "Hello."
        assert ask(client).status_code == 201
        assert upstream.requests[-1][2]["Authorization"] == "Bearer the-next-token-abcd"


def test_a_change_of_the_cluster_counts_at_once_where_it_was_made(chatting: TestClient) -> None:
    assert chatting.delete("/clusters").status_code == 200
    assert ask(chatting).json()["code"] == "no_cluster"
