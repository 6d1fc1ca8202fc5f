"""Tests that the reconciler removes the remaining data of interrupted deletions."""

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
