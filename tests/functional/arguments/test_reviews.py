"""Tests of the review of arguments: status changes, queue, assignments, comments and history."""

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
from fastapi.testclient import TestClient

from functions.arguments.service import ArgumentService, QueueEmptyError
from functions.events.reconcile_jobs import clean_up
from shared.dynamodb.cleanup_list import GRACE
from shared.dynamodb.table import Table
from shared.errors import ConflictError
from shared.models.argument import ArgumentUpdate, ReviewStatus
from shared.resources import Resources
from shared.spaces.members import SpaceContext
from tests.faults.boundary import Boundary, Fault, KilledError
from tests.fixtures.arguments import add_argument
from tests.fixtures.clocks import Meanwhile, MovableClock
from tests.fixtures.evaluations import add_member
from tests.functional.conftest import ClientMaker

ALLOWED_CHANGES = {
    ("pending", "waiting_review"),
    ("waiting_review", "reviewing"),
    ("reviewing", "success"),
    ("reviewing", "failed"),
    ("success", "reviewing"),
    ("failed", "reviewing"),
}


def argument_service(resources: Resources) -> ArgumentService:
    return ArgumentService(resources.table, resources.lineages, resources.clock)


def create_argument(client: TestClient, table: Table, *, status: str = "waiting_review") -> str:
    """Stores an argument in Alice's space and returns its id."""
    return add_argument(table, client.headers["X-Space-Id"], status=status)


@pytest.fixture
def colleague(client: TestClient, sign_in: ClientMaker, table: Table) -> Callable[[str], TestClient]:
    """Returns a function that adds a member without permissions to Alice's space and returns the member's client."""

    def make(name: str) -> TestClient:
        member = sign_in(name)
        add_member(table, member, client.headers["X-Space-Id"], [])
        return member

    return make


def user_id(client: TestClient) -> str:
    me: str = client.get("/me", headers={"X-Space-Id": ""}).json()["id"]
    return me


def update_review(client: TestClient, argument_id: str, **fields: Any) -> Any:
    return client.put(f"/arguments/{argument_id}", json={"review": fields})


def status_of(client: TestClient, argument_id: str) -> str:
    status: str = client.get(f"/arguments/{argument_id}").json()["review"]["status"]
    return status


@pytest.mark.row("AR-4")
def test_a_review_changes_only_to_the_allowed_statuses(client: TestClient, table: Table) -> None:
    for before, after in product(ReviewStatus, repeat=2):
        argument_id = create_argument(client, table, status=before)
        response = update_review(client, argument_id, status=after)
        if (before, after) in ALLOWED_CHANGES:
            assert response.status_code == 200, response.text
            assert status_of(client, argument_id) == after
        else:
            assert response.status_code == 409
            assert f"'{before}'" in response.json()["error"]
            assert f"'{after}'" in response.json()["error"]
            assert status_of(client, argument_id) == before


@pytest.mark.row("AR-4")
def test_the_caller_becomes_the_reviewer_and_the_comment_is_kept(client: TestClient, table: Table) -> None:
    argument_id, me = create_argument(client, table), user_id(client)
    fields = {"status": "reviewing", "reviewer": "somebody else", "colour": "red"}
    taken = update_review(client, argument_id, **fields).json()["review"]
    assert taken == {
        "status": "reviewing", "comment": None, "reviewer": me, "reviewed_at": None, "assignee": None, "colour": "red",
    }  # fmt: skip
    decided = update_review(client, argument_id, status="failed", comment="Too long.").json()["review"]
    assert (decided["status"], decided["reviewer"], decided["comment"]) == ("failed", me, "Too long.")
    assert decided["reviewed_at"].endswith("Z")
    assert decided["colour"] == "red"
    again = update_review(client, argument_id, status="reviewing", comment=None).json()["review"]
    assert (again["reviewed_at"], again["comment"]) == (None, None)


@pytest.mark.row("AR-4", "C-11")
@pytest.mark.parametrize("verb", ["PUT", "PATCH"])
def test_an_update_of_one_field_keeps_the_other_fields(client: TestClient, table: Table, verb: str) -> None:
    path = f"/arguments/{create_argument(client, table)}"
    offer = {"name": "Card", "description": "", "priority": "high", "type": "offer"}
    expected = client.get(path).json()
    assert client.request(verb, path, json={}).json() == expected
    changes: list[dict[str, Any]] = [
        {"action_id": client.post("/actions", json=offer).json()["id"]},
        {"argument": "Anna earns well."},
        {"argument_thinking": "Say less."},
        {"client": {"name": "Ann"}},
        {"insight_spec": {"insight": "earns", "own": [1]}},
        {"product": {"name": "Loan"}},
        {"review": {"status": "reviewing"}},
    ]
    for change in changes:
        changed = client.request(verb, path, json=change).json()
        derived = {name: changed[name] for name in ("updated_at", "claims", "unsupported_claims", "edited_by")}
        if "review" in change:
            change = {"review": {**expected["review"], "status": "reviewing", "reviewer": user_id(client)}}
        assert changed == {**expected, **change, **derived}
        assert changed["updated_at"] > expected["updated_at"]
        expected = changed
    assert client.get(path).json() == expected
    for field in ("argument", "client", "insight_spec", "product", "review"):
        refused = client.request(verb, path, json={field: None})
        assert (refused.status_code, refused.json()["details"][0]["field"]) == (400, f"body.{field}")
    assert client.request(verb, path, json={"argument_thinking": None}).json()["argument_thinking"] is None


@pytest.mark.row("AR-4")
def test_an_update_with_the_unchanged_argument_changes_nothing(client: TestClient, table: Table) -> None:
    argument_id = create_argument(client, table)
    for status in ("reviewing", "success"):
        update_review(client, argument_id, status=status)
        argument = client.get(f"/arguments/{argument_id}").json()
        same = {name: argument[name] for name in ("argument", "client", "insight_spec", "product", "review")}
        assert client.put(f"/arguments/{argument_id}", json=same).json() == argument


@pytest.mark.row("AR-4")
def test_the_history_keeps_the_text_that_a_reviewer_replaced(client: TestClient, table: Table) -> None:
    argument_id = create_argument(client, table)
    path, me = f"/arguments/{argument_id}", user_id(client)
    update_review(client, argument_id, status="reviewing")
    client.put(path, json={"argument": "Anna earns well.", "review": {"status": "success", "comment": "Shorter."}})
    page = client.get(f"{path}/history").json()
    assert (page["count"], page["has_more"]) == (2, False)
    newest, oldest = page["data"]
    assert newest["changed_by"] == oldest["changed_by"] == me
    assert set(newest["changes"]) == {"argument", "review"}
    assert newest["changes"]["argument"] == {"before": "Anna earns 5,000 EUR.", "after": "Anna earns well."}
    assert newest["changes"]["review"]["before"]["status"] == "reviewing"
    assert newest["changes"]["review"]["after"]["comment"] == "Shorter."
    assert set(oldest["changes"]) == {"review"}
    rest = client.get(f"{path}/history", params={"limit": 1, "after": newest["id"]}).json()
    assert rest["data"] == [oldest]


@pytest.mark.row("AR-4")
def test_an_approved_argument_changes_only_when_its_review_restarts(client: TestClient, table: Table) -> None:
    argument_id = create_argument(client, table, status="success")
    path = f"/arguments/{argument_id}"
    changes: list[dict[str, Any]] = [{"argument": "x"}, {"client": {}}, {"review": {"comment": "x"}}]
    for change in changes:
        refused = client.put(path, json=change)
        assert refused.status_code == 409
        assert "'success'" in refused.json()["error"]
        assert "'reviewing'" in refused.json()["error"]
    changed = client.put(path, json={"argument": "Better.", "review": {"status": "reviewing"}})
    assert (changed.status_code, changed.json()["argument"]) == (200, "Better.")


@pytest.mark.row("AR-4")
def test_only_the_reviewer_and_the_owner_may_continue_a_review(
    client: TestClient, colleague: Callable[[str], TestClient], table: Table
) -> None:
    argument_id = create_argument(client, table)
    erin, frank = colleague("erin"), colleague("frank")
    assert update_review(erin, argument_id, status="reviewing").status_code == 200
    for change in ({"review": {"status": "success"}}, {"review": {"comment": "x"}}, {"argument": "x"}):
        refused = frank.put(f"/arguments/{argument_id}", json=change)
        assert refused.status_code == 403
        assert user_id(erin) in refused.json()["error"]
    assert frank.post(f"/arguments/{argument_id}/release").status_code == 403
    assert erin.put(f"/arguments/{argument_id}", json={"argument": "x"}).status_code == 200
    finished = update_review(client, argument_id, status="failed").json()["review"]
    assert finished["reviewer"] == user_id(client)
    assert erin.put(f"/arguments/{argument_id}", json={"argument": "y"}).status_code == 403
    assert update_review(erin, argument_id, status="reviewing").json()["review"]["reviewer"] == user_id(erin)


START_REVIEW = ArgumentUpdate.model_validate({"review": {"status": "reviewing"}})


@pytest.mark.row("AR-4", "X-9")
def test_only_one_of_two_concurrent_reviewers_gets_an_argument(
    client: TestClient, table: Table, resources: Resources
) -> None:
    argument_id, space_id = create_argument(client, table), client.headers["X-Space-Id"]
    winner, loser = SpaceContext(space_id, "winner"), SpaceContext(space_id, "loser")
    faster = argument_service(resources)
    slower = argument_service(
        Resources(resources.settings, Meanwhile(lambda: faster.update(winner, argument_id, START_REVIEW, None)))
    )
    with pytest.raises(ConflictError, match=r"'reviewing' by winner cannot become 'reviewing'"):
        slower.update(loser, argument_id, START_REVIEW, None)
    argument = client.get(f"/arguments/{argument_id}").json()
    assert (argument["review"]["reviewer"], argument["review"]["status"]) == ("winner", "reviewing")
    assert client.get(f"/arguments/{argument_id}/history").json()["count"] == 1


@pytest.mark.row("X-9")
def test_two_concurrent_requests_for_the_next_argument_get_different_arguments(
    client: TestClient, table: Table, resources: Resources
) -> None:
    oldest, next_one = (create_argument(client, table) for _ in range(2))
    space_id = client.headers["X-Space-Id"]
    winner, loser = SpaceContext(space_id, "winner"), SpaceContext(space_id, "loser")
    faster = argument_service(resources)
    slower = argument_service(Resources(resources.settings, Meanwhile(lambda: faster.take_next(winner))))
    assert slower.take_next(loser).id == next_one
    assert faster.get(winner, oldest).review.reviewer == "winner"
    with pytest.raises(QueueEmptyError):
        faster.take_next(winner)


@pytest.mark.row("X-9")
def test_the_queue_returns_the_oldest_argument_first_and_an_error_when_it_is_empty(
    client: TestClient, table: Table
) -> None:
    created = [create_argument(client, table) for _ in range(2)]
    create_argument(client, table, status="pending")
    assert client.post("/arguments/queue/next").json()["id"] == created[0]
    taken = client.post("/arguments/queue/next").json()
    assert taken["id"] == created[1]
    assert taken["review"]["status"] == "reviewing"
    empty = client.post("/arguments/queue/next")
    assert (empty.status_code, empty.json()["code"]) == (404, "queue_empty")


@pytest.mark.row("X-9")
def test_a_released_argument_joins_the_end_of_the_queue(client: TestClient, table: Table) -> None:
    created = [create_argument(client, table) for _ in range(2)]
    taken = client.post("/arguments/queue/next").json()
    released = client.post(f"/arguments/{taken['id']}/release").json()
    assert (released["review"]["status"], released["review"]["reviewer"]) == ("waiting_review", None)
    refused = client.post(f"/arguments/{taken['id']}/release")
    assert refused.status_code == 409
    assert "'waiting_review'" in refused.json()["error"]
    # The reviewer who gave it back does not get it again before the others.
    assert [client.post("/arguments/queue/next").json()["id"] for _ in range(2)] == created[::-1]


@pytest.mark.row("X-9", "EN-5")
@pytest.mark.parametrize("is_killed", [False, True])
def test_an_argument_that_was_kept_for_a_leaver_waits_for_anyone(
    client: TestClient,
    colleague: Callable[[str], TestClient],
    resources: Resources,
    boundary: Boundary,
    clock: MovableClock,
    is_killed: bool,
) -> None:
    erin, kept = colleague("erin"), create_argument(client, resources.table)
    client.post(f"/arguments/{kept}/assign", json={"user_id": user_id(erin)}).raise_for_status()
    path = f"/spaces/{client.headers['X-Space-Id']}/members/{user_id(erin)}"
    if is_killed:
        with boundary.failing(Fault.LATE_KILLED, at=1), pytest.raises(KilledError):
            client.delete(path)
        assert client.post("/arguments/queue/next").status_code == 404
        clock.now += GRACE
        clean_up(resources)
    else:
        assert client.delete(path).status_code == 200
    taken = client.post("/arguments/queue/next").json()
    assert (taken["id"], taken["review"]["assignee"]) == (kept, None)
    assert list(resources.table.query("member#purges")) == []


@pytest.mark.row("X-9")
def test_an_argument_cannot_be_assigned_to_a_member_who_leaves_at_the_same_time(
    client: TestClient, colleague: Callable[[str], TestClient], resources: Resources
) -> None:
    erin, argument_id = colleague("erin"), create_argument(client, resources.table)
    before = "before-call.dynamodb.TransactWriteItems"

    def leave(**_: Any) -> None:
        resources.dynamodb.meta.events.unregister(before, leave)
        client.delete(f"/spaces/{client.headers['X-Space-Id']}/members/{user_id(erin)}").raise_for_status()

    erin_id = user_id(erin)
    resources.dynamodb.meta.events.register(before, leave)
    refused = client.post(f"/arguments/{argument_id}/assign", json={"user_id": erin_id})
    assert (refused.status_code, refused.json()["details"][0]["field"]) == (400, "body.user_id")
    assert client.post("/arguments/queue/next").json()["id"] == argument_id


@pytest.mark.row("X-9")
def test_only_the_assignee_gets_an_assigned_argument(
    client: TestClient, colleague: Callable[[str], TestClient], table: Table
) -> None:
    first, second = (create_argument(client, table) for _ in range(2))
    erin, frank = colleague("erin"), colleague("frank")
    assigned = client.post(f"/arguments/{second}/assign", json={"user_id": user_id(erin)}).json()
    assert (assigned["review"]["status"], assigned["review"]["assignee"]) == ("waiting_review", user_id(erin))
    assert update_review(frank, second, status="reviewing").status_code == 403
    assert frank.post(f"/arguments/{second}/assign", json={"user_id": user_id(frank)}).status_code == 403

    # Assigned arguments come before older arguments without an assignee.
    assert erin.post("/arguments/queue/next").json()["id"] == second
    assert frank.post("/arguments/queue/next").json()["id"] == first
    assert frank.post("/arguments/queue/next").status_code == 404

    reassigned = erin.post(f"/arguments/{second}/assign", json={"user_id": user_id(frank)}).json()["review"]
    assert (reassigned["status"], reassigned["reviewer"]) == ("waiting_review", None)
    assert erin.post("/arguments/queue/next").status_code == 404
    assert client.post(f"/arguments/{second}/assign", json={"user_id": None}).json()["review"]["assignee"] is None
    assert erin.post("/arguments/queue/next").json()["id"] == second


@pytest.mark.row("X-9")
def test_only_open_reviews_can_be_assigned_and_only_to_members(
    client: TestClient, other_client: TestClient, table: Table
) -> None:
    argument_id = create_argument(client, table)
    for stranger in (user_id(other_client), "nobody", ""):
        refused = client.post(f"/arguments/{argument_id}/assign", json={"user_id": stranger})
        assert (refused.status_code, refused.json()["details"][0]["field"]) == (400, "body.user_id")
    assert client.post(f"/arguments/{argument_id}/assign", json={}).status_code == 400
    done = create_argument(client, table, status="success")
    assert client.post(f"/arguments/{done}/assign", json={"user_id": user_id(client)}).status_code == 409


@pytest.mark.row("X-9")
def test_an_argument_accepts_comments_after_its_review_has_ended(
    client: TestClient, other_client: TestClient, colleague: Callable[[str], TestClient], table: Table
) -> None:
    path = f"/arguments/{create_argument(client, table, status='success')}/comments"
    erin = colleague("erin")
    written = [member.post(path, json={"text": text}).json() for member, text in ((client, "Good."), (erin, "Yes."))]
    assert [each["created_by"] for each in written] == [user_id(client), user_id(erin)]
    assert client.get(path).json() == {"count": 2, "data": written[::-1], "has_more": False}
    page = client.get(path, params={"limit": 1, "after": written[1]["id"]}).json()
    assert page["data"] == [written[0]]
    assert client.post(path, json={"text": " "}).status_code == 400
    headers = {"Idempotency-Key": "k"}
    repeated = [client.post(path, json={"text": "Once."}, headers=headers).json() for _ in range(2)]
    assert repeated[0] == repeated[1]
    assert client.get(path).json()["count"] == 3
    assert other_client.post(path, json={"text": "x"}).status_code == 404


@pytest.mark.row("C-13")
def test_a_review_of_an_outdated_version_is_refused(client: TestClient, table: Table) -> None:
    path = f"/arguments/{create_argument(client, table)}"
    tag = {"If-Match": client.get(path).headers["ETag"]}
    assert client.put(path, json={"argument": "Better."}, headers=tag).status_code == 200
    for late in (
        client.put(path, json={"review": {"status": "reviewing"}}, headers=tag),
        client.put(path, json={}, headers=tag),
        client.post(f"{path}/assign", json={"user_id": None}, headers=tag),
        client.delete(path, headers=tag),
    ):
        assert late.status_code == 412
    assert client.get(path).json()["review"]["status"] == "waiting_review"


def test_the_deletion_of_an_argument_removes_its_history_and_comments(client: TestClient, table: Table) -> None:
    argument_id, space_id = create_argument(client, table), client.headers["X-Space-Id"]
    update_review(client, argument_id, status="reviewing")
    client.post(f"/arguments/{argument_id}/comments", json={"text": "Anna's."})
    assert client.delete(f"/arguments/{argument_id}").status_code == 200
    for kind in ("argument_change", "argument_comment"):
        assert list(table.query(f"{kind}#{space_id}#{argument_id}")) == []
        assert list(table.query(f"{kind}#{space_id}#{argument_id}#count")) == []
    assert client.get("/arguments", params={"status": "reviewing"}).headers["X-Total-Count"] == "0"
