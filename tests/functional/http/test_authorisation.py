"""Sends every operation of the API from every kind of caller, and compares the outcome with the table.

``tests/fixtures/access.py`` states independently what is expected.
"""

from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
import yaml
from fastapi.testclient import TestClient

from functions.authorisation import PAGE, page
from shared.http.authorisation import TABLE, AccessRule, AllowedCaller
from shared.http.routers import GroupRouter
from tests.fixtures.access import (
    ACCOUNT,
    ALL_SCOPES,
    CARRIES_OUT,
    CONTRACT,
    FIELDS,
    OWNER_ONLY,
    OWNER_OR_CREATOR,
    PERMISSIONS,
    PRIVILEGED,
    PRIVILEGES,
    PUBLIC,
    RIGHTS,
    SIGNED,
    permission_of,
    scopes_of,
)
from tests.fixtures.evaluations import add_member
from tests.fixtures.operations import UNKNOWN, Operation, all_operations
from tests.fixtures.tenants import World
from tests.fixtures.trainings import add_benchmark
from tests.fixtures.upstream import FakeUpstream

OPERATIONS = all_operations()
ALLOWED, NO_SPACE = "allowed", "404"
SPACE = "/spaces/{id}"
# No entity has this version, so that an allowed update or deletion changes nothing.
NEVER = {"If-Match": '"999999999"'}


def member(world: World, name: str, rights: list[str]) -> TestClient:
    """Returns a member of Alice's space."""
    client = world.sign_in(name)
    add_member(world.resources.table, client, world.alices[SPACE], [])
    user_id = client.get("/me").json()["id"]
    body = {
        "permissions": [each for each in rights if each in PERMISSIONS],
        "privileges": [each for each in rights if each in PRIVILEGES],
    }
    world.alice.put(f"/spaces/{world.alices[SPACE]}/members/{user_id}", json=body).raise_for_status()
    return client


def with_key(world: World, user: TestClient, *scopes: str) -> TestClient:
    """Returns a client with a new API key of the user."""
    key = user.post("/api-keys", json={"name": "Walk", "scopes": list(scopes)})
    headers = {"Authorization": f"Bearer {key.json()['key']}"}
    return TestClient(world.alice.app, headers=headers)


def ask(client: TestClient, operation: Operation, world: World) -> httpx2.Response:
    """Sends a request to Alice's space that is authorised before it fails: it names no entity, or its body is broken.

    The creator of an entity is only known when there is one.
    """
    if str(operation) in OWNER_OR_CREATOR:
        return operation.send(client, world.alices, headers=NEVER)
    ids = dict.fromkeys(operation.parameters, UNKNOWN) | {SPACE: world.alices[SPACE]}
    body = None if operation.method == "GET" else b"{broken"
    return client.request(operation.method, operation.address(ids), content=body, headers=NEVER)


def outcome(response: httpx2.Response) -> str:
    """Returns whether the request was authorised: another error than those of authorisation means that it was."""
    if response.status_code in (401, 403):
        return str(response.status_code)
    is_error = response.status_code in (400, 404) and "json" in response.headers["Content-Type"]
    no_space = ("There is no space with this id", "You belong to no space")
    return NO_SPACE if is_error and message_of(response).startswith(no_space) else ALLOWED


def compare(world: World, client: TestClient, expected: Callable[[str], str]) -> dict[str, httpx2.Response]:
    """Sends all operations, compares their outcomes, and returns the responses."""
    found = {str(each): ask(client, each, world) for each in OPERATIONS}
    outcomes = {name: outcome(response) for name, response in found.items()}
    assert outcomes == {name: "401" if name in SIGNED else expected(name) for name in found}
    return found


def message_of(response: httpx2.Response) -> str:
    """Returns the message of an error, also of OpenAI's shape."""
    error = response.json()["error"]
    return str(error if isinstance(error, str) else error["message"])


def as_member(name: str) -> str:
    return "403" if name in OWNER_ONLY | OWNER_OR_CREATOR else ALLOWED


@pytest.mark.row("SE-1", "C-4")
def test_the_owner_may_call_every_operation(world: World) -> None:
    compare(world, world.alice, lambda _: ALLOWED)


@pytest.mark.row("SE-1", "C-4")
def test_a_member_with_all_rights_may_call_all_but_the_operations_of_the_owner(world: World) -> None:
    compare(world, member(world, "with all", RIGHTS), as_member)


@pytest.mark.row("SE-1", "C-4")
def test_a_member_without_permissions_may_call_what_needs_a_membership_only(world: World) -> None:
    compare(world, member(world, "with none", []), lambda name: "403" if permission_of(name) else as_member(name))


@pytest.mark.row("SE-1", "GV-1")
def test_a_second_owner_may_call_every_operation_and_none_of_them_after_passing_it_on(world: World) -> None:
    second = member(world, "second", [])
    address = f"/spaces/{world.alices[SPACE]}/members/{second.get('/me').json()['id']}"
    world.alice.put(address, json={"is_owner": True}).raise_for_status()
    compare(world, second, lambda _: ALLOWED)
    second.put(address, json={"is_owner": False}).raise_for_status()
    compare(world, second, lambda name: "403" if permission_of(name) else as_member(name))


@pytest.mark.row("SE-1", "GV-1")
@pytest.mark.parametrize("privilege", PRIVILEGES)
def test_a_privilege_allows_its_operations_and_no_others(world: World, privilege: str) -> None:
    holder, others = (member(world, f"{kind} {privilege}", rights) for kind, rights in _with_and_without(privilege))

    def expected(name: str, *, holds: bool) -> str:
        needed = permission_of(name)
        has_it = holds if needed in (None, privilege) else not holds
        return as_member(name) if needed is None or has_it else "403"

    compare(world, holder, lambda name: expected(name, holds=True))
    compare(world, others, lambda name: expected(name, holds=False))


def _with_and_without(right: str) -> list[tuple[str, list[str]]]:
    return [("only", [right]), ("all but", [each for each in RIGHTS if each != right])]


@pytest.mark.row("SE-1", "C-4", "DM-1")
@pytest.mark.parametrize("permission", [*PERMISSIONS, *sorted(set(PRIVILEGED.values()))])
def test_a_permission_allows_its_operations_and_its_lack_forbids_only_them(world: World, permission: str) -> None:
    having = member(world, f"only {permission}", [permission])
    lacking = member(world, f"all but {permission}", [each for each in RIGHTS if each != permission])
    named = [each for each in OPERATIONS if permission_of(str(each))]
    assert {permission_of(str(each)) for each in named} == {*PERMISSIONS, *PRIVILEGED.values()}
    for operation in named:
        is_its_own = permission_of(str(operation)) == permission
        assert outcome(ask(having, operation, world)) == (ALLOWED if is_its_own else "403"), operation
        if not is_its_own:
            assert outcome(ask(lacking, operation, world)) == ALLOWED, operation
            continue
        world.note()
        refused = operation.send(lacking, world.alices)
        assert (refused.status_code, refused.json()["code"]) == (403, "permission_denied"), operation
        assert permission in refused.json()["error"]
        assert world.changes() == []


@pytest.mark.row("SE-1", "C-4")
@pytest.mark.parametrize("operation", [each for each in OPERATIONS if str(each) in OWNER_ONLY], ids=str)
def test_the_error_names_the_owner_and_nothing_changes(world: World, operation: Operation) -> None:
    dora = member(world, "dora", RIGHTS)
    world.note()
    refused = operation.send(dora, world.alices | {"/spaces/{id}/members/{user_id}": world.alices["/users/{id}"]})
    assert (refused.status_code, refused.json()["code"]) == (403, "permission_denied"), refused.text
    assert "Only the owner" in refused.json()["error"]
    reason = operation.route.rule.carries_out
    assert f"because it {reason}" in refused.json()["error"] if reason else "because" not in refused.json()["error"]
    assert world.changes() == []


@pytest.mark.row("SE-1", "X-5")
@pytest.mark.parametrize("scope", ALL_SCOPES)
def test_a_key_of_the_owner_may_call_what_its_scope_names(world: World, scope: str) -> None:
    holder = with_key(world, world.alice, scope)
    found = compare(world, holder, lambda name: ALLOWED if name in PUBLIC or scope in scopes_of(name) else "403")
    for name, refused in found.items():
        if refused.status_code == 403:
            assert all(each in message_of(refused) for each in scopes_of(name) or {"No API key"}), name


@pytest.mark.row("SE-1", "X-5", "C-4")
def test_a_key_with_all_scopes_may_not_do_more_than_its_user(world: World) -> None:
    user = member(world, "with a key", ["benchmarks:list"])

    def expected(name: str) -> str:
        lacks = permission_of(name) not in (None, "benchmarks:list")
        mine = scopes_of(name) and not lacks and name not in OWNER_OR_CREATOR
        return ALLOWED if name in PUBLIC or mine else "403"

    compare(world, with_key(world, user, *ALL_SCOPES), expected)


@pytest.mark.row("SE-1", "C-2")
def test_the_space_is_unknown_to_the_owner_of_another_one_and_to_users_without_one(world: World) -> None:
    bob, newcomer = world.sign_in("bob"), world.sign_in("newcomer")
    bob.headers["X-Space-Id"] = world.alices[SPACE]
    # It shows the rights in the selected space.
    compare(world, bob, lambda name: ALLOWED if name in ACCOUNT - {"GET /me"} | PUBLIC else NO_SPACE)
    compare(world, newcomer, lambda name: ALLOWED if name in ACCOUNT | PUBLIC else NO_SPACE)


@pytest.mark.row("SE-1", "C-1")
def test_nobody_may_call_an_operation_without_a_token_but_the_public_ones(world: World) -> None:
    compare(world, world.nobody, lambda name: ALLOWED if name in PUBLIC else "401")


@pytest.mark.row("SE-1", "C-4")
def test_a_creator_may_change_their_benchmark_and_the_guard_of_their_chat_but_nobody_elses(world: World) -> None:
    creator, other = member(world, "creator", PERMISSIONS), member(world, "other", PERMISSIONS)
    benchmark = add_benchmark(creator, world.alices["/connectors/{id}"])
    chat = {"messages": [{"role": "user", "content": "Hello"}], "model": world.alices["model"]}
    address = f"/chats/{creator.post('/chats', json=chat).json()['id']}"
    guarded_by = {name.split()[0] for name, field in FIELDS if field == "guard_enabled"}
    assert guarded_by == {"PUT", "PATCH"}
    for method in ("PUT", "PATCH"):
        for client, status in ((other, 403), (creator, 200), (world.alice, 200)):
            assert client.request(method, f"/benchmarks/{benchmark}", json={"name": "a"}).status_code == status
            guarded = client.request(method, address, json={"guard_enabled": True})
            assert guarded.status_code == status
            assert status == 200 or "guard_enabled" in guarded.json()["error"]
            assert client.request(method, address, json={"name": "For all"}).status_code == 200
    assert other.delete(f"/benchmarks/{benchmark}").status_code == 403
    assert creator.delete(f"/benchmarks/{benchmark}").status_code == 200


@pytest.mark.row("SE-1")
def test_a_member_can_not_send_the_prompts_of_the_space_to_a_server_of_their_own(
    world: World, upstreams: list[FakeUpstream]
) -> None:
    intruder, mine = member(world, "intruder", PERMISSIONS), upstreams[1]
    stolen = {"ingress_url": mine.url, "manager_url": mine.url, "token": "t", "store_content": True}
    for method in ("POST", "PUT", "PATCH"):
        assert intruder.request(method, "/clusters", json=stolen).status_code == 403
    assert intruder.delete("/clusters").status_code == 403
    earlier = len(mine.requests)
    chat = {"messages": [{"role": "user", "content": "Our margins are thin."}], "model": world.alices["model"]}
    assert world.alice.post("/chats", json=chat).status_code == 201
    assert len(mine.requests) == earlier


def test_the_table_marks_what_carries_data_out_and_gives_it_to_owners_without_keys() -> None:
    marked = {str(each) for each in OPERATIONS if each.route.rule.carries_out}
    assert marked == CARRIES_OUT
    assert {each.caller for each in TABLE.values() if each.carries_out} == {AllowedCaller.OWNER}
    assert not any(each.scopes for each in TABLE.values() if each.carries_out)
    fields = {(str(each), name) for each in OPERATIONS for name in each.route.rule.fields}
    assert fields == FIELDS


def test_every_row_has_a_route_and_every_operation_of_the_contract_a_row() -> None:
    served = {str(each) for each in OPERATIONS}
    assert served - {each for each in served if each.startswith("PATCH ")} == TABLE.keys()
    contract = yaml.safe_load(CONTRACT.read_text())["operations"]
    published = {entry["op"] for entries in contract.values() for entry in entries}
    assert len(published) == 78
    assert published <= TABLE.keys()


def test_a_route_without_a_row_can_not_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LookupError, match="GET /news has no row"):
        GroupRouter("news").get("")(lambda: "news")
    monkeypatch.setitem(TABLE, "GET /news", AccessRule(AllowedCaller.SERVICE))
    with pytest.raises(TypeError, match="CheckedRoute can't check that"):
        GroupRouter("news").get("")(lambda: "news")


def test_the_page_shows_the_table() -> None:
    assert Path(PAGE).read_text() == page(), "run `make authorisation`"
