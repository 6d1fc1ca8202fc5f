"""Tests of the chain of the audit log: it only grows, names the key that acted, and shows what was tampered with."""

import csv
import hashlib
import io
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from shared.audit.store import ROWS_AT_ONCE
from shared.dynamodb.table import Key, delete, update
from shared.resources import Resources
from tests.fixtures.audit import Stream, deliver
from tests.fixtures.clocks import MovableClock
from tests.fixtures.evaluations import add_member
from tests.fixtures.trainings import space_of
from tests.functional.conftest import ClientMaker


def rows_of(client: TestClient, **filters: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = client.get("/audit-logs", params={"limit": 100, **filters}).json()["data"]
    return rows


def verification(client: TestClient, **query: Any) -> dict[str, Any]:
    response = client.get("/audit-logs/verification", params=query)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def change(client: TestClient, count: int) -> None:
    for number in range(count):
        client.post("/data-models", json={"name": f"Model {number}"}).raise_for_status()


def chained(client: TestClient, resources: Resources, stream: Stream, count: int = 4) -> list[str]:
    """Makes changes in the space, and returns the ids of its rows in the order of the chain."""
    change(client, count)
    deliver(resources, stream.read())
    return [row["id"] for row in sorted(rows_of(client), key=lambda row: int(row["sequence"]))]


@pytest.mark.row("GV-4", "X-14")
def test_a_row_stays_as_it_is_when_its_record_comes_again_with_other_images(
    client: TestClient, resources: Resources, sign_in: ClientMaker, stream: Stream
) -> None:
    """A restored membership appears in the stream with its last write, and without an image before."""
    bob, space_id = sign_in("bob"), space_of(client)
    add_member(resources.table, bob, space_id, [])
    bob_id = bob.get("/me").json()["id"]
    client.post(f"/users/{bob_id}/permissions", json={"permissions": ["trainings:get"]}).raise_for_status()
    records = stream.read()
    deliver(resources, records)
    before = rows_of(client)
    granted = next(each for each in before if each["entity_id"] == bob_id and each["action"] == "updated")
    assert (granted["before"], granted["after"]) == ({"permissions": []}, {"permissions": ["trainings:get"]})
    for record in records:
        record["dynamodb"].pop("OldImage", None)
        record["dynamodb"].get("NewImage", {})["version"] = {"N": "1"}
    deliver(resources, records)
    assert rows_of(client) == before


@pytest.mark.row("GV-4", "SP-2")
def test_the_chain_is_whole_after_a_delete_and_a_restore_and_names_the_key_that_acted(
    client: TestClient, resources: Resources, stream: Stream
) -> None:
    key = client.post("/api-keys", json={"name": "CI", "scopes": ["write"]}).json()
    program = TestClient(client.app, headers={"Authorization": f"Bearer {key['key']}"})
    change(program, 1)
    before = chained(client, resources, stream)
    client.delete(f"/spaces/{space_of(client)}").raise_for_status()
    client.post(f"/spaces/{space_of(client)}/restore").raise_for_status()
    after = chained(client, resources, stream)
    assert after[: len(before)] == before
    found = verification(client)
    assert (found["is_intact"], found["problems"], found["checked"]) == (True, [], len(after))
    assert {row["sequence"] for row in rows_of(client)} == set(range(1, len(after) + 1))
    assert [row["entity"] for row in rows_of(client, api_key_id=key["id"])] == ["data_model"]


@pytest.mark.row("GV-4")
def test_records_that_come_in_any_order_twice_and_in_large_batches_make_one_chain(
    client: TestClient, resources: Resources, stream: Stream
) -> None:
    change(client, ROWS_AT_ONCE + 5)
    records = stream.read()
    for batch in (records[10:], records[:20], records, records[5:15]):
        deliver(resources, batch)
    found = verification(client)
    assert (found["is_intact"], found["last"]) == (True, found["checked"])
    assert found["checked"] >= ROWS_AT_ONCE + 5


@pytest.mark.row("GV-4")
def test_four_batches_at_the_same_time_make_one_chain(client: TestClient, resources: Resources, stream: Stream) -> None:
    """AWS sends up to four batches of a shard at the same time."""
    change(client, 60)
    records = stream.read()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda start: deliver(resources, records[start::4]), range(4)))
    found = verification(client)
    assert (found["is_intact"], found["last"]) == (True, found["checked"])
    assert found["checked"] >= 60


@pytest.mark.row("GV-4")
@pytest.mark.parametrize("fault", ["changed", "removed", "first removed", "last removed", "rehashed"])
def test_a_row_that_was_tampered_with_is_found(
    client: TestClient, resources: Resources, stream: Stream, fault: str
) -> None:
    ids, table, partition = chained(client, resources, stream), resources.table, f"audit#{space_of(client)}"
    victim = {"first removed": 1, "last removed": len(ids)}.get(fault, 3)
    place = Key(partition, ids[victim - 1])
    if fault == "changed":
        table.write(update(place, {"actor": "somebody else"}))
    elif fault == "rehashed":
        row = {**(table.get(place) or {}), "actor": "somebody else"}
        table.write(update(place, {"actor": row["actor"], "hash": own_hash(row)}))
    else:
        table.delete_all([place, Key(f"{partition}#chain", f"{victim:012d}")])
    found = verification(client)
    assert not found["is_intact"]
    following = {"first removed": 2, "last removed": len(ids), "changed": 3}.get(fault, 4)
    assert following in [each["sequence"] for each in found["problems"]]


@pytest.mark.row("GV-4")
def test_a_hash_that_was_kept_finds_a_chain_that_was_made_again(
    client: TestClient, resources: Resources, stream: Stream
) -> None:
    """Who may write the table can make a whole new chain, but not one with the same hashes."""
    chained(client, resources, stream)
    kept = verification(client)
    known = {"after_sequence": kept["last"], "hash": kept["hash"]}
    assert verification(client, **known)["is_intact"]
    change(client, 1)
    records, table, partition = stream.read(), resources.table, f"audit#{space_of(client)}"
    for pk in (partition, f"{partition}#chain", f"{partition}#head"):
        for item in list(table.query(pk)):
            table.write(delete(Key(pk, item["SK"])))
    deliver(resources, records)
    assert verification(client)["is_intact"]
    assert not verification(client, **known)["is_intact"]


@pytest.mark.row("GV-4")
def test_rows_that_expire_leave_the_rest_of_the_chain_whole(
    client: TestClient, resources: Resources, stream: Stream, clock: MovableClock
) -> None:
    ids = chained(client, resources, stream)
    clock.now += timedelta(days=401)
    assert verification(client)["is_intact"]
    partition = f"audit#{space_of(client)}"
    for place in (Key(partition, ids[0]), Key(f"{partition}#chain", f"{1:012d}")):
        resources.table.write(delete(place))
    assert verification(client)["is_intact"]


@pytest.mark.row("GV-4")
def test_an_export_holds_what_its_hashes_cover(client: TestClient, resources: Resources, stream: Stream) -> None:
    ids = chained(client, resources, stream)
    first = client.get("/audit-logs/export", params={"limit": 2})
    assert first.headers["X-Next-Sequence"] == "2"
    rest = client.get("/audit-logs/export", params={"after_sequence": 2})
    assert "X-Next-Sequence" not in rest.headers
    rows = [json.loads(line) for line in (first.text + rest.text).splitlines()]
    assert [row["id"] for row in rows] == ids
    previous = ""
    for row in rows:
        assert row["previous_hash"] == previous
        assert row["hash"] == own_hash(row)
        previous = row["hash"]
    table = client.get("/audit-logs/export", params={"format": "csv"})
    assert table.headers["Content-Type"].startswith("text/csv")
    read = list(csv.DictReader(io.StringIO(table.text)))
    assert [row["hash"] for row in read] == [row["hash"] for row in rows]
    assert json.loads(read[-1]["after"])["name"] == "Model 3"


def own_hash(row: dict[str, Any]) -> str:
    """Returns the hash as the documentation describes it."""
    names = "action actor after api_key_id before entity entity_id expires_at id sequence"
    content = {name: row.get(name) for name in [*names.split(), "previous_hash", "previous_expires_at"]}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
