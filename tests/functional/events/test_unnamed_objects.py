"""Tests that no object in S3 outlives what it belongs to, although workers are killed and responses are lost."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from functions.events.reconcile_jobs import clean_up
from shared.dynamodb.cleanup_list import GRACE
from shared.resources import Resources
from tests.faults.aftermath import survives
from tests.faults.boundary import Boundary, Fault, KilledError
from tests.fixtures.aws import BUCKET
from tests.fixtures.clocks import MovableClock
from tests.fixtures.trainings import space_of
from tests.fixtures.upstream import FakeUpstream, connected

LONG = "word " * 1_000
CHAT = {"messages": [{"role": "user", "content": LONG}], "echo": True}


@pytest.fixture(autouse=True)
def upstream(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeUpstream]:
    monkeypatch.setattr("shared.dynamodb.large_values.INLINE_BYTES", 2_000)
    with connected(client, FakeUpstream(models=[{"id": "small", "context_length": 1_000_000}])) as upstream:
        yield upstream


def objects(resources: Resources) -> list[str]:
    found = resources.s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])
    return [each["Key"] for each in found]


def next_round(resources: Resources, clock: MovableClock) -> None:
    clock.now += GRACE
    clean_up(resources)


def chat(client: TestClient) -> Any:
    return client.post("/chats", json=CHAT, headers={"Idempotency-Key": "once"})


def expert(client: TestClient) -> Any:
    return client.post("/experts", json={"name": "Loans", "description": "", "context": LONG})


def insight(client: TestClient) -> Any:
    return client.post("/insights", json={"client": {"notes": LONG}})


MAKERS = pytest.mark.parametrize("make", [chat, expert, insight], ids=lambda make: make.__name__)
Maker = Callable[[TestClient], Any]


@pytest.mark.row("EN-5", "C-12")
@MAKERS
def test_the_objects_of_a_request_that_was_killed_before_its_transaction_are_removed(
    client: TestClient, resources: Resources, boundary: Boundary, clock: MovableClock, make: Maker
) -> None:
    with boundary.failing(Fault.KILLED, about="TransactItems"):
        assert not survives(lambda: make(client))
    assert objects(resources)
    next_round(resources, clock)
    assert objects(resources) == []
    assert list(resources.table.query("object#purges")) == []


@pytest.mark.row("EN-5", "EN-4")
@MAKERS
def test_the_objects_of_a_transaction_whose_response_is_lost_are_kept(
    client: TestClient, resources: Resources, boundary: Boundary, clock: MovableClock, make: Maker
) -> None:
    with boundary.failing(Fault.LATE_LOST, about="TransactItems"):
        assert make(client).status_code == 503
    before = objects(resources)
    assert before
    next_round(resources, clock)
    assert objects(resources) == before


@pytest.mark.row("EN-5")
def test_a_note_that_comes_back_after_its_transaction_removes_no_object(
    client: TestClient, resources: Resources, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request to AWS may be on its way for long: the note is written again after the transaction."""
    purges, notes = resources.large_values.purges, []
    note = purges.note

    def remember(*where: str, **more: Any) -> Any:
        notes.append(note(*where, **more))
        return notes[-1]

    monkeypatch.setattr(purges, "note", remember)
    expert_id = expert(client).json()["id"]
    for each in notes:
        purges.write(each)
    next_round(resources, clock)
    assert len(client.get(f"/experts/{expert_id}").json()["context"]) == len(LONG)
    assert list(resources.table.query("object#purges")) == []


@pytest.mark.row("EN-5", "C-12")
def test_a_large_answer_goes_with_its_chat(client: TestClient, resources: Resources) -> None:
    made = chat(client)
    assert (made.status_code, chat(client).json()) == (201, made.json())
    assert any("/answer-" in key for key in objects(resources))
    assert client.delete(f"/chats/{made.json()['id']}").status_code == 200
    assert objects(resources) == []
    assert chat(client).status_code == 404, "its answer is deleted too"


@pytest.mark.row("EN-5")
def test_replaced_messages_are_removed_although_the_worker_was_killed(
    client: TestClient, resources: Resources, boundary: Boundary, clock: MovableClock
) -> None:
    chat_id = client.post("/chats", json=CHAT).json()["id"]
    messages = [{"role": "user", "content": "Short."}]
    with boundary.failing(Fault.LATE_KILLED, at=1, about="TransactItems"), pytest.raises(KilledError):
        client.put(f"/chats/{chat_id}", json={"messages": messages})
    assert objects(resources)
    next_round(resources, clock)
    assert objects(resources) == []
    assert [each["content"] for each in client.get(f"/chats/{chat_id}").json()["messages"]] == ["Short."]
    assert len(list(resources.table.query(f"chat_turn#{space_of(client)}#{chat_id}"))) == 1


@pytest.mark.row("EN-5")
def test_the_turns_of_a_chat_are_removed_without_reading_their_text(
    client: TestClient, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.chats.store.TURNS_AT_ONCE", 2)
    chat_id = client.post("/chats", json={"messages": [{"role": "user", "content": "Hello"}]}).json()["id"]
    for _ in range(4):
        client.post("/chats", json={"id": chat_id, "messages": [{"role": "user", "content": "Hello"}]})
    read: list[Any] = []
    resources.dynamodb.meta.events.register("before-call.dynamodb.Query", lambda params, **_: read.append(params))
    client.delete(f"/chats/{chat_id}")
    turns = [text for text in (each["body"].decode() for each in read) if "chat_turn#" in text]
    assert len(turns) == 4
    assert all("ProjectionExpression" in each and '"Limit":2' in each.replace(" ", "") for each in turns)
    assert list(resources.table.query(f"chat_turn#{space_of(client)}#{chat_id}")) == []
