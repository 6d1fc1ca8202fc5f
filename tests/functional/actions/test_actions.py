from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from shared.clock import new_id
from shared.dynamodb.table import Table
from shared.models.channel_template import check_channel_template, render
from tests.fixtures.evaluations import add_checkpoint

UNKNOWN = "01a2081a-1610-752b-8cc0-d52dcf52e48d"
OFFER = {"name": "Gold card", "description": "No fee for a year", "priority": "high", "type": "offer"}


def create_action(client: TestClient, **fields: Any) -> Any:
    created = client.post("/actions", json=OFFER | fields)
    assert created.status_code == 201, created.text
    return created.json()


def create_group(client: TestClient, name: str = "Cards") -> str:
    group_id: str = client.post("/action-groups", json={"name": name, "description": ""}).json()["id"]
    return group_id


@pytest.mark.row("AG-2", "AG-3")
def test_an_action_group_is_created_renamed_listed_and_deleted(client: TestClient) -> None:
    created = client.post("/action-groups", json={"name": "Cards", "description": "plastic"})
    assert created.status_code == 201, created.text
    group = created.json()
    assert group["created_at"] == group["updated_at"]

    renamed = client.put(f"/action-groups/{group['id']}", json={"name": "Credit cards"}).json()
    assert renamed == group | {"name": "Credit cards", "updated_at": renamed["updated_at"]}
    assert renamed["updated_at"] > group["updated_at"]

    assert client.delete(f"/action-groups/{group['id']}").json() == {"id": group["id"]}
    for response in (
        client.get(f"/action-groups/{group['id']}"),
        client.put(f"/action-groups/{group['id']}", json={"name": "x"}),
        client.delete(f"/action-groups/{group['id']}"),
    ):
        assert response.status_code == 404


@pytest.mark.row("AG-2")
def test_a_group_needs_a_name_and_two_groups_may_share_one(client: TestClient) -> None:
    assert client.post("/action-groups", json={"description": ""}).status_code == 400
    assert create_group(client) != create_group(client)
    assert client.get("/action-groups").json()["count"] == 2


@pytest.mark.row("AG-1", "AC-1")
@pytest.mark.parametrize("path", ["/action-groups", "/actions"])
@pytest.mark.parametrize("limit", [1, 3, 100])
def test_the_pages_of_a_list_return_each_entry_once_and_the_newest_first(
    client: TestClient, path: str, limit: int
) -> None:
    body = OFFER if path == "/actions" else {"description": ""}
    created = [client.post(path, json=body | {"name": f"Number {number}"}).json()["id"] for number in range(6)]
    seen: list[str] = []
    after = ""
    while True:
        page = client.get(path, params={"limit": limit, "after": after}).json()
        assert page["count"] == 6
        seen += [each["id"] for each in page["data"]]
        if not page["has_more"]:
            break
        after = seen[-1]
    assert seen == created[::-1]
    refused = client.get(path, params={"after": "garbage"})
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_cursor")


@pytest.mark.row("AG-3")
def test_actions_of_a_deleted_group_remain_without_a_group(client: TestClient) -> None:
    group = create_group(client)
    action = create_action(client, group=group)
    assert action["group"] == group
    assert client.delete(f"/action-groups/{group}").status_code == 200
    assert client.get(f"/actions/{action['id']}").json()["group"] == ""
    assert client.get("/actions").json()["data"][0]["group"] == ""
    assert client.put(f"/actions/{action['id']}", json={"name": "Platinum"}).json()["group"] == ""


@pytest.mark.row("AC-2")
def test_a_new_action_is_a_draft_without_a_group_by_default(client: TestClient) -> None:
    action = create_action(client)
    assert (action["status"], action["group"], action["model_id"]) == ("draft", "", None)
    assert client.get(f"/actions/{action['id']}").json() == action


@pytest.mark.row("AC-2")
@pytest.mark.parametrize(
    ("fields", "field", "message"),
    [
        ({"priority": "urgent"}, "body.priority", "'very_low', 'low', 'medium', 'high' or 'very_high'"),
        ({"status": "live"}, "body.status", "'archived', 'draft', 'active' or 'inactive'"),
        ({"start_date": "2026-03-01", "end_date": "2026-02-01T12:00:00Z"}, "body", "end_date lies before start_date"),
        ({"model_id": UNKNOWN}, "body.model_id", "GET /checkpoints"),
        ({"model_id": "x"}, "body.model_id", "GET /checkpoints"),
        ({"group": UNKNOWN}, "body.group", "GET /action-groups"),
        ({"type": "x" * 65}, "body.type", "64"),
        ({"channel_template": "Dear {{client.name}}, {{clint.age}}!"}, "body.channel_template", "{{clint.age}}"),
        ({"channel_template": "{{ }}"}, "body.channel_template", "{{client.<field>}}"),
    ],
    ids=str,
)
def test_an_invalid_action_is_refused_with_the_name_of_the_field(
    client: TestClient, fields: dict[str, Any], field: str, message: str
) -> None:
    refused = client.post("/actions", json=OFFER | fields)
    assert refused.status_code == 400
    assert refused.json()["details"][0]["field"] == field
    assert message in refused.json()["error"]
    assert client.get("/actions").json()["count"] == 0


@pytest.mark.row("AC-2")
def test_an_action_keeps_all_its_fields(client: TestClient, table: Table) -> None:
    fields = {
        "channel": "email",
        "channel_template": "Dear {{ client.first name }}: {{argument}}",
        "custom_insights": "Costs 0 EUR for a year",
        "group": create_group(client),
        "model_id": add_checkpoint(table, client.headers["X-Space-Id"]).id,
        "start_date": "2026-03-01",
        "end_date": "2026-03-01",
        "status": "active",
    }
    action = create_action(client, **fields)
    dates = {"start_date": "2026-03-01T00:00:00.000000Z", "end_date": "2026-03-01T23:59:59.999999Z"}
    assert action == action | OFFER | fields | dates


@pytest.mark.row("AC-3")
def test_the_action_model_and_group_of_another_space_are_unknown(
    client: TestClient, other_client: TestClient, table: Table
) -> None:
    action = create_action(client)
    assert other_client.get(f"/actions/{action['id']}").status_code == 404
    model = add_checkpoint(table, client.headers["X-Space-Id"]).id
    for fields in ({"model_id": model}, {"group": create_group(client)}):
        assert other_client.post("/actions", json=OFFER | fields).status_code == 400


@pytest.mark.row("AC-4")
def test_the_group_of_an_action_is_set_changed_and_cleared(client: TestClient) -> None:
    action = create_action(client)
    path = f"/actions/{action['id']}"
    missing = client.put(path, json={"group": new_id()})
    assert (missing.status_code, missing.json()["details"][0]["field"]) == (400, "body.group")
    group = create_group(client)
    assert client.put(path, json={"group": group}).json()["group"] == group
    assert client.put(path, json={"group": ""}).json()["group"] == ""
    assert client.put(path, json={"group": group}).json()["group"] == group
    assert client.patch(path, json={"group": None}).json()["group"] == ""


@pytest.mark.row("AC-4")
def test_the_status_of_an_action_changes_in_any_order(client: TestClient) -> None:
    path = f"/actions/{create_action(client)['id']}"
    for status in ("archived", "active", "inactive", "active", "archived", "draft"):
        assert client.put(path, json={"status": status}).json()["status"] == status


@pytest.mark.row("AC-4")
def test_a_date_that_contradicts_the_other_stored_date_is_refused(client: TestClient) -> None:
    start = datetime(2026, 3, 1, tzinfo=UTC)
    path = f"/actions/{create_action(client, start_date=start.isoformat())['id']}"
    early, late = ((start + timedelta(days=days)).isoformat() for days in (-1, 1))
    for change in ({"end_date": early}, {"end_date": early, "start_date": late}):
        refused = client.put(path, json=change)
        assert refused.status_code == 400, refused.text
        assert "end_date" in refused.json()["error"]
    assert client.put(path, json={"end_date": late}).status_code == 200
    after_the_end = (start + timedelta(days=2)).isoformat()
    assert client.put(path, json={"start_date": after_the_end}).status_code == 400
    assert client.put(path, json={"start_date": after_the_end, "end_date": None}).json()["end_date"] is None


@pytest.mark.row("AC-5")
def test_a_deleted_action_is_not_found(client: TestClient) -> None:
    path = f"/actions/{create_action(client)['id']}"
    assert client.delete(path).status_code == 200
    assert client.get(path).status_code == 404
    assert client.get("/actions").json() == {"count": 0, "data": [], "has_more": False}


@given(name=st.text(max_size=20), value=st.text(max_size=40))
def test_the_values_in_a_template_are_never_read_as_placeholders(name: str, value: str) -> None:
    template = check_channel_template("Dear {{client.name}}, {{ argument }} { } }} $x ${y}")
    filled = render(template, {"client.name": "{{argument}}" + name, "argument": value})
    assert filled == "Dear {{argument}}" + name + ", " + value + " { } }} $x ${y}"


def test_a_missing_field_of_a_client_leaves_an_empty_text() -> None:
    assert render("Dear {{client.name}}!", {}) == "Dear !"
