"""Tests of the rows of the audit log: their content, filters, retention and readers."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from shared.audit.store import VALUE_CHARACTERS
from shared.models.job_status import JobStatus
from shared.resources import Resources
from shared.trainings.store import Trainings
from tests.fixtures.audit import Stream, deliver
from tests.fixtures.clocks import MovableClock
from tests.fixtures.evaluations import add_member
from tests.fixtures.trainings import space_of, training_request
from tests.functional.conftest import ClientMaker


def audit_rows(client: TestClient, **filters: Any) -> list[dict[str, Any]]:
    response = client.get("/audit-logs", params={"limit": 100, **filters})
    assert response.status_code == 200, response.text
    rows: list[dict[str, Any]] = response.json()["data"]
    return rows


@pytest.mark.row("X-14")
def test_a_row_contains_the_change_and_a_repeated_delivery_adds_no_row(
    client: TestClient, resources: Resources, stream: Stream
) -> None:
    me = client.get("/me").json()["id"]
    started = datetime.now(UTC)
    model = client.post("/data-models", json={"name": "Churn", "description": "old"}).json()
    client.put(f"/data-models/{model['id']}", json={"description": "new"})
    client.delete(f"/data-models/{model['id']}")
    records = stream.read()
    for batch in (records, records[:1], records):
        deliver(resources, batch)
    rows = audit_rows(client, entity="data_model")
    assert [(row["action"], row["before"], row["after"]) for row in rows] == [
        ("deleted", {"name": "Churn", "description": "new", "created_at": model["created_at"]}, {}),
        ("updated", {"description": "old"}, {"description": "new"}),
        ("created", {}, {"name": "Churn", "description": "old", "created_at": model["created_at"]}),
    ]
    for row in rows:
        assert (row["actor"], row["entity_id"]) == (me, model["id"])
        assert started - timedelta(seconds=1) < datetime.fromisoformat(row["created_at"]) < datetime.now(UTC)


@pytest.mark.row("AC-4")
def test_the_activation_of_an_archived_action_is_recorded(
    client: TestClient, resources: Resources, stream: Stream
) -> None:
    offer = {"name": "Card", "description": "", "priority": "high", "type": "offer", "status": "archived"}
    action = client.post("/actions", json=offer).json()["id"]
    assert client.put(f"/actions/{action}", json={"status": "active"}).json()["status"] == "active"
    deliver(resources, stream.read())
    activated, _ = audit_rows(client, entity_id=action)
    assert (activated["before"], activated["after"]) == ({"status": "archived"}, {"status": "active"})


@pytest.mark.row("X-14")
def test_workflows_write_as_the_system_and_changes_hidden_from_users_leave_no_row(
    client: TestClient, resources: Resources, stream: Stream
) -> None:
    trainings = Trainings(resources.table)
    training = client.post("/trainings", json=training_request(client, resources.table)).json()
    trainings.advance(space_of(client), training["id"], JobStatus.RUNNING)
    for _ in range(5):
        trainings.report(space_of(client), training["id"], datetime.now(UTC), [])
    trainings.end(space_of(client), training["id"], JobStatus.FAILED, {"error": "The file is empty."})
    deliver(resources, stream.read())
    rows = audit_rows(client, entity_id=training["id"])
    assert [(row["actor"], row["after"].get("status")) for row in rows] == [
        ("system", "failed"),
        ("system", "running"),
        (training["created_by"] if "created_by" in training else client.get("/me").json()["id"], "pending"),
    ]
    # The trainings of a data model are counted in its item, but no user changed the data model.
    [created] = audit_rows(client, entity_id=training["data_model_id"])
    assert created["action"] == "created"


@pytest.mark.row("X-14")
def test_the_deletion_of_a_space_leaves_no_rows_of_memberships(
    client: TestClient, resources: Resources, stream: Stream
) -> None:
    deliver(resources, stream.read())
    before = audit_rows(client, entity="membership")
    client.delete(f"/spaces/{space_of(client)}")
    client.post(f"/spaces/{space_of(client)}/restore")
    deliver(resources, stream.read())
    assert audit_rows(client, entity="membership") == before
    assert [row["action"] for row in audit_rows(client, entity="space")] == ["restored", "deleted", "created"]


@pytest.mark.row("X-14", "EN-4")
def test_every_deletion_of_a_key_that_is_made_again_has_its_own_row(
    client: TestClient, resources: Resources, sign_in: ClientMaker, stream: Stream
) -> None:
    """The records of all writes arrive together, after the last of them."""
    bob = sign_in("bob")
    bob_id = bob.get("/me").json()["id"]
    me, space_id = client.get("/me").json()["id"], space_of(client)
    for _ in range(2):
        add_member(resources.table, bob, space_id, ["data-models:create"])
        assert client.delete(f"/spaces/{space_id}/members/{bob_id}").status_code == 200
    records = stream.read()
    for batch in (records, records):
        deliver(resources, batch)
    rows = audit_rows(client, entity="membership", entity_id=bob_id)
    assert [row["action"] for row in rows] == ["deleted", "created"] * 2
    deleted = rows[::2]
    assert [row["actor"] for row in deleted] == [me, me]
    assert [row["before"]["created_at"] for row in deleted] == [row["after"]["created_at"] for row in rows[1::2]]


@pytest.mark.row("X-14", "SP-2", "EN-4")
def test_the_restore_of_a_space_rewrites_no_row_of_its_memberships(
    client: TestClient, resources: Resources, sign_in: ClientMaker, stream: Stream
) -> None:
    bob, space_id = sign_in("bob"), space_of(client)
    add_member(resources.table, bob, space_id, [])
    bob_id = bob.get("/me").json()["id"]
    client.post(f"/users/{bob_id}/permissions", json={"permissions": ["trainings:get"]}).raise_for_status()
    deliver(resources, stream.read())
    before = audit_rows(client, entity="membership", entity_id=bob_id)
    assert [row["action"] for row in before] == ["updated", "created"]
    for _ in range(2):
        client.delete(f"/spaces/{space_id}").raise_for_status()
        client.post(f"/spaces/{space_id}/restore").raise_for_status()
    deliver(resources, stream.read())
    assert audit_rows(client, entity="membership", entity_id=bob_id) == before
    client.delete(f"/spaces/{space_id}/members/{bob_id}").raise_for_status()
    deliver(resources, stream.read())
    assert audit_rows(client, entity="membership", entity_id=bob_id)[0]["action"] == "deleted"


@pytest.mark.row("EN-5")
def test_audit_rows_of_users_expire_after_the_retention(
    client: TestClient, resources: Resources, stream: Stream
) -> None:
    """No space has these rows, so no purge of a space removes them."""
    user_id = client.put("/me", json={"first_name": "Al"}).json()["id"]
    deliver(resources, stream.read())
    rows = [row for pk in (f"audit#{user_id}", f"audit#{user_id}#actor#{user_id}") for row in resources.table.query(pk)]
    latest = datetime.now(UTC) + timedelta(days=400)
    assert len(rows) >= 2
    assert all(row["expires_at"] <= latest.timestamp() for row in rows)


@pytest.mark.row("X-14")
def test_long_values_are_shortened(client: TestClient, resources: Resources, stream: Stream) -> None:
    client.post("/data-models", json={"name": "Long", "description": "x" * 9_000})
    deliver(resources, stream.read())
    [row] = audit_rows(client, entity="data_model")
    assert row["after"]["description"] == f'"{"x" * (VALUE_CHARACTERS - 1)}…'


@pytest.mark.row("X-14", "C-7")
def test_rows_are_filtered_and_paged_from_the_newest(
    client: TestClient, resources: Resources, sign_in: ClientMaker, stream: Stream
) -> None:
    bob = sign_in("bob")
    add_member(resources.table, bob, space_of(client), ["data-models:create"])
    models = [(client, bob)[number % 2].post("/data-models", json={"name": str(number)}).json() for number in range(6)]
    deliver(resources, stream.read())
    ids = [each["id"] for each in models[::-1]]
    me, bob_id = (each.get("/me").json()["id"] for each in (client, bob))

    for limit in (1, 2, 6, 100):
        read_ids: list[str] = []
        while True:
            params = {"entity": "data_model", "limit": limit, "after": read_ids[-1] if read_ids else ""}
            page = client.get("/audit-logs", params=params).json()
            assert page["count"] == 6
            read_ids += [row["id"] for row in page["data"]]
            if not page["has_more"]:
                break
        assert read_ids == [row["id"] for row in audit_rows(client, entity="data_model")]
    assert [row["entity_id"] for row in audit_rows(client, entity="data_model")] == ids
    assert [row["entity_id"] for row in audit_rows(client, actor=bob_id)] == ids[0::2]
    assert [row["entity_id"] for row in audit_rows(client, actor=me, entity="data_model")] == ids[1::2]
    assert [row["entity_id"] for row in audit_rows(client, entity_id=ids[0])] == ids[:1]
    assert audit_rows(client, entity_id=ids[0], actor=me) == []
    third = audit_rows(client, entity_id=ids[2])[0]["created_at"]
    since = {row["entity_id"] for row in audit_rows(client, entity="data_model", start_date=third)}
    until = {row["entity_id"] for row in audit_rows(client, entity="data_model", end_date=third)}
    assert since >= set(ids[:3])
    assert until >= set(ids[2:])
    assert since & until >= {ids[2]}
    today = datetime.now(UTC).date()
    assert len(audit_rows(client, entity="data_model", end_date=today.isoformat())) == 6
    assert audit_rows(client, start_date=(today + timedelta(days=1)).isoformat()) == []


@pytest.mark.row("X-14")
def test_rows_older_than_the_retention_are_not_returned(
    client: TestClient, resources: Resources, stream: Stream, movable_clock: MovableClock
) -> None:
    client.post("/data-models", json={"name": "Old"})
    deliver(resources, stream.read())
    assert audit_rows(client, entity="data_model")
    movable_clock.now += timedelta(days=401)
    assert audit_rows(client, entity="data_model") == []


@pytest.mark.row("X-14", "C-2")
def test_only_the_owner_reads_the_log_of_the_space(
    client: TestClient, other_client: TestClient, resources: Resources, sign_in: ClientMaker, stream: Stream
) -> None:
    member = sign_in("carol")
    add_member(resources.table, member, space_of(client), [])
    client.post("/data-models", json={"name": "Ours"})
    deliver(resources, stream.read())
    refused = member.get("/audit-logs")
    assert (refused.status_code, refused.json()["code"]) == (403, "permission_denied")
    assert {row["entity"] for row in audit_rows(other_client)} == {"space", "membership"}
    assert other_client.get("/audit-logs", headers={"X-Space-Id": space_of(client)}).status_code == 404


@pytest.mark.parametrize(
    "query",
    ["start_date=nonsense", "start_date=2026-01-02&end_date=2026-01-01", "limit=0", "after=x", "entity=" + "x" * 65],
)
def test_an_invalid_query_is_refused(client: TestClient, query: str) -> None:
    assert client.get(f"/audit-logs?{query}").status_code == 400


@pytest.mark.row("SE-3", "X-14")
def test_a_row_names_the_key_with_which_its_user_wrote(
    client: TestClient, resources: Resources, stream: Stream
) -> None:
    body = {"name": "Batch", "scopes": ["read", "write"]}
    keys = [client.post("/api-keys", json=body).json() for _ in range(2)]
    holders = [TestClient(client.app, headers={"Authorization": f"Bearer {key['key']}"}) for key in keys]
    ids = [each.post("/data-models", json={"name": "Churn"}).json()["id"] for each in (*holders, client)]
    holders[1].delete(f"/data-models/{ids[2]}")
    deliver(resources, stream.read())
    rows = audit_rows(client, entity="data_model")
    assert [(row["entity_id"], row["action"], row["api_key_id"]) for row in rows] == [
        (ids[2], "deleted", keys[1]["id"]),
        (ids[2], "created", None),
        (ids[1], "created", keys[1]["id"]),
        (ids[0], "created", keys[0]["id"]),
    ]
    assert {row["actor"] for row in rows} == {client.get("/me").json()["id"]}
    assert [row["entity_id"] for row in audit_rows(client, api_key_id=keys[1]["id"])] == [ids[2], ids[1]]
    assert audit_rows(client, entity_id=ids[2], api_key_id=keys[0]["id"]) == []
    assert [row["action"] for row in audit_rows(client, entity_id=ids[2], api_key_id=keys[1]["id"])] == ["deleted"]
