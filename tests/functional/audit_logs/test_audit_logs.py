"""Rows of the audit log, and who may read them."""

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


def logs(client: TestClient, **filters: Any) -> list[dict[str, Any]]:
    answer = client.get("/audit-logs", params={"limit": 100, **filters})
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.json()["data"]
    return rows


@pytest.mark.row("X-14")
def test_a_row_tells_what_changed_and_a_change_told_of_twice_makes_one(
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
    rows = logs(client, entity="data_model")
    assert [(row["action"], row["before"], row["after"]) for row in rows] == [
        ("deleted", {"name": "Churn", "description": "new", "created_at": model["created_at"]}, {}),
        ("updated", {"description": "old"}, {"description": "new"}),
        ("created", {}, {"name": "Churn", "description": "old", "created_at": model["created_at"]}),
    ]
    for row in rows:
        assert (row["actor"], row["entity_id"]) == (me, model["id"])
        assert started - timedelta(seconds=1) < datetime.fromisoformat(row["created_at"]) < datetime.now(UTC)


@pytest.mark.row("AC-4")
def test_an_action_s_way_from_archived_to_active_is_recorded(
    client: TestClient, resources: Resources, stream: Stream
) -> None:
    offer = {"name": "Card", "description": "", "priority": "high", "type": "offer", "status": "archived"}
    action = client.post("/actions", json=offer).json()["id"]
    assert client.put(f"/actions/{action}", json={"status": "active"}).json()["status"] == "active"
    deliver(resources, stream.read())
    moved, _ = logs(client, entity_id=action)
    assert (moved["before"], moved["after"]) == ({"status": "archived"}, {"status": "active"})


@pytest.mark.row("X-14")
def test_what_workflows_write_is_the_systems_and_what_no_user_sees_is_left_out(
    client: TestClient, resources: Resources, stream: Stream
) -> None:
    trainings = Trainings(resources.table)
    training = client.post("/trainings", json=training_request(client, resources.table)).json()
    trainings.advance(space_of(client), training["id"], JobStatus.RUNNING)
    for _ in range(5):
        trainings.report(space_of(client), training["id"], datetime.now(UTC), [])
    trainings.end(space_of(client), training["id"], JobStatus.FAILED, {"error": "The file is empty."})
    deliver(resources, stream.read())
    rows = logs(client, entity_id=training["id"])
    assert [(row["actor"], row["after"].get("status")) for row in rows] == [
        ("system", "failed"),
        ("system", "running"),
        (training["created_by"] if "created_by" in training else client.get("/me").json()["id"], "pending"),
    ]
    # The use of a data model is counted on it, which is nobody's change of the data model.
    [made] = logs(client, entity_id=training["data_model_id"])
    assert made["action"] == "created"


@pytest.mark.row("X-14")
def test_moving_the_memberships_of_a_deleted_space_adds_and_changes_no_row(
    client: TestClient, resources: Resources, stream: Stream
) -> None:
    deliver(resources, stream.read())
    before = logs(client, entity="membership")
    client.delete(f"/spaces/{space_of(client)}")
    client.post(f"/spaces/{space_of(client)}/restore")
    deliver(resources, stream.read())
    assert logs(client, entity="membership") == before
    assert [row["action"] for row in logs(client, entity="space")] == ["restored", "deleted", "created"]


@pytest.mark.row("X-14")
def test_long_values_are_cut(client: TestClient, resources: Resources, stream: Stream) -> None:
    client.post("/data-models", json={"name": "Long", "description": "x" * 9_000})
    deliver(resources, stream.read())
    [row] = logs(client, entity="data_model")
    assert row["after"]["description"] == f'"{"x" * (VALUE_CHARACTERS - 1)}…'


@pytest.mark.row("X-14", "C-7")
def test_rows_are_filtered_and_walked_newest_first(
    client: TestClient, resources: Resources, sign_in: ClientMaker, stream: Stream
) -> None:
    bob = sign_in("bob")
    add_member(resources.table, bob, space_of(client), ["data-models:create"])
    made = [(client, bob)[number % 2].post("/data-models", json={"name": str(number)}).json() for number in range(6)]
    deliver(resources, stream.read())
    ids = [each["id"] for each in made[::-1]]
    me, bobs = (each.get("/me").json()["id"] for each in (client, bob))

    for limit in (1, 2, 6, 100):
        walked: list[str] = []
        while True:
            params = {"entity": "data_model", "limit": limit, "after": walked[-1] if walked else ""}
            page = client.get("/audit-logs", params=params).json()
            assert page["count"] == 6
            walked += [row["id"] for row in page["data"]]
            if not page["has_more"]:
                break
        assert walked == [row["id"] for row in logs(client, entity="data_model")]
    assert [row["entity_id"] for row in logs(client, entity="data_model")] == ids
    assert [row["entity_id"] for row in logs(client, actor=bobs)] == ids[0::2]
    assert [row["entity_id"] for row in logs(client, actor=me, entity="data_model")] == ids[1::2]
    assert [row["entity_id"] for row in logs(client, entity_id=ids[0])] == ids[:1]
    assert logs(client, entity_id=ids[0], actor=me) == []
    third = logs(client, entity_id=ids[2])[0]["created_at"]
    since = {row["entity_id"] for row in logs(client, entity="data_model", start_date=third)}
    until = {row["entity_id"] for row in logs(client, entity="data_model", end_date=third)}
    assert since >= set(ids[:3])
    assert until >= set(ids[2:])
    assert since & until >= {ids[2]}
    today = datetime.now(UTC).date()
    assert len(logs(client, entity="data_model", end_date=today.isoformat())) == 6
    assert logs(client, start_date=(today + timedelta(days=1)).isoformat()) == []


@pytest.mark.row("X-14")
def test_rows_are_gone_after_the_retention_even_if_the_table_still_holds_them(
    client: TestClient, resources: Resources, stream: Stream, movable_clock: MovableClock
) -> None:
    client.post("/data-models", json={"name": "Old"})
    deliver(resources, stream.read())
    assert logs(client, entity="data_model")
    movable_clock.now += timedelta(days=401)
    assert logs(client, entity="data_model") == []


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
    assert {row["entity"] for row in logs(other_client)} == {"space", "membership"}
    assert other_client.get("/audit-logs", headers={"X-Space-Id": space_of(client)}).status_code == 404


@pytest.mark.parametrize(
    "query",
    ["start_date=nonsense", "start_date=2026-01-02&end_date=2026-01-01", "limit=0", "after=x", "entity=" + "x" * 65],
)
def test_a_question_that_can_not_be_meant_is_400(client: TestClient, query: str) -> None:
    assert client.get(f"/audit-logs?{query}").status_code == 400
