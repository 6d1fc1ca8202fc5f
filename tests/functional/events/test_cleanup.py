"""Tests that the reconciler removes the remaining data of interrupted deletions."""

import inspect
import itertools
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from functions.events import reconcile_jobs as reconciler
from functions.events.reconcile_jobs import clean_up
from shared.connectors.scans import ConnectorCleaner
from shared.dynamodb.cleanup_list import GRACE, CleanupList
from shared.dynamodb.table import Table
from shared.llm.token_cleaner import TokenCleaner
from shared.resources import Resources
from tests.faults.boundary import Boundary, Fault, KilledError
from tests.fixtures.arguments import add_argument
from tests.fixtures.aws import BUCKET
from tests.fixtures.clocks import MovableClock
from tests.fixtures.connectors import Lab, add_drift
from tests.fixtures.spaces import held_by_aws
from tests.fixtures.upstream import FakeUpstream, served


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with served(FakeUpstream(models=[{"id": "small"}])) as upstream:
        yield upstream


def create_connector(lab: Lab) -> str:
    """Creates a connector with a file, a snapshot, many columns and a schema drift, and returns its id."""
    connector_id = lab.connector()
    names = "|".join(f"{number} is the number of a column with a rather long name" for number in range(1_000))
    lab.deliver(lab.put(connector_id, "wide.csv", f"{names}\n{'|'.join('1' * 1_000)}\n".encode()))
    lab.work(connector_id)
    add_drift(lab.resources, lab.space_id, connector_id)
    lab.s3.put_object(Bucket=BUCKET, Key=f"spaces/{lab.space_id}/snapshots/{connector_id}/customers", Body=b"rows")
    return connector_id


def create_chat(client: TestClient) -> str:
    """Creates a chat with a turn that is larger than a table item, and returns its id."""
    body = {"messages": [{"role": "user", "content": "word " * 30_000}]}
    return str(client.post("/chats", json=body).json()["id"])


def create_argument(client: TestClient, table: Table) -> str:
    """Creates an argument with a change and a comment, and returns its id."""
    argument_id = add_argument(table, client.headers["X-Space-Id"])
    client.put(f"/arguments/{argument_id}", json={"argument": "Better."})
    client.post(f"/arguments/{argument_id}/comments", json={"text": "Good."})
    return argument_id


def remaining_keys(*ids: str) -> list[str]:
    """Returns the keys of stored data with one of the ids, except the records for the audit log."""
    return [key for key in held_by_aws() if any(each in key for each in ids) and " removal#" not in key]


def parameter_keys() -> list[str]:
    return [key for key in held_by_aws() if key.startswith("parameter")]


def test_the_remaining_data_of_a_killed_worker_is_removed(
    client: TestClient, resources: Resources, table: Table, clock: MovableClock, upstream: FakeUpstream
) -> None:
    client.post("/clusters", json={"ingress_url": upstream.url, "manager_url": upstream.url, "token": "first"})
    tokens = parameter_keys()
    addresses = {
        "connectors": create_connector(Lab(client, resources)),
        "chats": create_chat(client),
        "arguments": create_argument(client, table),
    }
    boundary = Boundary(seed=1)
    boundary.watch(resources.dynamodb)
    for group, entity_id in addresses.items():
        with boundary.failing(Fault.LATE_KILLED, at=1), pytest.raises(KilledError):
            client.delete(f"/{group}/{entity_id}")
        assert client.get(f"/{group}/{entity_id}").status_code == 404
        assert len(remaining_keys(entity_id)) > 2
    with boundary.failing(Fault.KILLED, at=3), pytest.raises(KilledError):
        client.put("/clusters", json={"token": "second"})
    assert len(parameter_keys()) > len(tokens)

    clock.now += GRACE
    clean_up(resources)
    assert (remaining_keys(*addresses.values()), parameter_keys()) == ([], tokens)


@pytest.mark.row("EN-5")
def test_a_clean_up_that_takes_long_leaves_all_kinds_and_the_memberships_their_time(
    client: TestClient, resources: Resources, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first kind has more to remove than the time allows, and one entity of it always fails."""
    seconds = itertools.count(step=20)
    monkeypatch.setattr(reconciler, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    space_id, cleaned = client.headers["X-Space-Id"], []

    def clean(_: object, _space_id: str, entity_id: str) -> None:
        cleaned.append(entity_id)
        if entity_id == "token-0":
            raise RuntimeError("this one always fails")

    for kind, cleaner in (("cluster", TokenCleaner), ("connector", ConnectorCleaner)):
        monkeypatch.setattr(cleaner, "clean", clean)
        notes = CleanupList(resources.table, kind, clock)
        for number in range(30):
            name = "token" if kind == "cluster" else kind
            notes.write(notes.note(space_id, f"{name}-{number}"))
    clock.now += GRACE
    clean_up(resources, 1200)
    kinds = [each.partition("-")[0] for each in cleaned]
    assert 2 < kinds.count("token") < 30
    assert kinds.count("connector") > 2


@pytest.mark.row("EN-5", "SP-2")
def test_memberships_follow_before_the_clean_up(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def note(name: str) -> Any:
        return lambda _resources, seconds: done.append(f"{name} for {seconds:.0f} s")

    for name in ("reconcile_jobs", "move_memberships", "clean_up"):
        monkeypatch.setattr(reconciler, name, note(name))
    context = SimpleNamespace(get_remaining_time_in_millis=lambda: 240_000)
    inspect.unwrap(reconciler.handler)({}, context)
    assert done == ["reconcile_jobs for 180 s", "move_memberships for 112 s", "clean_up for 225 s"]
