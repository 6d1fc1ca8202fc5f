"""A space stores only so many bytes, and forms for uploads reserve what they allow."""

import base64
import json
from datetime import timedelta
from typing import Any

import boto3
import pytest
from fastapi.testclient import TestClient

from shared.dynamodb.table import ConditionFailedError, Table
from shared.errors import LimitReachedError
from shared.models.job_limits import JobLimits
from shared.resources import Resources
from shared.space_usage import storage
from shared.space_usage.storage import StorageUsages
from tests.fixtures.aws import BUCKET
from tests.fixtures.clocks import MovableClock
from tests.fixtures.evaluations import add_connector
from tests.fixtures.trainings import space_of, training_request
from tests.functional.space_usage.conftest import GIB

pytestmark = pytest.mark.row("SE-9")


def ask(client: TestClient, table: Table, files: int = 1, **body: Any) -> Any:
    connector_id = add_connector(table, space_of(client))
    names = [f"{number}.csv" for number in range(files)]
    return client.post(f"/connectors/{connector_id}/uploads", json={"files": names, **body})


def usage(client: TestClient) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"/spaces/{space_of(client)}/limits").json()["job_usage"]["storage_gib"]
    return found


@pytest.fixture
def usages(table: Table, resources: Resources) -> StorageUsages:
    """Returns a store with a limit of one GiB."""
    return StorageUsages(table, resources.s3, BUCKET, JobLimits(storage_gib=1), resources.clock)


def store(client: TestClient, name: str, size: int, folder: str = "spaces") -> None:
    boto3.client("s3").put_object(Bucket=BUCKET, Key=f"{folder}/{space_of(client)}/{name}", Body=b"x" * size)


def test_forms_reserve_what_they_allow_and_one_too_many_is_429(client: TestClient, table: Table) -> None:
    assert ask(client, table, files=2).status_code == 201
    assert usage(client) == {"limit": 10, "used": 0, "reserved": 10, "resets_at": None}
    refused = ask(client, table, max_bytes=1)
    assert (refused.status_code, refused.json()["code"]) == (429, "limit_reached")
    assert "storage_gib" in refused.json()["error"]
    assert "10.00 are reserved" in refused.json()["error"]


def test_a_form_accepts_no_more_than_it_reserves(client: TestClient, table: Table) -> None:
    asked = ask(client, table, files=10, max_bytes=GIB)
    assert usage(client)["reserved"] == 10
    policy = json.loads(base64.b64decode(asked.json()["uploads"][0]["fields"]["policy"]))
    assert ["content-length-range", 1, GIB] in policy["conditions"]


def test_forms_of_personas_reserve_too(client: TestClient, table: Table) -> None:
    assert client.post("/personas/uploads", json={"files": ["a.csv"]}).status_code == 201
    assert usage(client)["reserved"] == 0.125
    ask(client, table, files=2, max_bytes=9 * GIB // 2)
    ask(client, table, max_bytes=7 * GIB // 8)
    assert client.post("/personas/uploads", json={"files": ["a.csv"]}).status_code == 429


def test_an_expired_form_gives_its_room_back_and_what_was_uploaded_is_measured(
    client: TestClient, table: Table, movable_clock: MovableClock
) -> None:
    ask(client, table, files=2)
    store(client, "connectors/1/0.csv", 3 << 20)
    store(client, "persona_files/1", 1 << 20, "temporary/spaces")
    movable_clock.now += timedelta(hours=1, minutes=2)
    assert ask(client, table, max_bytes=GIB).status_code == 201
    assert usage(client) == {"limit": 10, "used": 0.004, "reserved": 1, "resets_at": None}


def test_no_training_starts_while_the_storage_is_full(client: TestClient, table: Table) -> None:
    body = training_request(client, table)
    ask(client, table, files=2)
    refused = client.post("/trainings", json=body)
    assert (refused.status_code, refused.json()["code"]) == (429, "limit_reached")
    assert client.get("/trainings").json()["count"] == 0


def test_no_export_of_reactions_is_written_without_room_for_it(
    client: TestClient, table: Table, movable_clock: MovableClock
) -> None:
    connector_id = add_connector(table, space_of(client))
    offer = {"name": "Gold", "description": "", "priority": "medium", "type": "offer", "status": "active"}
    action_id = client.post("/actions", json=offer).json()["id"]
    body = {"client": {"customer_id": 1}, "actions": [action_id], "wording": "none"}
    insight = client.post("/insights", json=body).json()
    reaction = client.post(f"/insights/{insight['id']}/reactions", json={"reaction": "accepted"})
    assert reaction.status_code == 201, reaction.text
    movable_clock.now += timedelta(days=1)
    ask(client, table, files=2)

    refused = client.post("/insights/exports", json={"connector_id": connector_id})

    assert (refused.status_code, refused.json()["code"]) == (429, "limit_reached")
    assert client.get(f"/connectors/{connector_id}/files", params={"flat": True}).json() == []
    movable_clock.now += timedelta(hours=1, minutes=2)
    written = client.post("/insights/exports", json={"connector_id": connector_id})
    assert (written.status_code, written.json()["rows"]) == (201, 1), written.text


def test_ten_requests_at_the_same_time_do_not_pass_the_limit(
    client: TestClient, usages: StorageUsages, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another request writes between the read and the write of each of the first nine."""
    space_id, waiting = space_of(client), [GIB // 4] * 9
    write = table.write

    def overtaken(action: Any) -> Any:
        if waiting:
            usages.reserve(space_id, waiting.pop(), timedelta(hours=1))
        return write(action)

    monkeypatch.setattr(table, "write", overtaken)
    monkeypatch.setattr("shared.dynamodb.table.back_off", lambda _: None)
    with pytest.raises(LimitReachedError):
        usages.reserve(space_id, GIB // 4, timedelta(hours=1))
    assert usages.usage(space_id)["storage_gib"].reserved == 1


def test_a_large_space_is_measured_over_several_requests(
    client: TestClient,
    usages: StorageUsages,
    resources: Resources,
    monkeypatch: pytest.MonkeyPatch,
    movable_clock: MovableClock,
) -> None:
    space_id = space_of(client)
    for number in range(5):
        store(client, f"connectors/1/{number}", 1 << 20)
    store(client, "persona_files/1", 1 << 20, "temporary/spaces")
    paginator = resources.s3.get_paginator

    def small_pages(name: Any) -> Any:
        pages = paginator(name)
        paginate = pages.paginate
        pages.paginate = lambda **given: paginate(**given, PaginationConfig={"PageSize": 2})
        return pages

    monkeypatch.setattr(resources.s3, "get_paginator", small_pages, raising=False)
    monkeypatch.setattr(storage, "PAGES_AT_ONCE", 2)
    for _ in range(2):
        usages.reserve(space_id, 0, timedelta(hours=1))
    assert usages.usage(space_id)["storage_gib"].used == round(6 / 1024, 3)
    store(client, "connectors/1/9", 1 << 20)
    usages.reserve(space_id, 0, timedelta(hours=1))
    assert usages.usage(space_id)["storage_gib"].used == round(6 / 1024, 3)
    movable_clock.now += timedelta(minutes=16)
    for _ in range(2):
        usages.reserve(space_id, 0, timedelta(hours=1))
    assert usages.usage(space_id)["storage_gib"].used == round(7 / 1024, 3)
    with pytest.raises(ConditionFailedError):
        usages._replace(space_id, {"revision": 1}, {})
