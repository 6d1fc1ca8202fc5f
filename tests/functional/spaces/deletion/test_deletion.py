"""Deleted and restored spaces."""

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
from tests.functional.spaces.deletion.helpers import InterruptedTable, contents, place, spaces_of


@pytest.mark.row("SP-2", "C-14")
def test_a_deleted_space_is_unknown_to_its_members_with_all_that_belongs_to_it(
    client: TestClient, members: list[TestClient]
) -> None:
    persona = client.post("/personas", json={"name": "Ada", "birthdate": "1815-12-10", "notes": ""}).json()
    assert len(spaces_of(members[0])) == 2
    assert client.delete(place(client)).json() == {"id": space_of(client)}

    for answer in (
        client.delete(place(client)),
        client.get(place(client)),
        client.put(place(client), json={"name": "Late"}),
        client.get(f"{place(client)}/members"),
        client.get(f"/personas/{persona['id']}"),
        client.post("/data-models", json={"name": "Late"}),
        members[0].get("/personas"),
        members[0].get(place(client)),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), answer.text
    assert spaces_of(client) == []
    for member in members:
        assert len(spaces_of(member)) == 1
        # The one that is left is implied again.
        assert member.get("/personas", headers={"X-Space-Id": ""}).status_code == 200


@pytest.mark.row("SP-2")
def test_a_restored_space_brings_every_child_back_unchanged(
    client: TestClient, members: list[TestClient], resources: Resources, upstream: FakeUpstream
) -> None:
    fill(client, resources, upstream.url)
    before, space = contents(client), client.get(place(client)).json()
    listed = [spaces_of(each) for each in (client, *members)]
    client.delete(place(client))
    assert client.post(f"{place(client)}/restore").json() == {"id": space_of(client)}

    assert contents(client) == before
    assert [spaces_of(each) for each in (client, *members)] == listed
    restored = client.get(place(client)).json()
    assert restored == space | {"updated_at": restored["updated_at"]}
    assert client.post("/data-models", json={"name": "Again"}).status_code == 201
    assert members[0].get("/trainings").json()["count"] == 2
    assert members[0].get("/data-models").status_code == 403, "rights are those from before"


@pytest.mark.row("SP-2")
def test_only_the_owner_deletes_and_restores_and_strangers_see_nothing(
    client: TestClient, members: list[TestClient], other_client: TestClient
) -> None:
    member = members[0]
    assert member.delete(place(client)).status_code == 403
    assert member.post(f"{place(client)}/restore").status_code == 403
    unknown = other_client.post("/spaces/01a2081a-1610-752b-8cc0-d52dcf52e48d/restore")
    for _ in range(2):
        for stranger in (other_client.delete, lambda place: other_client.post(f"{place}/restore")):
            answer = stranger(place(client))
            assert answer.status_code == 404
            assert answer.json() | {"request_id": ""} == unknown.json() | {"request_id": ""}
        assert client.delete(place(client)).status_code in (200, 404)
    assert member.post(f"{place(client)}/restore").status_code == 403
    assert client.post(f"{place(client)}/restore").status_code == 200


@pytest.mark.row("SP-2")
def test_restoring_a_space_in_use_changes_nothing_and_one_deleted_too_long_ago_is_unknown(
    client: TestClient, clock: MovableClock
) -> None:
    space = client.get(place(client))
    assert client.post(f"{place(client)}/restore").json() == {"id": space_of(client)}
    assert client.get(place(client)).json() == space.json()

    client.delete(place(client))
    clock.now += RESTORABLE - timedelta(seconds=1)
    assert client.post(f"{place(client)}/restore").status_code == 200
    client.delete(place(client))
    clock.now += RESTORABLE
    assert client.post(f"{place(client)}/restore").status_code == 404


@pytest.mark.row("SP-2")
def test_the_name_is_free_at_once(client: TestClient) -> None:
    name = client.get(place(client)).json()["name"]
    client.delete(place(client))
    again = client.post("/spaces", json={"name": name, "description": ""})
    assert again.status_code == 201
    client.post(f"{place(client)}/restore")
    assert sorted(spaces_of(client)) == sorted([space_of(client), again.json()["id"]])


@pytest.mark.row("C-13")
def test_a_space_that_has_changed_is_not_deleted(client: TestClient) -> None:
    tag = client.get(place(client)).headers["ETag"]
    client.put(place(client), json={"name": "Changed"})
    assert client.delete(place(client), headers={"If-Match": tag}).status_code == 412
    assert client.get(place(client)).status_code == 200


@pytest.mark.row("SP-2")
@pytest.mark.parametrize("moved", range(5))
def test_a_restore_in_the_middle_of_a_delete_leaves_no_half_state(
    client: TestClient, members: list[TestClient], table: Table, moved: int
) -> None:
    before = contents(client)
    owner_id = client.get("/me").json()["id"]
    Spaces(table).delete(space_of(client), owner_id, None)
    late = InterruptedTable(table, moved, lambda: client.post(f"{place(client)}/restore"))
    Spaces(late).move_memberships(space_of(client))
    client.post(f"{place(client)}/restore")  # of four memberships, the fifth interruption never comes

    assert contents(client) == before
    assert all(space_of(client) in spaces_of(each) for each in (client, *members))
    assert list(Spaces(table).with_pending_moves()) == []


@pytest.mark.row("SP-2")
@pytest.mark.parametrize("moved", range(4))
def test_a_delete_in_the_middle_of_a_restore_leaves_no_half_state(
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
    assert client.get(place(client)).status_code == 404
    assert list(Spaces(table).with_pending_moves()) == []


@pytest.mark.row("SP-2")
def test_what_a_request_left_undone_the_reconciler_does(
    client: TestClient, members: list[TestClient], resources: Resources, table: Table
) -> None:
    owner_id = client.get("/me").json()["id"]
    spaces = Spaces(table)
    spaces.delete(space_of(client), owner_id, None)
    spaces.move_memberships(space_of(client), at_most=2)
    # Cut off: the space is gone all the same, if still counted for some.
    assert all(each.get("/personas").status_code == 404 for each in (client, *members))
    move_memberships(resources)
    assert not any(space_of(client) in spaces_of(each) for each in (client, *members))

    spaces.restore(space_of(client), owner_id)
    spaces.move_memberships(space_of(client), at_most=1)
    move_memberships(resources)
    assert all(space_of(client) in spaces_of(each) for each in (client, *members))
    assert list(spaces.with_pending_moves()) == []


def test_a_member_whose_rights_change_while_the_space_is_deleted_is_moved_as_changed(
    client: TestClient, members: list[TestClient], table: Table
) -> None:
    member_id = members[0].get("/me").json()["id"]

    def grant() -> None:
        Spaces(table).members.add_permissions(space_of(client), member_id, [])
        Spaces(table).members.memberships.update(member_id, space_of(client), {"permissions": ["trainings:get"]})

    Spaces(table).delete(space_of(client), client.get("/me").json()["id"], None)
    Spaces(InterruptedTable(table, 0, grant)).move_memberships(space_of(client))
    client.post(f"{place(client)}/restore")
    assert members[0].get("/me").json()["permissions"] == ["trainings:get"]
