"""Tests of approvals: who may approve an argument, and with how many unsupported claims."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from shared.dynamodb.table import Key, Table, update
from tests.fixtures.arguments import add_argument
from tests.fixtures.evaluations import add_member
from tests.fixtures.trainings import space_of
from tests.functional.conftest import ClientMaker

Colleague = Callable[..., TestClient]


@pytest.fixture
def colleague(client: TestClient, sign_in: ClientMaker, table: Table) -> Colleague:
    def make(name: str, *privileges: str) -> TestClient:
        member = sign_in(name)
        add_member(table, member, space_of(client), [])
        rights = {"privileges": list(privileges)}
        client.put(f"/spaces/{space_of(client)}/members/{user_id(member)}", json=rights).raise_for_status()
        return member

    return make


def user_id(client: TestClient) -> str:
    me: str = client.get("/me", headers={"X-Space-Id": ""}).json()["id"]
    return me


def argument_of(table: Table, author: TestClient, claims: int = 0) -> str:
    """Stores an argument of the author that is under review, and returns its address."""
    space_id = space_of(author)
    argument = add_argument(table, space_id, status="reviewing")
    values = {"created_by": user_id(author), "unsupported_claims": claims}
    table.write(update(Key(f"argument#{space_id}", argument), values))
    return f"/arguments/{argument}"


def approve(client: TestClient, address: str, **more: Any) -> Any:
    return client.put(address, json={"review": {"status": "success"}, **more})


def rule(client: TestClient, **rules: Any) -> None:
    client.put(f"/spaces/{space_of(client)}/review-rules", json=rules).raise_for_status()


@pytest.mark.row("GV-3")
def test_an_author_does_not_approve_their_argument_but_another_member_with_the_right_does(
    client: TestClient, table: Table, colleague: Colleague
) -> None:
    reviewer, member = colleague("reviewer", "arguments:approve"), colleague("member")
    address = argument_of(table, client)
    refused = approve(client, address)
    assert (refused.status_code, refused.json()["code"]) == (403, "permission_denied")
    assert "another member" in refused.json()["error"]
    refused = approve(member, address)
    assert (refused.status_code, "arguments:approve" in refused.json()["error"]) == (403, True)
    assert client.get(address).json()["review"]["status"] == "reviewing"
    assert approve(reviewer, address).status_code == 200


@pytest.mark.row("GV-3")
def test_who_changes_the_text_or_a_fact_is_an_author_too(
    client: TestClient, table: Table, colleague: Colleague
) -> None:
    author, reviewer = colleague("author"), colleague("reviewer", "arguments:approve")
    for change in ({"argument": "Anna earns well."}, {"product": {"name": "Loan"}}):
        address = argument_of(table, author)
        assert approve(reviewer, address, **change).status_code == 403
        assert reviewer.put(address, json=change).json()["edited_by"] == user_id(reviewer)
        assert approve(reviewer, address).status_code == 403
        assert approve(client, address).status_code == 200


@pytest.mark.row("GV-3")
def test_without_another_approver_the_author_may_approve_unless_the_space_says_always(
    client: TestClient, table: Table, colleague: Colleague
) -> None:
    colleague("member")
    rules = f"/spaces/{space_of(client)}/review-rules"
    assert client.get(rules).json() == {"other_eyes": "when_possible", "max_unsupported_claims": 0}
    assert approve(client, argument_of(table, client)).status_code == 200
    rule(client, other_eyes="always")
    assert approve(client, argument_of(table, client)).status_code == 403
    colleague("reviewer", "arguments:approve")
    rule(client, other_eyes="when_possible")
    assert approve(client, argument_of(table, client)).status_code == 403
    rule(client, other_eyes="never")
    assert approve(client, argument_of(table, client)).status_code == 200


@pytest.mark.row("GV-3")
def test_more_unsupported_claims_than_the_space_allows_prevent_an_approval(
    client: TestClient, table: Table, colleague: Colleague
) -> None:
    author = colleague("author")
    address = argument_of(table, author, claims=2)
    for limit in (0, 1):
        rule(client, max_unsupported_claims=limit)
        refused = approve(client, address)
        assert (refused.status_code, refused.json()["code"]) == (409, "unsupported_claims")
    rule(client, max_unsupported_claims=2)
    assert approve(client, address).status_code == 200
    rule(client, max_unsupported_claims=None)
    assert approve(client, argument_of(table, author, claims=9)).status_code == 200


@pytest.mark.row("GV-3")
def test_the_claims_of_the_approved_text_count_and_not_those_of_an_earlier_one(
    client: TestClient, table: Table
) -> None:
    address = argument_of(table, client)
    refused = approve(client, address, argument="Anna earns 99,999 EUR.")
    assert (refused.status_code, refused.json()["code"]) == (409, "unsupported_claims")
    assert approve(client, address, argument="Anna earns 5,000 EUR.").status_code == 200


@pytest.mark.row("GV-3")
def test_a_decline_needs_no_right_to_approve(table: Table, colleague: Colleague) -> None:
    member = colleague("member")
    address = argument_of(table, member)
    table.write(update(Key(f"argument#{space_of(member)}", address.rpartition("/")[2]), {"created_by": "somebody"}))
    declined = member.put(address, json={"review": {"status": "failed"}})
    assert declined.status_code == 200, declined.text
