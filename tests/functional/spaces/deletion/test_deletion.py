"""Tests of deleted and restored spaces."""

from datetime import timedelta

import pytest
from fastapi.testclient import TestClient

from functions.events.reconcile_jobs import move_memberships
from shared.dynamodb.table import Table
from shared.resources import Resources
from shared.spaces.store import RESTORABLE, Spaces
from tests.fixtures.clocks import MovableClock
from tests.fixtures.spaces import fill
from tests.fixtures.trainings import space_of
from tests.fixtures.upstream import FakeUpstream
from tests.functional.spaces.deletion.helpers import InterruptedTable, contents, space_path, spaces_of


@pytest.mark.row("SP-2", "C-14")
def test_a_deleted_space_and_its_data_are_unknown_to_all_members(client: TestClient, members: list[TestClient]) -> None:
    persona = client.post("/personas", json={"name": "Ada", "birthdate": "1815-12-10", "notes": ""}).json()
    assert len(spaces_of(members[0])) == 2
    assert client.delete(space_path(client)).json() == {"id": space_of(client)}

    for response in (
        client.delete(space_path(client)),
        client.get(space_path(client)),
        client.put(space_path(client), json={"name": "Late"}),
        client.get(f"{space_path(client)}/members"),
        client.get(f"/personas/{persona['id']}"),
        client.post("/data-models", json={"name": "Late"}),
        members[0].get("/personas"),
        members[0].get(space_path(client)),
    ):
        assert (response.status_code, response.json()["code"]) == (404, "not_found"), response.text
    assert spaces_of(client) == []
    for member in members:
        assert len(spaces_of(member)) == 1
        # The member has only one space left, so a request does not need to name a space.
        assert member.get("/personas", headers={"X-Space-Id": ""}).status_code == 200


@pytest.mark.row("SP-2")
def test_a_restored_space_has_all_its_data_unchanged(
    client: TestClient, members: list[TestClient], resources: Resources, upstream: FakeUpstream
) -> None:
    fill(client, resources, upstream.url)
    before, space = contents(client), client.get(space_path(client)).json()
    listed = [spaces_of(each) for each in (client, *members)]
    client.delete(space_path(client))
    assert client.post(f"{space_path(client)}/restore").json() == {"id": space_of(client)}

    assert contents(client) == before
    assert [spaces_of(each) for each in (client, *members)] == listed
    restored = client.get(space_path(client)).json()
    assert restored == space | {"updated_at": restored["updated_at"]}
    assert client.post("/data-models", json={"name": "Again"}).status_code == 201
    assert members[0].get("/trainings").json()["count"] == 2
    assert members[0].get("/data-models").status_code == 403, "the permissions are unchanged"


@pytest.mark.row("SP-2")
def test_only_the_owner_deletes_and_restores_a_space(
    client: TestClient, members: list[TestClient], other_client: TestClient
) -> None:
    member = members[0]
    assert member.delete(space_path(client)).status_code == 403
    assert member.post(f"{space_path(client)}/restore").status_code == 403
    unknown = other_client.post("/spaces/01a2081a-1610-752b-8cc0-d52dcf52e48d/restore")
    for _ in range(2):
        for stranger in (other_client.delete, lambda path: other_client.post(f"{path}/restore")):
            response = stranger(space_path(client))
            assert response.status_code == 404
            assert response.json() | {"request_id": ""} == unknown.json() | {"request_id": ""}
        assert client.delete(space_path(client)).status_code in (200, 404)
    assert member.post(f"{space_path(client)}/restore").status_code == 403
    assert client.post(f"{space_path(client)}/restore").status_code == 200


@pytest.mark.row("SP-2")
def test_a_restore_changes_nothing_of_a_space_in_use_and_fails_after_the_deadline(
    client: TestClient, clock: MovableClock
) -> None:
    space = client.get(space_path(client))
    assert client.post(f"{space_path(client)}/restore").json() == {"id": space_of(client)}
    assert client.get(space_path(client)).json() == space.json()

    client.delete(space_path(client))
    clock.now += RESTORABLE - timedelta(seconds=1)
    assert client.post(f"{space_path(client)}/restore").status_code == 200
    client.delete(space_path(client))
    clock.now += RESTORABLE
    assert client.post(f"{space_path(client)}/restore").status_code == 404


@pytest.mark.row("SP-2")
def test_the_name_of_a_deleted_space_can_be_used_immediately(client: TestClient) -> None:
    name = client.get(space_path(client)).json()["name"]
    client.delete(space_path(client))
    again = client.post("/spaces", json={"name": name, "description": ""})
    assert again.status_code == 201
    client.post(f"{space_path(client)}/restore")
    assert sorted(spaces_of(client)) == sorted([space_of(client), again.json()["id"]])


@pytest.mark.row("C-13")
def test_a_deletion_with_an_outdated_etag_is_refused(client: TestClient) -> None:
    tag = client.get(space_path(client)).headers["ETag"]
    client.put(space_path(client), json={"name": "Changed"})
    assert client.delete(space_path(client), headers={"If-Match": tag}).status_code == 412
    assert client.get(space_path(client)).status_code == 200


@pytest.mark.row("SP-2")
@pytest.mark.parametrize("moved", range(5))
def test_a_restore_during_a_deletion_restores_the_whole_space(
    client: TestClient, members: list[TestClient], table: Table, moved: int
) -> None:
    before = contents(client)
    owner_id = client.get("/me").json()["id"]
    Spaces(table).delete(space_of(client), owner_id, None)
    late = InterruptedTable(table, moved, lambda: client.post(f"{space_path(client)}/restore"))
    Spaces(late).move_memberships(space_of(client))
    # The last case has no interruption, because there are only four memberships.
    client.post(f"{space_path(client)}/restore")

    assert contents(client) == before
    assert all(space_of(client) in spaces_of(each) for each in (client, *members))
    assert list(Spaces(table).with_pending_moves()) == []


@pytest.mark.row("SP-2")
@pytest.mark.parametrize("moved", range(4))
def test_a_deletion_during_a_restore_deletes_the_whole_space(
    client: TestClient, members: list[TestClient], table: Table, moved: int
) -> None:
    owner_id = client.get("/me").json()["id"]

    def delete() -> None:
        Spaces(table).delete(space_of(client), owner_id, None)
        Spaces(table).move_memberships(space_of(client))

    delete()
    Spaces(table).restore(space_of(client), owner_id)
    Spaces(InterruptedTable(table, moved, delete)).move_memberships(space_of(client))

    assert not any(space_of(client) in spaces_of(each) for each in (client, *members))
    assert client.get(space_path(client)).status_code == 404
    assert list(Spaces(table).with_pending_moves()) == []


@pytest.mark.row("SP-2")
def test_the_reconciler_completes_an_interrupted_deletion_or_restore(
    client: TestClient, members: list[TestClient], resources: Resources, table: Table
) -> None:
    owner_id = client.get("/me").json()["id"]
    spaces = Spaces(table)
    spaces.delete(space_of(client), owner_id, None)
    spaces.move_memberships(space_of(client), at_most=2)
    # The space is unknown to all members, although some memberships are not moved yet.
    assert all(each.get("/personas").status_code == 404 for each in (client, *members))
    move_memberships(resources)
    assert not any(space_of(client) in spaces_of(each) for each in (client, *members))

    spaces.restore(space_of(client), owner_id)
    spaces.move_memberships(space_of(client), at_most=1)
    move_memberships(resources)
    assert all(space_of(client) in spaces_of(each) for each in (client, *members))
    assert list(spaces.with_pending_moves()) == []


def test_a_change_of_permissions_during_a_deletion_is_kept(
    client: TestClient, members: list[TestClient], table: Table
) -> None:
    member_id = members[0].get("/me").json()["id"]

    def grant() -> None:
        Spaces(table).members.add_permissions(space_of(client), member_id, [])
        Spaces(table).members.memberships.update(member_id, space_of(client), {"permissions": ["trainings:get"]})

    Spaces(table).delete(space_of(client), client.get("/me").json()["id"], None)
    Spaces(InterruptedTable(table, 0, grant)).move_memberships(space_of(client))
    client.post(f"{space_path(client)}/restore")
    assert members[0].get("/me").json()["permissions"] == ["trainings:get"]
