"""Tests that the model of costs agrees with the code, and the page with the model."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial

import pytest
from fastapi.testclient import TestClient

from shared.inference_logs.store import SHARDS
from shared.llm.limit_usage import Amount, LimitUsages, Reservation, Subject
from shared.models.limits import Limits, SpaceLimits
from shared.resources import Resources
from shared.settings import Settings
from tests.fixtures.upstream import FakeUpstream, served
from tests.load.capacity import Meter, Usage
from tests.load.cost_model import CEILINGS, OPERATIONS, PAGE, page

ACTION = {"name": "Payment plan", "description": "For those who are late. " * 8, "priority": "low", "type": "offer"}
QUESTION = {"messages": [{"role": "user", "content": "Which offer suits Ada, who rents in Rome? " * 12}]}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Turns on the caches of callers and clusters, as in a deployed stage."""
    return settings.model_copy(update={"admission_seconds": 10, "cluster_state_seconds": 1})


@pytest.fixture
def chatting(client: TestClient) -> Iterator[TestClient]:
    with served(FakeUpstream()) as upstream:
        client.post("/clusters", json={"ingress_url": upstream.url, "manager_url": upstream.url})
        yield client


def test_each_operation_uses_the_capacity_that_the_model_states(chatting: TestClient, resources: Resources) -> None:
    ids = [chatting.post("/actions", json=ACTION).json()["id"] for _ in range(12)]
    space_id = chatting.headers["X-Space-Id"]
    calls: dict[str, Callable[[], object]] = {
        "get by id": lambda: chatting.get(f"/actions/{ids[0]}").raise_for_status(),
        "list of 10": lambda: chatting.get("/actions").raise_for_status(),
        "create": lambda: chatting.post("/actions", json=ACTION).raise_for_status(),
        "update": lambda: chatting.put(f"/actions/{ids[0]}", json={"name": "New"}).raise_for_status(),
        "chat": lambda: chatting.post("/chats", json=QUESTION).raise_for_status(),
        "completion": lambda: chatting.post(
            "/v1/chat/completions", json={"model": "small", **QUESTION}
        ).raise_for_status(),
    }
    chatting.get("/actions")
    meter = Meter(resources.dynamodb)
    calls["chat"]()
    used = {name: meter.measure(call) for name, call in calls.items()}

    assert {name: (used[name].read, used[name].write) for name in OPERATIONS} == {
        name: (each.reads, each.writes) for name, each in OPERATIONS.items()
    }

    logs = resources.inference_logs
    call = next(row for shard in range(SHARDS) for row in logs._table.query(f"log#{space_id}#{shard}"))
    rolled_up = meter.measure(lambda: logs.rollups.add(space_id, [call]))
    recorded = {}
    for kind in ("action", "chat"):
        newest = next(resources.table.query(f"{kind}#{space_id}", limit=1))
        recorded[kind] = meter.measure(partial(resources.audit_logs.record, [(None, newest)]))
    assert recorded["action"].write == OPERATIONS["create"].followed
    assert rolled_up.write + recorded["chat"].write == OPERATIONS["chat"].followed

    use_limit(resources, space_id)
    measured = {
        "entities of one kind made": used["create"],
        "entities of one kind changed": used["update"],
        "chats begun": used["chat"],
        "rows of the audit log": recorded["action"],
        "calls of models within a chat": used["chat"],
        "other calls of models": used["completion"],
        "calls of one model, or of one user": used["completion"],
        "calls under the space's limits": meter.measure(partial(use_limit, resources, space_id)),
    }
    assert {name: written_to(each.partition, measured[name]) for name, each in CEILINGS.items()} == {
        name: each.units for name, each in CEILINGS.items()
    }


def use_limit(resources: Resources, space_id: str) -> None:
    """Reserves an amount of a limit and replaces the reservation, like a call of a model."""
    usages = LimitUsages(resources.table, lambda: datetime(2026, 3, 15, tzinfo=UTC))
    subject = Subject.space(space_id, SpaceLimits(space=Limits(tokens_per_day=1_000_000)))
    usages.replace(usages.reserve(Reservation(subject, Amount(requests=1, calls=1, tokens=90))), Amount(tokens=70))


def written_to(partition: str, usage: Usage) -> int:
    """Returns the units written to the only partition key of this form, in the table or an index."""
    form = re.compile(r"(\w+: )?" + re.sub(r"<\w+>", "[^#]+", partition))
    [units] = [units for key, units in usage.written.items() if form.fullmatch(key)]
    return units


def test_the_page_agrees_with_the_model() -> None:
    text = PAGE.read_text()
    assert page(text) == text, "update the page: python -m tests.load.cost_model"
