"""What is left of something when the worker that deletes it dies, the reconciler removes."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from functions.events.reconcile_jobs import clean_up
from shared.dynamodb.cleanup_list import GRACE
from shared.dynamodb.table import Table
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


def connector(lab: Lab) -> str:
    """Returns one with a file, a copy of a table, a long list of columns and a drift."""
    connector_id = lab.connector()
    names = "|".join(f"{number} is the number of a column with a rather long name" for number in range(1_000))
    lab.deliver(lab.put(connector_id, "wide.csv", f"{names}\n{'|'.join('1' * 1_000)}\n".encode()))
    lab.work(connector_id)
    add_drift(lab.resources, lab.space_id, connector_id)
    lab.s3.put_object(Bucket=BUCKET, Key=f"spaces/{lab.space_id}/snapshots/{connector_id}/customers", Body=b"rows")
    return connector_id


def chat(client: TestClient) -> str:
    """Returns one with a turn that is too long for the table."""
    said = {"messages": [{"role": "user", "content": "word " * 30_000}]}
    return str(client.post("/chats", json=said).json()["id"])


def argument(client: TestClient, table: Table) -> str:
    """Returns one with a change and a comment."""
    argument_id = add_argument(table, client.headers["X-Space-Id"])
    client.put(f"/arguments/{argument_id}", json={"argument": "Better."})
    client.post(f"/arguments/{argument_id}/comments", json={"text": "Good."})
    return argument_id


def left_of(*ids: str) -> list[str]:
    """But for the word that the deletion leaves to the audit log."""
    return [key for key in held_by_aws() if any(each in key for each in ids) and " removal#" not in key]


def parameters() -> list[str]:
    return [key for key in held_by_aws() if key.startswith("parameter")]


def test_the_remaining_data_of_a_killed_worker_is_removed(
    client: TestClient, resources: Resources, table: Table, clock: MovableClock, upstream: FakeUpstream
) -> None:
    client.post("/clusters", json={"ingress_url": upstream.url, "manager_url": upstream.url, "token": "first"})
    tokens = parameters()
    addresses = {
        "connectors": connector(Lab(client, resources)),
        "chats": chat(client),
        "arguments": argument(client, table),
    }
    boundary = Boundary(seed=1)
    boundary.watch(resources.dynamodb)
    for group, entity_id in addresses.items():
        with boundary.failing(Fault.LATE_KILLED, at=1), pytest.raises(KilledError):
            client.delete(f"/{group}/{entity_id}")
        assert client.get(f"/{group}/{entity_id}").status_code == 404
        assert len(left_of(entity_id)) > 2
    with boundary.failing(Fault.KILLED, at=3), pytest.raises(KilledError):
        client.put("/clusters", json={"token": "second"})
    assert len(parameters()) > len(tokens)

    clock.now += GRACE
    clean_up(resources)
    assert (left_of(*addresses.values()), parameters()) == ([], tokens)
