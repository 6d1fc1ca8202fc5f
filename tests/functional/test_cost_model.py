"""The model of costs holds to the code, and the page to the model."""

from collections.abc import Callable, Iterator
from functools import partial

import pytest
from fastapi.testclient import TestClient

from shared.aws.resources import Resources
from shared.settings import Settings
from tests.fixtures.upstream import FakeUpstream, served
from tests.load.capacity import Meter
from tests.load.cost_model import OPERATIONS, PAGE, page

ACTION = {"name": "Payment plan", "description": "For those who are late. " * 8, "priority": "low", "type": "offer"}
QUESTION = {"messages": [{"role": "user", "content": "Which offer suits Ada, who rents in Rome? " * 12}]}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """As deployed: callers and clusters are remembered for a moment."""
    return settings.model_copy(update={"allow_loopback": True, "admission_seconds": 10, "cluster_state_seconds": 1})


@pytest.fixture
def chatting(client: TestClient) -> Iterator[TestClient]:
    with served(FakeUpstream()) as upstream:
        client.post("/clusters", json={"ingress_url": upstream.url, "manager_url": upstream.url})
        yield client


def test_each_operation_costs_what_the_model_says(chatting: TestClient, resources: Resources) -> None:
    ids = [chatting.post("/actions", json=ACTION).json()["id"] for _ in range(12)]
    space_id = chatting.headers["X-Space-Id"]
    calls: dict[str, Callable[[], object]] = {
        "get by id": lambda: chatting.get(f"/actions/{ids[0]}").raise_for_status(),
        "list of 10": lambda: chatting.get("/actions").raise_for_status(),
        "create": lambda: chatting.post("/actions", json=ACTION).raise_for_status(),
        "update": lambda: chatting.put(f"/actions/{ids[0]}", json={"name": "New"}).raise_for_status(),
        "chat": lambda: chatting.post("/chats", json=QUESTION).raise_for_status(),
    }
    chatting.get("/actions")
    meter = Meter(resources.dynamodb)
    calls["chat"]()
    used = {name: meter.measure(call) for name, call in calls.items()}

    assert {name: (each.read, each.write) for name, each in used.items()} == {
        name: (each.reads, each.writes) for name, each in OPERATIONS.items()
    }

    [call] = resources.inference_logs._table.query(f"log#{space_id}", limit=1)
    rolled_up = meter.measure(lambda: resources.inference_logs.rollups.add(space_id, [call]))
    noted = {}
    for kind in ("action", "chat"):
        newest = next(resources.table.query(f"{kind}#{space_id}", limit=1))
        noted[kind] = meter.measure(partial(resources.audit_logs.record, None, newest)).write
    assert noted["action"] == OPERATIONS["create"].followed
    assert rolled_up.write + noted["chat"] == OPERATIONS["chat"].followed
    assert used["create"].written[f"action#{space_id}"] == OPERATIONS["create"].hottest
    logs = f"log#{space_id}"
    assert used["chat"].written[logs] + rolled_up.written[logs] == OPERATIONS["chat"].hottest


def test_the_page_says_what_the_model_does() -> None:
    text = PAGE.read_text()
    assert page(text) == text, "write it anew: python -m tests.load.cost_model"
